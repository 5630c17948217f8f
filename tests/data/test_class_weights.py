"""Class weights estimated from training masks."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data import (
    FolderDataModule,
    ShapesDataModule,
    effective_number,
    inverse_frequency,
    median_frequency,
    training_augmentation,
)

# Two images of 100 pixels; class 2 is in the second alone.
PIXELS = torch.tensor([[80, 20, 0], [40, 20, 40]])


def mean_one(*weights: float) -> list[float]:
    present = [weight for weight in weights if weight > 0]
    return [weight * len(present) / sum(present) for weight in weights]


def test_the_inverse_frequency_gives_every_class_the_same_weight_as_a_whole() -> None:
    weights = inverse_frequency(PIXELS)
    assert (weights * torch.tensor([120, 40, 40])).tolist() == pytest.approx([360 / 7] * 3)
    assert weights.mean().item() == pytest.approx(1)


def test_the_median_frequency_counts_the_images_in_which_a_class_occurs() -> None:
    shares = [120 / 200, 40 / 200, 40 / 100]
    expected = mean_one(*(float(np.median(shares)) / share for share in shares))
    assert median_frequency(PIXELS).tolist() == pytest.approx(expected)


def test_the_effective_number_is_the_papers_formula() -> None:
    expected = mean_one(*((1 - 0.9) / (1 - 0.9**count) for count in (3, 10, 1)))
    assert effective_number(torch.tensor([[3, 10, 1]]), beta=0.9).tolist() == pytest.approx(expected)


def test_the_effective_number_lies_between_no_weights_and_the_inverse_frequency() -> None:
    assert effective_number(PIXELS, beta=0.0).tolist() == [1, 1, 1]
    assert effective_number(PIXELS, beta=1 - 1e-9).tolist() == pytest.approx(inverse_frequency(PIXELS).tolist())
    for beta in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"beta={beta} must be at least 0 and less than 1"):
            effective_number(PIXELS, beta=beta)


@pytest.mark.parametrize("scale", [1, 10**9])
def test_the_default_of_beta_fits_the_size_of_the_data(scale: int) -> None:
    rare, common, most = effective_number(scale * torch.tensor([[10, 1000, 100_000]])).tolist()
    assert rare > 10 * common > 10 * most > 0


@pytest.mark.parametrize("estimate", [inverse_frequency, median_frequency, effective_number])
def test_an_absent_class_has_weight_0_and_the_others_have_mean_1(estimate: Any) -> None:
    without = estimate(PIXELS)
    with_absent = estimate(torch.cat([PIXELS, torch.zeros(2, 1, dtype=torch.int64)], dim=1))
    if estimate is not effective_number:
        assert with_absent.tolist() == pytest.approx([*without.tolist(), 0])
    assert with_absent[3] == 0
    assert with_absent[:3].mean().item() == pytest.approx(1)
    assert estimate(torch.tensor([[0, 7]])).tolist() == [0, 1]


def shapes(**options: Any) -> ShapesDataModule:
    sizes = {"num_train": 4, "num_val": 1, "num_test": 1, "image_size": 32, "seed": 0, "batch_size": 2}
    return ShapesDataModule(**{**sizes, "ignore_index": 255, **options})


def test_the_pixels_of_training_masks_are_counted_without_augmentation_and_void() -> None:
    no_change = {"crop_size": None, "rotation": 0, "horizontal_flip": 0, "vertical_flip": 0, "brightness": 0}
    no_change |= {"contrast": 0, "saturation": 0, "hue": 0, "blur": 0, "ignore_index": 255, "scale": (1, 1)}
    data = shapes(augment=training_augmentation(**{**no_change, "crop_size": 8}))
    data.setup("fit")
    counts = data.count_training_pixels()
    plain = shapes()
    plain.setup("fit")
    masks = [plain.train_set[index]["mask"] for index in range(4)]  # type: ignore[index]
    assert counts.tolist() == [[int((mask == value).sum()) for value in range(6)] for mask in masks]
    assert data.train_set[0]["mask"].shape == (8, 8)  # type: ignore[index]


def write(root: Path, **masks: list[list[int]]) -> FolderDataModule:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for stem, mask in masks.items():
            values = np.array(mask, np.uint8)
            Image.fromarray(values).save(root / split / "masks" / f"{stem}.png")
            Image.fromarray(values).save(root / split / "images" / f"{stem}.png")
    return FolderDataModule(
        root, 3, val_fraction=0.5, test_fraction=0, seed=0, batch_size=1, ignore_index=255, check_masks=False
    )


def test_masks_of_a_folder_are_counted_without_reading_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, a=[[0, 0, 1, 255]], b=[[1, 1, 1, 1]])
    monkeypatch.setattr("lightning_seg.data.folder_dataset.read_image", None)
    with pytest.raises(RuntimeError, match='call setup\\("fit"\\) first'):
        data.count_training_pixels()
    data.setup("fit")
    assert data.count_training_pixels().tolist() == [[2, 1, 0], [0, 4, 0]]


def test_masks_that_setup_has_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, a=[[0, 0, 1, 255]], b=[[1, 1, 1, 1]])
    data.check_masks = True
    data.setup("fit")
    monkeypatch.setattr("lightning_seg.data.folder_dataset.inspect_pairs", None)
    assert data.count_training_pixels().tolist() == [[2, 1, 0], [0, 4, 0]]


def test_a_data_module_names_the_classes_and_those_that_are_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write(tmp_path, a=[[0, 0, 1, 255]], b=[[1, 1, 1, 1]])
    data.class_names = ["sky", "road", "tree"]
    with caplog.at_level(logging.INFO):
        assert data.class_weights("inverse_frequency") == pytest.approx([10 / 7, 4 / 7, 0])
    assert "class_weights=inverse_frequency: sky 1.43, road 0.571, tree 0" in caplog.messages
    assert "tree occurs in no training mask and has class weight 0." in caplog.messages


def test_what_cannot_be_estimated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"class_weights=inverse is neither a list .* inverse_frequency, median_frequency, effective_nu",
    ):
        shapes().class_weights("inverse")
    with pytest.raises(ValueError, match=r"class_weights=median_frequency balances classes .* the binary task has one"):
        shapes(num_classes=1).class_weights("median_frequency")
    void = write(tmp_path, a=[[255]], b=[[255]])
    with pytest.raises(ValueError, match="no training mask has a pixel of a class"):
        void.class_weights("effective_number")
