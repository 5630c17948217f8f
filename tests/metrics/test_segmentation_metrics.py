import math
import pickle

import pytest
import torch

from lightning_seg.metrics import MeanIoU, ScorePerClass, confusion, iou_ratio, segmentation_metrics

NAMES = ["road", "sky", "bicyclist"]


def draw_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(3, (2, 6, 7), generator=generator)
    target[:, 0] = 255
    return torch.randn(2, 3, 6, 7, generator=generator), target


@pytest.fixture
def counted(monkeypatch):
    """The number of confusion matrices counted so far, in a list of one."""
    calls, batch_confusion = [0], confusion.batch_confusion

    def counting(*args, **kwargs):
        calls[0] += 1
        return batch_confusion(*args, **kwargs)

    monkeypatch.setattr(confusion, "batch_confusion", counting)
    return calls


def test_a_run_reports_means_accuracy_and_each_class_by_name():
    metrics = segmentation_metrics("multiclass", 3, 255, NAMES).clone(prefix="val/")
    metrics.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 255]]))
    scores = {name: round(float(score), 6) for name, score in metrics.compute().items()}
    assert math.isnan(scores.pop("val/iou/bicyclist"))
    assert math.isnan(scores.pop("val/dice/bicyclist"))
    assert scores == {
        "val/iou": 0.5,
        "val/dice": 0.666667,
        "val/accuracy": 0.666667,
        "val/iou/road": 0.5,
        "val/iou/sky": 0.5,
        "val/dice/road": 0.666667,
        "val/dice/sky": 0.666667,
    }


@pytest.mark.parametrize(("task", "num_classes"), [("multiclass", 2), ("multilabel", 2), ("binary", 1)])
def test_unnamed_classes_are_called_by_their_number_and_every_score_is_a_scalar(task, num_classes):
    metrics = segmentation_metrics(task, num_classes, None, None)
    labels = torch.zeros(1, num_classes, 4, dtype=torch.long)
    metrics.update(labels, labels)
    scores = metrics.compute()
    per_class = {f"{score}/{index}" for score in ("iou", "dice") for index in range(num_classes)}
    assert set(scores) == {"iou", "dice", "accuracy"} | per_class
    assert all(score.shape == () and score.dtype == torch.float32 for score in scores.values())


def test_the_mean_is_the_mean_of_the_named_classes():
    metrics = segmentation_metrics("multiclass", 3, 255, NAMES)
    metrics.update(*draw_batch())
    scores = metrics.compute()
    for name in ("iou", "dice"):
        torch.testing.assert_close(scores[name], torch.stack([scores[f"{name}/{each}"] for each in NAMES]).mean())


def test_one_confusion_matrix_a_step_from_the_first_step_on(counted):
    template = segmentation_metrics("multiclass", 3, 255, NAMES)
    for metrics in (template.clone(prefix="train/"), template.clone(prefix="val/"), template):
        for _epoch in range(2):
            for seed in range(3):
                before = counted[0]
                metrics.update(*draw_batch(seed))
                assert counted[0] == before + 1
            metrics.compute()
            dict(metrics.items())
            metrics.reset()


def test_all_scores_see_the_same_counts_in_every_epoch():
    metrics = segmentation_metrics("multiclass", 3, 255, NAMES).clone(prefix="val/")
    for epoch in range(3):
        expected = segmentation_metrics("multiclass", 3, 255, NAMES).clone(prefix="val/")
        for seed in range(epoch, epoch + 3):
            metrics.update(*draw_batch(seed))
            # What loggers and progress bars may do in mid-epoch: looking copies the states of the group.
            metrics.compute()
            list(metrics.items())
            assert metrics["val/dice"].confusion_matrix.sum() > 0
        total = sum_of_matrices(range(epoch, epoch + 3))
        for metric in metrics.values():
            assert torch.equal(metric.confusion_matrix, total)
        for seed in range(epoch, epoch + 3):
            expected.update(*draw_batch(seed))
        assert metrics.compute() == expected.compute()
        metrics.reset()
        assert all(metric.confusion_matrix.sum() == 0 for metric in metrics.values())


def sum_of_matrices(seeds):
    metric = MeanIoU(num_classes=3, ignore_index=255)
    for seed in seeds:
        metric.update(*draw_batch(seed))
    return metric.confusion_matrix


def test_clones_count_apart():
    template = segmentation_metrics("multiclass", 3, 255, NAMES)
    train, val = template.clone(prefix="train/"), template.clone(prefix="val/")
    train.update(*draw_batch())
    for untouched in (val, template):
        assert all(metric.confusion_matrix.sum() == 0 for metric in untouched.values())


def test_calling_the_collection_gives_the_batch_and_accumulates_as_updating_does():
    called, updated = (segmentation_metrics("multiclass", 3, 255, NAMES) for _ in range(2))
    for seed in range(3):
        alone = segmentation_metrics("multiclass", 3, 255, NAMES)
        alone.update(*draw_batch(seed))
        assert called(*draw_batch(seed)) == alone.compute()
        updated.update(*draw_batch(seed))
    assert called.compute() == updated.compute()
    called.update(*draw_batch(9))
    updated.update(*draw_batch(9))
    assert called.compute() == updated.compute()


def test_an_epoch_without_a_batch_gives_nan():
    metrics = segmentation_metrics("multiclass", 3, 255, NAMES)
    with pytest.warns(UserWarning, match="before the ``update``"):
        scores = metrics.compute()
    assert len(scores) == 9
    assert all(score.isnan() for score in scores.values())


def test_the_collection_pickles_with_its_counts_and_stays_out_of_checkpoints():
    metrics = segmentation_metrics("multiclass", 3, 255, NAMES).clone(prefix="val/")
    metrics.update(*draw_batch())
    assert not metrics.state_dict()
    restored = pickle.loads(pickle.dumps(metrics))
    for each in (metrics, restored):
        each.update(*draw_batch(1))
    assert restored.compute() == metrics.compute()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["road", "sky", "road"], "class_names holds 'road' more than once"),
        (["road", "sky"], "class_names has 2 names, but num_classes=3"),
        ("abc", "class_names='abc' is one string"),
    ],
)
def test_names_that_cannot_be_logged_apart_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        segmentation_metrics("multiclass", 3, None, names)


def test_a_researchers_own_ratio_is_reported_by_class_too():
    def precision(matrix, task, ignore_index):
        return matrix.diagonal(), matrix.sum(0)

    metric = ScorePerClass(score_name="precision", ratio=precision, class_names=["a", "b"], num_classes=2)
    metric.update(torch.tensor([[0, 0, 1]]), torch.tensor([[0, 1, 1]]))
    assert metric.compute() == {"precision/a": 0.5, "precision/b": 1.0}
    with pytest.raises(ValueError, match="num_classes"):
        ScorePerClass(score_name="iou", ratio=iou_ratio, class_names=["a"], num_classes=1)
