import doctest
import importlib
import math
import pickle

import pytest
import torch
from counted_by_hand import accuracy_by_hand, dice_by_hand, iou_by_hand, mean_by_hand, pixel_sets
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import classification

from lightning_seg.metrics import DiceScore, MeanIoU, PixelAccuracy
from lightning_seg.metrics.confusion import count_confusion

SCORES = [MeanIoU, DiceScore, PixelAccuracy]
TASKS = [("multiclass", 4), ("binary", 1), ("multilabel", 3)]
NAN = math.nan


def draw(task, num_classes, ignore_index=None, seed=0, images=3, spatial=(5, 6), void=0.2):
    """Logits and a target with void pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, num_classes, *spatial, generator=generator)
    shape = (images, num_classes, *spatial) if task == "multilabel" else (images, *spatial)
    target = torch.randint(num_classes if task == "multiclass" else 2, shape, generator=generator)
    if ignore_index is not None:
        target[torch.rand(shape, generator=generator) < void] = ignore_index
    return logits, target


def to_labels(task, logits):
    if task == "multiclass":
        return logits.argmax(1)
    return (logits > 0).long() if task == "multilabel" else (logits > 0).long()[:, 0]


def close(actual, expected):
    expected = torch.as_tensor(expected, dtype=torch.float32).reshape(actual.shape)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    task=st.sampled_from(TASKS),
    ignore_index=st.sampled_from([None, 255, -1, 0, 1]),
    spatial=st.sampled_from([(1,), (7,), (3, 2), (2, 2, 3)]),
    void=st.sampled_from([0.2, 0.8, 1.1]),
    seed=st.integers(0, 10_000),
)
def test_every_score_is_what_counting_by_hand_gives(task, ignore_index, spatial, void, seed):
    name, num_classes = task
    logits, target = draw(name, num_classes, ignore_index, seed, images=2, spatial=spatial, void=void)
    labels = to_labels(name, logits)
    pairs = pixel_sets(labels, target, name, num_classes, ignore_index)
    for metric, by_hand in ((MeanIoU, iou_by_hand), (DiceScore, dice_by_hand)):
        expected = [by_hand(*pair) for pair in pairs]
        spec = {"task": name, "num_classes": num_classes, "ignore_index": ignore_index}
        close(metric(**spec, average="none")(logits, target), expected)
        close(metric(**spec)(logits, target), mean_by_hand(expected))
        both = [{(c, i) for c, pair in enumerate(pairs) for i in pair[side]} for side in (0, 1)]
        close(metric(**spec, average="micro")(logits, target), by_hand(*both))
    accuracy = PixelAccuracy(task=name, num_classes=num_classes, ignore_index=ignore_index)
    close(accuracy(logits, target), accuracy_by_hand(labels, target, ignore_index))


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("ignore_index", [None, 255, -1])
def test_scores_of_present_classes_are_those_of_torchmetrics(average, ignore_index):
    logits, target = draw("multiclass", 4, ignore_index)
    spec = {"num_classes": 4, "ignore_index": ignore_index, "average": average}
    close(MeanIoU(**spec)(logits, target), classification.MulticlassJaccardIndex(**spec)(logits, target))
    close(DiceScore(**spec)(logits, target), classification.MulticlassF1Score(**spec)(logits, target))
    close(PixelAccuracy(**spec)(logits, target), classification.MulticlassAccuracy(**spec)(logits, target))

    logits, target = draw("multilabel", 3, ignore_index)
    ours = {"task": "multilabel", "num_classes": 3, "ignore_index": ignore_index, "average": average}
    theirs = {"num_labels": 3, "ignore_index": ignore_index, "average": average}
    close(MeanIoU(**ours)(logits, target), classification.MultilabelJaccardIndex(**theirs)(logits, target))
    close(DiceScore(**ours)(logits, target), classification.MultilabelF1Score(**theirs)(logits, target))
    close(PixelAccuracy(**ours)(logits, target), classification.MultilabelAccuracy(**theirs)(logits, target))

    logits, target = draw("binary", 1, ignore_index)
    ours = {"task": "binary", "num_classes": 1, "ignore_index": ignore_index, "average": average}
    theirs = {"ignore_index": ignore_index}
    close(MeanIoU(**ours)(logits, target), classification.BinaryJaccardIndex(**theirs)(logits[:, 0], target))
    close(DiceScore(**ours)(logits, target), classification.BinaryF1Score(**theirs)(logits[:, 0], target))
    close(PixelAccuracy(**ours)(logits, target), classification.BinaryAccuracy(**theirs)(logits[:, 0], target))


def test_an_absent_class_neither_lowers_nor_raises_the_mean():
    # torchmetrics issues 2866 (counted as -1 or 0) and 2850 (counted as 1).
    labels, target = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])
    close(MeanIoU(num_classes=5, average="none")(labels, target), [1 / 2, 2 / 3, NAN, NAN, NAN])
    close(MeanIoU(num_classes=5)(labels, target), (1 / 2 + 2 / 3) / 2)
    close(MeanIoU(num_classes=2)(labels, target), (1 / 2 + 2 / 3) / 2)
    close(DiceScore(num_classes=5, average="none")(labels, target), [2 / 3, 4 / 5, NAN, NAN, NAN])
    close(DiceScore(num_classes=5)(labels, target), (2 / 3 + 4 / 5) / 2)
    close(PixelAccuracy(num_classes=5, average="macro")(labels, target), (1 + 2 / 3) / 2)


def test_a_class_predicted_but_never_true_scores_zero():
    labels, target = torch.tensor([[0, 2]]), torch.tensor([[0, 0]])
    close(MeanIoU(num_classes=3, average="none")(labels, target), [0.5, NAN, 0.0])
    close(PixelAccuracy(num_classes=3, average="none")(labels, target), [0.5, NAN, NAN])


def test_an_ignored_class_inside_the_range_has_no_score_although_it_is_predicted():
    labels, target = torch.tensor([[0, 2, 2, 1]]), torch.tensor([[0, 0, 2, 1]])
    close(MeanIoU(num_classes=3, ignore_index=2, average="none")(labels, target), [0.5, 1.0, NAN])
    close(MeanIoU(num_classes=3, ignore_index=2)(labels, target), 0.75)
    close(MeanIoU(num_classes=3, ignore_index=2, average="micro")(labels, target), 2 / 3)
    close(PixelAccuracy(num_classes=3, ignore_index=2)(labels, target), 2 / 3)


def test_pixels_are_pooled_over_the_data_set_not_averaged_over_images():
    # torchmetrics' segmentation.MeanIoU gives 0.75: a class of 10 pixels, missed in one of two images.
    target = torch.zeros(2, 100, 100, dtype=torch.long)
    target[0, 0, :10] = 1
    target[1, :, :50] = 1
    labels = target.clone()
    labels[0] = 0
    close(MeanIoU(num_classes=2)(labels, target), (14_990 / 15_000 * 0 + 14_990 / 15_000 + 5_000 / 5_010) / 2)


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_label_255_marks_void_in_every_task_and_integer_type(task, num_classes, dtype):
    logits, target = draw(task, num_classes, ignore_index=255)
    kept = target.to(dtype)
    for metric in SCORES:
        spec = {"task": task, "num_classes": num_classes, "ignore_index": 255}
        torch.testing.assert_close(metric(**spec)(logits, kept), metric(**spec)(logits, target))
        other = torch.where((target == 255).reshape(kept.shape), -1, target)
        torch.testing.assert_close(
            metric(task=task, num_classes=num_classes, ignore_index=-1)(logits, other), metric(**spec)(logits, kept)
        )


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_boolean_targets_are_labels_zero_and_one(task):
    logits, target = draw(task, 1)
    for metric in SCORES:
        spec = {"task": task, "num_classes": 1}
        torch.testing.assert_close(metric(**spec)(logits, target.bool()), metric(**spec)(logits, target))


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_logits_between_zero_and_one_are_not_taken_for_probabilities(task):
    logits = torch.full((1, 1, 4), 0.2)
    target = torch.ones(1, 1, 4, dtype=torch.long)
    close(MeanIoU(task=task, num_classes=1)(logits, target), 1.0)
    close(MeanIoU(task=task, num_classes=1)(-logits, target), 0.0)


def test_binary_logits_and_targets_may_have_a_channel_or_not():
    logits, target = draw("binary", 1, ignore_index=255)
    expected = MeanIoU(task="binary", num_classes=1, ignore_index=255)(logits, target)
    for some_logits, some_target in ((logits, target[:, None]), (logits[:, 0], target), (logits > 0, target[:, None])):
        metric = MeanIoU(task="binary", num_classes=1, ignore_index=255)
        torch.testing.assert_close(metric(some_logits, some_target), expected)


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
@pytest.mark.parametrize("metric", SCORES)
def test_label_predictions_score_as_their_logits_do(metric, task, num_classes):
    logits, target = draw(task, num_classes, ignore_index=255)
    spec = {"task": task, "num_classes": num_classes, "ignore_index": 255}
    torch.testing.assert_close(metric(**spec)(to_labels(task, logits), target), metric(**spec)(logits, target))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("task", "num_classes"), TASKS)
def test_logits_of_any_precision_give_float32_scores(task, num_classes, dtype):
    logits, target = draw(task, num_classes)
    score = MeanIoU(task=task, num_classes=num_classes)((50 * logits).to(dtype), target)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, MeanIoU(task=task, num_classes=num_classes)(logits, target))


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
@pytest.mark.parametrize("metric", SCORES)
def test_the_inputs_are_left_as_they_were(metric, task, num_classes):
    logits, target = draw(task, num_classes, ignore_index=255)
    copies = logits.clone(), target.clone()
    metric(task=task, num_classes=num_classes, ignore_index=255).update(logits, target)
    assert torch.equal(logits, copies[0])
    assert torch.equal(target, copies[1])


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
@pytest.mark.parametrize("metric", SCORES)
def test_a_batch_of_nothing_but_void_changes_no_score(metric, task, num_classes):
    logits, target = draw(task, num_classes, ignore_index=255)
    spec = {"task": task, "num_classes": num_classes, "ignore_index": 255}
    expected = metric(**spec)(logits, target)
    with_void = metric(**spec)
    assert with_void(logits, torch.full_like(target, 255)).isnan()
    with_void.update(logits, target)
    with_void.update(logits[:0], target[:0])
    assert torch.equal(with_void.compute(), expected)


@pytest.mark.parametrize("metric", SCORES)
def test_nothing_counted_gives_nan_and_a_warning(metric):
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metric(num_classes=3).compute().isnan()


@pytest.mark.parametrize(("task", "num_classes"), TASKS)
@pytest.mark.parametrize("metric", SCORES)
def test_calling_and_updating_accumulate_the_same(metric, task, num_classes):
    called, updated = (metric(task=task, num_classes=num_classes) for _ in range(2))
    for seed in range(3):
        logits, target = draw(task, num_classes, seed=seed)
        alone = metric(task=task, num_classes=num_classes)
        alone.update(logits, target)
        assert torch.equal(called(logits, target), alone.compute())
        updated.update(logits, target)
    assert torch.equal(called.compute(), updated.compute())
    everything = [
        torch.cat(tensors) for tensors in zip(*(draw(task, num_classes, seed=s) for s in range(3)), strict=True)
    ]
    assert torch.equal(metric(task=task, num_classes=num_classes)(*everything), called.compute())


def test_counts_beyond_two_to_the_24_stay_exact():
    metric = MeanIoU(num_classes=2, average="none")
    metric.confusion_matrix = torch.tensor([[2**40 + 1, 0], [0, 2**24]])
    for _ in range(3):
        metric.update(torch.tensor([[1]]), torch.tensor([[1]]))
    assert metric.confusion_matrix.tolist() == [[2**40 + 1, 0], [0, 2**24 + 3]]
    metric.confusion_matrix = torch.tensor([[3 * 2**40, 2**40], [0, 5 * 2**30]])
    metric.update(torch.tensor([[1]]), torch.tensor([[1]]))
    close(metric.compute(), [0.75, (5 * 2**30 + 1) / (2**40 + 5 * 2**30 + 1)])


@pytest.mark.parametrize("warn_only", [False, True])
def test_deterministic_mode_counts_without_a_pixels_by_cells_table(warn_only):
    # In that mode torchmetrics' own bincount would take 2**22 pixels x 150**2 cells x 8 bytes: 755 GB.
    labels = torch.arange(2**22).reshape(1, 2048, 2048) % 150
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        score = MeanIoU(num_classes=150)(labels, labels)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)
    close(score, 1.0)


@pytest.mark.parametrize("ignore_index", [None, 255, 0])
@pytest.mark.parametrize(("task", "num_classes"), TASKS)
def test_a_device_that_must_not_wait_counts_the_same(task, num_classes, ignore_index, monkeypatch):
    logits, target = draw(task, num_classes, ignore_index)
    spec = {"task": task, "num_classes": num_classes, "ignore_index": ignore_index}
    expected = count_confusion(to_labels(task, logits), target, **spec)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # takes the way of a GPU on the CPU
    for warn_only in (True, False):
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        try:
            assert torch.equal(count_confusion(to_labels(task, logits), target, **spec), expected)
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
        finally:
            torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("metric", SCORES)
def test_a_metric_survives_pickling_and_keeps_its_counts(metric):
    original = metric(num_classes=4, ignore_index=255)
    original.update(*draw("multiclass", 4, 255))
    restored = pickle.loads(pickle.dumps(original))
    for each in (original, restored):
        each.update(*draw("multiclass", 4, 255, seed=1))
    assert torch.equal(restored.compute(), original.compute())


@pytest.mark.parametrize("metric", SCORES)
def test_checkpoints_do_not_hold_the_counts(metric):
    assert not metric(num_classes=4).state_dict()


def test_casting_a_model_to_half_precision_leaves_the_counts_whole():
    metric = torch.nn.ModuleDict({"score": MeanIoU(num_classes=4)}).half()["score"]
    metric.update(*draw("multiclass", 4))
    assert metric.confusion_matrix.dtype == torch.int64


@pytest.mark.parametrize("module", ["mean_iou", "dice_score", "pixel_accuracy"])
def test_the_examples_in_the_docstrings_give_what_they_say(module):
    results = doctest.testmod(importlib.import_module(f"lightning_seg.metrics.{module}"))
    assert results.attempted
    assert not results.failed


def test_a_metric_used_in_inference_mode_works_outside_it():
    metric = MeanIoU(num_classes=4)
    with torch.inference_mode():
        metric.update(*draw("multiclass", 4))
        metric.reset()
        metric.update(*draw("multiclass", 4))
    metric.update(*draw("multiclass", 4))
    torch.testing.assert_close(metric.compute(), MeanIoU(num_classes=4)(*draw("multiclass", 4)))
