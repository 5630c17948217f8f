"""Masks of MATLAB's files, written here by SciPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from lightning_seg.data.mask_sources import MaskReader
from lightning_seg.data.mat_files import MatFile
from lightning_seg.data.values import Values

LABELS = np.array([[0, 1, 2], [2, 1, 0]])


def read(path: Path, **options: Any) -> Any:
    return MatFile(path).read(MaskReader(3, **options), lambda: (2, 3)).tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_only_matrix_is_the_mask(tmp_path: Path, dtype: Any, compressed: bool) -> None:
    content = {"labels": LABELS.astype(dtype), "note": "by hand", "scale": 0.5}
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    assert read(tmp_path / "a.mat") == LABELS.tolist()
    values = Values({0: 2, 1: 1, 2: "void"}, 3, (), 255)
    assert read(tmp_path / "a.mat", values=values) == [[2, 1, 255], [255, 1, 2]]
    assert read(tmp_path / "a.mat", threshold=1) == [[0, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": LABELS, "b": LABELS}, r"holds a \(2, 3\) of int64, b \(2, 3\) of int64, of which one matrix of labels"),
        ({"a": "text"}, "of which one matrix of labels is not known"),
        ({"a": LABELS / 2}, "holds float64 of shape .* and one integer for each pixel is expected"),
        ({"GTcls": LABELS}, "cannot be read as a MATLAB file"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.mat")


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 5.0", b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\0" * 60, b"x" * 300]
)
def test_damaged_files_and_those_of_another_version_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"^mask .*a\.mat cannot be read as a MATLAB file: .*\.$|of which one matrix"):
        read(tmp_path / "a.mat")


def test_a_small_file_of_many_pixels_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"labels": np.zeros((2000, 2000), np.uint8)}, do_compression=True)
    with pytest.raises(ValueError, match="a part of it expands to more than 800,000 bytes"):
        read(tmp_path / "a.mat", max_pixels=100_000)
    savemat(tmp_path / "a.mat", {"labels": np.zeros((2000, 200), np.uint8)})
    with pytest.raises(ValueError, match=r"has 400,000 pixels, and max_pixels=100,000"):
        read(tmp_path / "a.mat", max_pixels=100_000)
