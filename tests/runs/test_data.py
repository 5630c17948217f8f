import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_seg.data import DescribesData, FolderDataModule
from lightning_seg.runs.contents import DATA, write_result
from lightning_seg.runs.data import changed_since, check_same_data, keep_digests, read_digests
from lightning_seg.runs.folder import open_run
from lightning_seg.sweeps import finished
from lightning_seg.sweeps.finished import finished_before
from tests.console import write_folder
from tests.report.conftest import composed

OPTIONS: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 1, "ignore_index": 255}


def digests(root: Path, **options: Any) -> dict[str, Any]:
    data = FolderDataModule(root, 3, **{**OPTIONS, **options})
    assert isinstance(data, DescribesData)
    data.setup("fit")
    return data.digests()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(tmp_path / "a", {"train": 3, "val": 1, "test": 1})
    return tmp_path / "a"


def relabel(root: Path) -> None:
    path = root / "train/masks/0.png"
    mask = np.array(Image.open(path))
    mask[mask == 1] = 2
    Image.fromarray(mask).save(path)


def crop(root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        path = root / f"train/{kind}/0.{suffix}"
        Image.open(path).crop((0, 0, 48, 39)).save(path)


def rename(root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / f"train/{kind}/0.{suffix}").rename(root / f"train/{kind}/new.{suffix}")


def remove(root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / f"train/{kind}/0.{suffix}").unlink()


@pytest.mark.parametrize("change", [relabel, crop, rename, remove])
def test_a_copy_is_the_same_data_and_other_names_sizes_masks_or_numbers_are_not(
    tmp_path: Path, root: Path, change: Any
) -> None:
    before = digests(root)
    copy = shutil.copytree(root, tmp_path / "b")
    assert digests(copy) == before
    change(copy)
    now = digests(copy)
    assert {split for split in before if before[split] != now[split]} == {"train"}
    keep_digests(tmp_path, before)
    counts = "3 and now 2" if change is remove else "3 as now, but with other names, sizes or masks"
    with pytest.raises(ValueError, match=rf"trained on different data: its images of the train split were {counts}"):
        keep_digests(tmp_path, now)
    assert read_digests(tmp_path) == before


def test_masks_that_are_not_read_are_known_by_their_names(root: Path) -> None:
    before = digests(root, check_masks=False)
    relabel(root)
    assert digests(root, check_masks=False) == before
    rename(root)
    assert digests(root, check_masks=False) != before


def test_a_split_that_was_not_looked_at_before_is_added(tmp_path: Path) -> None:
    keep_digests(tmp_path, {})
    assert read_digests(tmp_path) is None
    keep_digests(tmp_path, {"train": {"images": 2, "digest": "a"}})
    keep_digests(tmp_path, {"test": {"images": 1, "digest": "b"}})
    assert read_digests(tmp_path) == {"train": {"images": 2, "digest": "a"}, "test": {"images": 1, "digest": "b"}}
    check_same_data(tmp_path, {}, {"train": {"images": 1}})


@pytest.mark.parametrize("content", ["[]", '{"train": 3}', "{"])
def test_a_damaged_digest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / DATA).write_text(content)
    with pytest.raises(ValueError, match=r"data\.json"):
        read_digests(tmp_path)


def test_a_change_of_files_is_seen_by_their_times(root: Path) -> None:
    later = time.time() + 5
    assert not changed_since(root, later)
    os.utime(root / "val/masks/0.png", (later + 5, later + 5))
    assert changed_since(root, later)
    assert not changed_since(root / "nowhere", later)


def test_scores_of_a_finished_run_are_given_again_for_its_own_data_only(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(place: Path) -> dict[str, Any] | None:
        monkeypatch.setattr(finished, "_digests", {})
        given = [f"data.root={place}", "data.num_classes=3", "data.ignore_index=255", "run=one", f"runs={tmp_path}"]
        config = composed("data=folder", *given)
        open_run(config, given) if not (tmp_path / "one").exists() else None
        return finished_before(tmp_path / "one", config, given)

    copy, other = shutil.copytree(root, tmp_path / "b"), shutil.copytree(root, tmp_path / "c")
    relabel(other)
    assert before(root) is None
    write_result(tmp_path / "one", {"best": 0.5, "test": {"test/iou": 0.5}})
    assert before(root) is not None
    assert before(copy) is not None
    assert f"does not record its data, so {copy} may not hold" in capsys.readouterr().out
    keep_digests(tmp_path / "one", digests(root))
    assert before(copy) is not None
    with pytest.raises(ValueError, match="was trained on different data"):
        before(other)
    relabel(root)
    with pytest.raises(ValueError, match="was trained on different data"):
        before(root)
