import math

import pytest
import torch
from counted_by_hand import dice_by_hand, iou_by_hand, mean_by_hand, pixel_sets
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_seg.metrics import ImageDiceScore, ImageMeanIoU

NAN = math.nan


def close(actual, expected):
    expected = torch.as_tensor(expected, dtype=torch.float32).reshape(actual.shape)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7, equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(
    task=st.sampled_from([("multiclass", 4), ("binary", 1), ("multilabel", 3)]),
    ignore_index=st.sampled_from([None, 255, -1, 0, 1]),
    void=st.sampled_from([0.3, 0.9]),
    seed=st.integers(0, 10_000),
)
def test_image_scores_are_what_counting_each_image_by_hand_gives(task, ignore_index, void, seed):
    name, num_classes = task
    generator = torch.Generator().manual_seed(seed)
    shape = (5, num_classes, 6) if name == "multilabel" else (5, 6)
    highest = num_classes if name == "multiclass" else 2
    labels = torch.randint(highest, shape, generator=generator)
    target = torch.randint(highest, shape, generator=generator)
    if ignore_index is not None:
        target[torch.rand(shape, generator=generator) < void] = ignore_index
    for metric, by_hand in ((ImageMeanIoU, iou_by_hand), (ImageDiceScore, dice_by_hand)):
        table = [
            [by_hand(*pair) for pair in pixel_sets(labels[i : i + 1], target[i : i + 1], *task, ignore_index)]
            for i in range(5)
        ]
        spec = {"task": name, "num_classes": num_classes, "ignore_index": ignore_index}
        close(metric(**spec)(labels, target), mean_by_hand([mean_by_hand(row) for row in table]))
        close(
            metric(**spec, average="none")(labels, target),
            [mean_by_hand(list(column)) for column in zip(*table, strict=True)],
        )


def test_an_image_weighs_the_same_however_small_its_objects_are():
    # The data-set score of these two images is 0.999 for class 1, see test_dataset_scores.
    target = torch.zeros(2, 100, 100, dtype=torch.long)
    target[0, 0, :10] = 1
    target[1, :, :50] = 1
    labels = target.clone()
    labels[0] = 0
    close(ImageMeanIoU(num_classes=2)(labels, target), (0.999 / 2 + 1) / 2)
    close(ImageMeanIoU(num_classes=2, average="none")(labels, target), [(0.999 + 1) / 2, 0.5])


def test_the_number_of_images_behind_each_class_is_kept():
    metric = ImageMeanIoU(num_classes=3, average="none")
    metric.update(torch.tensor([[0, 0], [0, 1], [0, 0]]), torch.tensor([[0, 0], [0, 0], [0, 0]]))
    assert metric.image_count.tolist() == [3, 1, 0]
    close(metric.compute(), [(1 + 0.5 + 1) / 3, 0.0, NAN])


def test_an_image_without_anything_to_score_is_left_out():
    labels = torch.tensor([[1, 0], [0, 0]])
    close(ImageDiceScore(task="binary", num_classes=1)(labels, torch.tensor([[1, 1], [0, 0]])), 2 / 3)
    void = torch.tensor([[1, 1], [255, 255]])
    close(ImageDiceScore(num_classes=2, ignore_index=255)(labels, void), (0 + 2 / 3) / 2)


@pytest.mark.parametrize("average", ["macro", "none"])
@pytest.mark.parametrize("metric", [ImageMeanIoU, ImageDiceScore])
def test_order_and_batching_of_images_change_no_digit_and_states_keep_their_size(metric, average):
    labels, target = torch.randint(3, (40, 9)), torch.randint(3, (40, 9))
    at_once = metric(num_classes=3, average=average)
    at_once.update(labels, target)
    one_by_one = metric(num_classes=3, average=average)
    sizes = set()
    for index in torch.randperm(40).tolist():
        one_by_one(labels[index : index + 1], target[index : index + 1])
        sizes.add(sum(state.numel() for state in one_by_one.metric_state.values()))
    assert torch.equal(one_by_one.compute(), at_once.compute())
    assert len(sizes) == 1


def test_no_image_gives_nan():
    metric = ImageMeanIoU(num_classes=3)
    metric.update(torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, 4, dtype=torch.long))
    assert metric.compute().isnan()
