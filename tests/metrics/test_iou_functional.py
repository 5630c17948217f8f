import math

import pytest
import torch

from lightning_seg.metrics import MeanIoU, iou, iou_binary

NAN = math.nan


def berman_iou(predictions, targets, classes, empty, ignore, per_image):
    """``iou`` of github.com/bermanmaxim/LovaszSoftmax, in fractions; None where it skips the ignored class."""
    if not per_image:
        predictions, targets = (predictions,), (targets,)
    rows = []
    for prediction, target in zip(predictions, targets, strict=True):
        row = []
        for index in range(classes):
            if index == ignore:
                row.append(None)
                continue
            intersection = ((target == index) & (prediction == index)).sum()
            union = ((target == index) | ((prediction == index) & (target != ignore))).sum()
            row.append(float(intersection) / float(union) if union else empty)
        rows.append(row)
    return [NAN if None in column else sum(column) / len(column) for column in zip(*rows, strict=True)]


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("empty", [0.0, 1.0])
@pytest.mark.parametrize("ignore_index", [None, 255, -1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_iou_is_bermans(per_image, empty, ignore_index, seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(5, (4, 3, 3), generator=generator)
    target = torch.randint(4, (4, 3, 3), generator=generator)
    if ignore_index is not None:
        target[torch.rand(target.shape, generator=generator) < 0.3] = ignore_index
    actual = iou(prediction, target, num_classes=6, empty=empty, ignore_index=ignore_index, per_image=per_image)
    close(actual, berman_iou(prediction, target, 6, empty, ignore_index, per_image))


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("empty", [0.0, 1.0])
@pytest.mark.parametrize("ignore_index", [None, 255, -1])
def test_iou_binary_is_bermans(per_image, empty, ignore_index):
    generator = torch.Generator().manual_seed(3)
    prediction, target = (torch.randint(2, (6, 2, 2), generator=generator) for _ in range(2))
    prediction[0], target[0] = 0, 0
    if ignore_index is not None:
        target[torch.rand(target.shape, generator=generator) < 0.3] = ignore_index
    actual = iou_binary(prediction, target, empty=empty, ignore_index=ignore_index, per_image=per_image)
    close(actual, berman_iou(prediction, target, 2, empty, ignore_index, per_image)[1])


def test_the_mean_over_images_and_the_ratio_over_the_set_differ():
    target = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1]])
    prediction = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    close(iou_binary(prediction, target), 0.5)
    close(iou_binary(prediction, target, per_image=False), 0.8)
    close(iou(prediction, target, num_classes=2, per_image=True), [0.75, 0.5])  # class 0 is not in the first image
    close(iou(prediction, target, num_classes=2), [0.75, 0.8])


def test_an_empty_class_scores_what_the_caller_says():
    nothing = torch.zeros(1, 4, dtype=torch.long)
    close(iou_binary(nothing, nothing), 1.0)
    close(iou_binary(nothing, nothing, empty=0.0), 0.0)
    close(iou_binary(nothing, nothing, empty=NAN), NAN)
    close(iou(nothing, nothing, num_classes=3), [1.0, NAN, NAN])
    close(iou(nothing, nothing, num_classes=3, empty=1.0), [1.0, 1.0, 1.0])


def test_an_image_whose_class_is_empty_leaves_the_mean_when_empty_is_nan():
    target = torch.tensor([[0, 0], [1, 0]])
    prediction = torch.tensor([[0, 0], [1, 1]])
    close(iou_binary(prediction, target, empty=NAN), 0.5)
    close(iou_binary(prediction, target), 0.75)
    close(iou(prediction, target, num_classes=2, per_image=True), [0.5, 0.5])


def test_an_image_of_nothing_but_void_is_an_empty_one():
    prediction, target = torch.tensor([[1, 0]]), torch.tensor([[255, 255]])
    close(iou_binary(prediction, target, ignore_index=255), 1.0)
    close(iou(prediction, target, num_classes=2, ignore_index=255), [NAN, NAN])


def test_logits_and_boolean_masks_are_taken_too():
    logits, target = torch.randn(3, 1, 4, 4), torch.randint(2, (3, 4, 4))
    expected = iou_binary((logits > 0).long()[:, 0], target)
    assert torch.equal(iou_binary(logits, target), expected)
    assert torch.equal(iou_binary(logits[:, 0] > 0, target.bool()), expected)
    logits, target = torch.randn(3, 4, 5, 5), torch.randint(4, (3, 5, 5))
    assert torch.equal(iou(logits, target, num_classes=4), MeanIoU(num_classes=4, average="none")(logits, target))
