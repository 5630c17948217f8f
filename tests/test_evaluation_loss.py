"""The loss that an evaluation logs is that of the whole data set."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss, LovaszSoftmaxLoss
from lightning_seg.module import SegmentationModule
from tests.small_module import VOID, Network, build, images, trainer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def validation_loss(loss, rows, batch_size):
    torch.manual_seed(0)
    module = build(loss=loss)
    return trainer().validate(module, DataLoader(rows, batch_size=batch_size), verbose=False)[0]["val/loss"], module


def whole_loss(module, rows):
    image, mask = (torch.stack([row[name] for row in rows]) for name in ("image", "mask"))
    module.eval()
    with torch.no_grad():
        return module.loss(module(image), mask).item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiceLoss(ignore_index=VOID),
        lambda: CrossEntropyLoss(ignore_index=VOID, class_weights=[1.0, 2.0, 5.0]),
        lambda: LovaszSoftmaxLoss(ignore_index=VOID),
        lambda: CompoundLoss(
            terms={"ce": CrossEntropyLoss(ignore_index=VOID), "dice": DiceLoss(ignore_index=VOID)},
            weights={"ce": 1.0, "dice": 0.5},
        ),
    ],
    ids=["dice", "weighted ce", "lovasz", "compound"],
)
def test_the_loss_of_an_evaluation_is_that_of_all_images_whatever_the_batch_size(make):
    rows = images(6)
    values = [validation_loss(make(), rows, batch_size)[0] for batch_size in (1, 2, 4, 6)]
    _, module = validation_loss(make(), rows, 6)
    assert values == pytest.approx([whole_loss(module, rows)] * 4, rel=1e-6)


def test_a_loss_that_is_not_a_function_of_sums_is_averaged_over_batches_by_their_valid_pixels():
    class Foreign(nn.Module):
        def forward(self, logits, target):
            return DiceLoss(ignore_index=VOID)(logits, target)

    rows = images(3)
    value, module = validation_loss(Foreign(), rows, 2)
    valid = [sum(int((row["mask"] != VOID).sum()) for row in part) for part in (rows[:2], rows[2:])]
    parts = [whole_loss(module, rows[:2]), whole_loss(module, rows[2:])]
    assert value == pytest.approx(sum(n * part for n, part in zip(valid, parts, strict=True)) / sum(valid), rel=1e-6)


def test_a_loss_that_is_computed_in_another_way_is_evaluated_in_that_way():
    class Doubled(SegmentationModule):
        def compute_loss(self, logits, target):
            return 2 * super().compute_loss(logits, target)

    rows, loss = images(2), CrossEntropyLoss(ignore_index=VOID)
    torch.manual_seed(0)
    module = Doubled(Network(), loss, num_classes=3, ignore_index=VOID)
    value = trainer().validate(module, DataLoader(rows, batch_size=2), verbose=False)[0]["val/loss"]
    assert value == pytest.approx(2 * whole_loss(module, rows), rel=1e-6)


@pytest.mark.parametrize(
    ("task", "channels", "shape", "pixels"),
    [("multiclass", 3, (2, 4, 5), 39), ("multilabel", 3, (2, 3, 4, 5), 39), ("binary", 1, (2, 1, 4, 5), 39)],
)
@pytest.mark.parametrize("has_void", [True, False])
def test_a_pixel_counts_once_whatever_its_labels(task, channels, shape, pixels, has_void):
    target = torch.zeros(shape, dtype=torch.int64)
    target[..., 0, 0] = VOID if has_void else 0
    target[:1, ..., 0, 0] = 0
    if task == "multilabel":
        target[:, 0, 1, 1] = VOID if has_void else 0  # one of its labels alone
    ignored = VOID if has_void else None
    module = SegmentationModule(
        nn.Conv2d(3, channels, 1), CrossEntropyLoss(task=task, ignore_index=ignored), num_classes=channels, task=task,
        ignore_index=ignored,
    )  # fmt: skip
    trainer().validate(module, DataLoader(list(zip(torch.rand(2, 3, 4, 5), target, strict=True))), verbose=False)
    assert module.evaluation.counts == (2, pixels if has_void else 40)
