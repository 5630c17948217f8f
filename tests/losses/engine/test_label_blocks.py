"""Picking and summing by label, in the one-hot form and in the indexed one, against a loop over pixels."""

import pytest
import torch

from lightning_seg.losses.engine import label_blocks
from lightning_seg.losses.engine.label_blocks import LabelBlock

VOID = 255


@pytest.fixture(params=["one-hot", "indexed"])
def block(request, monkeypatch) -> LabelBlock:
    monkeypatch.setattr(label_blocks, "FEW_CLASSES", 3 if request.param == "one-hot" else 2)
    block = LabelBlock(torch.tensor([[0, 2, VOID, 2], [1, VOID, 0, 0]]), VOID, classes=3, dtype=torch.float64)
    assert (block.one_hot is None) == (request.param == "indexed")
    return block


def labels_of(block: LabelBlock) -> list[tuple[int, int, int]]:
    return [
        (image, pixel, int(block.index[image, pixel]))
        for image in range(2)
        for pixel in range(4)
        if block.valid is None or block.valid[image, pixel]
    ]


def test_it_picks_the_channel_of_each_label(block):
    maps = torch.randn(2, 3, 4, dtype=torch.float64)
    picked = block.pick(maps)
    assert all(picked[image, pixel] == maps[image, label, pixel] for image, pixel, label in labels_of(block))
    assert picked.isfinite().all()


def test_it_looks_a_number_up_for_each_label_and_none_for_void_pixels(block):
    row = torch.randn(2, 3, dtype=torch.float64)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for image, pixel, label in labels_of(block):
        expected[image, pixel] = row[image, label]
    assert torch.equal(block.look_up(row), expected)


def test_it_counts_the_pixels_of_each_label_and_sums_over_them(block):
    maps = [torch.randn(2, 4, dtype=torch.float64) for _ in range(2)]
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    for image, pixel, label in labels_of(block):
        expected[image, label] += torch.stack([torch.ones(()).double(), *(values[image, pixel] for values in maps)])
    torch.testing.assert_close(block.sums(maps), expected)


def test_it_adds_to_the_channel_of_each_label(block):
    values = torch.randn(2, 4, dtype=torch.float64).where(block.valid, 0)
    maps = torch.ones(2, 3, 4, dtype=torch.float64)
    block.add(maps, values)
    expected = torch.ones(2, 3, 4, dtype=torch.float64)
    for image, pixel, label in labels_of(block):
        expected[image, label, pixel] += values[image, pixel]
    assert torch.equal(maps, expected)


def test_no_mask_is_kept_where_no_pixel_is_void():
    block = LabelBlock(torch.tensor([[0, 1]]), VOID, classes=2, dtype=torch.float32)
    assert block.valid is None
    assert block.weight is None


def test_a_void_label_may_also_be_a_class_index():
    block = LabelBlock(torch.tensor([[0, 1]]), 0, classes=2, dtype=torch.float32)
    assert block.valid is not None
    assert block.valid.tolist() == [[False, True]]
