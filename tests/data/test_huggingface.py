"""Data sets of Hugging Face, written here by its library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.data import HuggingFaceDataModule

datasets = pytest.importorskip("datasets")
parquet = pytest.importorskip("pyarrow.parquet")

SIZE = (12, 16)


def pixels(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def labels(index: int) -> np.ndarray:
    return (np.random.default_rng(index).random(SIZE) < 0.5).astype(np.uint8) + (index % 2)


def table(count: int, first: int = 0, **columns: Any) -> Any:
    rows = range(first, first + count)
    own = {"image": [Image.fromarray(pixels(i)) for i in rows], "mask": [Image.fromarray(labels(i)) for i in rows]}
    return datasets.Dataset.from_dict({**own, **columns})


def module(path: Path, **options: Any) -> HuggingFaceDataModule:
    defaults: dict[str, Any] = {"num_classes": 3, "val_fraction": 0.25, "test_fraction": 0, "seed": 0, "batch_size": 2}
    return HuggingFaceDataModule(path, **{**defaults, **options})


def save(folder: Path, kind: str) -> Path:
    """Three splits: rows 0 to 3, 4 and 5, and 6."""
    parts = {"train": table(4), "validation": table(2, 4), "test": table(1, 6)}
    if kind == "disk":
        datasets.DatasetDict(parts).save_to_disk(folder)
    elif kind == "parquet":
        for name, part in parts.items():
            part.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("kind", ["disk", "parquet"])
def test_images_and_masks_are_those_of_the_data_set(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = module(save(tmp_path / "set", kind))
    data.setup()
    assert [len(one) for one in (data.train_set, data.val_set, data.test_set)] == [4, 2, 1]  # type: ignore[arg-type]
    sample = data.val_set[1]  # type: ignore[index]
    assert sample["image"].equal(torch.from_numpy(pixels(5)).movedim(-1, 0) / 255)
    assert sample["mask"].equal(torch.from_numpy(labels(5)).long())
    assert sample["name"] == "validation-000001"
    assert data.pixel_counts["test"].tolist() == np.bincount(labels(6).ravel(), minlength=3).tolist()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, *SIZE)


def test_one_split_is_divided_and_keeps_groups_together(tmp_path: Path) -> None:
    table(8, patient=["a", "b", "a", "c", "c", "b", "d", "d"]).save_to_disk(tmp_path)
    data = module(tmp_path, group="patient", test_fraction=0.25)
    data.setup()
    groups = [{pair.group for pair in one.pairs} for one in (data.train_set, data.val_set, data.test_set)]  # type: ignore[union-attr]
    assert sorted(group for one in groups for group in one) == ["a", "b", "c", "d"]
    assert all(groups)


def test_labels_may_be_lists_whose_names_are_those_of_the_classes(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["void", "cell", "rim"])
    features = datasets.Features({"pic": datasets.Image(), "seg": datasets.Sequence(datasets.Sequence(names))})
    rows = {"pic": [Image.fromarray(pixels(i)) for i in range(4)], "seg": [labels(i).tolist() for i in range(4)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path)
    data = module(tmp_path, image="pic", mask="seg")
    assert data.class_names == ["void", "cell", "rim"]
    data.setup("fit")
    index = int(data.train_set.pairs[0].name[-1])  # type: ignore[union-attr]
    assert data.train_set[0]["mask"].equal(torch.from_numpy(labels(index)).long())  # type: ignore[index]
    for option, value in {"mask_page": 0, "color_table": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}.items():
        with pytest.raises(ValueError, match=rf"data\.{option} is for masks of labels, and here masks are lists"):
            module(tmp_path, image="pic", mask="seg", **{option: value}).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": "label"}, r"has no column label: it has image, mask; .* data\.mask=COLUMN"),
        ({"splits": {"train": "all"}}, r"data\.splits\.train=all, but .* has the splits train \(4 images\)"),
        ({"splits": {"extra": "train"}}, r"data\.splits\.extra is not one of train, val, test"),
        ({"splits": {"val": "test"}}, r"has no split for train: say which of train, validation, test"),
        ({"table": "all.csv"}, r"data\.table says where files are, and data=huggingface reads a data set"),
        ({"missing_masks": "background"}, r"data\.missing_masks says where files are"),
        ({"revision": "main"}, r"data\.revision=main chooses .* was written by save_to_disk: leave it out"),
        ({"num_classes": 2}, "mask mask of row .* of train .* holds label 2"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(save(tmp_path, "disk"), **options).setup("fit")


def test_a_folder_of_something_else_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path=.* cannot be read as a data set: "):
        module(tmp_path).setup("fit")
    with pytest.raises(ValueError, match=r"data\.path is not given"):
        HuggingFaceDataModule(None, 2, val_fraction=0.2, test_fraction=0, seed=0, batch_size=1)


def test_code_beside_the_data_is_not_run(tmp_path: Path) -> None:
    (tmp_path / f"{tmp_path.name}.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ValueError, match="cannot be read as a data set"):
        module(tmp_path).setup("fit")


def test_paths_that_lead_out_of_the_data_set_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(pixels(0)).save(tmp_path / "secret.png")
    paths = [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 2
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": paths, "mask": paths}, features=features)
    (tmp_path / "set").mkdir()
    parquet.write_table(rows.data.table, tmp_path / "set" / "train.parquet")  # to_parquet would put the files into it
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(ValueError, match=r"is the file .*secret\.png, which lies outside of data\.path"):
        module(tmp_path / "set").setup("fit")
