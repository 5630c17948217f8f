import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.inference import atomic_write, overlay, probabilities_file, write_mask

PALETTE = [(0, 0, 0), (200, 10, 20), (0, 0, 250)]


def test_a_mask_reads_back_as_its_labels_and_shows_its_colors(tmp_path):
    labels = np.array([[0, 1, 2], [2, 1, 0]])
    write_mask(tmp_path / "new" / "mask.png", labels, PALETTE)
    with Image.open(tmp_path / "new" / "mask.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), labels)
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.array(PALETTE)[labels])


def test_a_mask_of_few_classes_still_has_8_bits_a_pixel(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 1]]), PALETTE)
    header = (tmp_path / "mask.png").read_bytes()
    assert header[12:16] == b"IHDR"
    assert header[24] == 8


def test_more_than_256_classes_are_16_bit_grey(tmp_path):
    labels = np.array([[0, 299], [256, 1]])
    write_mask(tmp_path / "mask.png", labels, [(0, 0, 0)] * 300)
    with Image.open(tmp_path / "mask.png") as picture:
        assert np.array_equal(np.asarray(picture), labels)


def test_an_existing_mask_is_only_replaced_when_told(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, np.array([[1]]), PALETTE)
    with pytest.raises(FileExistsError, match="overwrite=true"):
        write_mask(path, np.array([[2]]), PALETTE)
    assert np.asarray(Image.open(path)).item() == 1
    write_mask(path, np.array([[2]]), PALETTE, overwrite=True)
    assert np.asarray(Image.open(path)).item() == 2


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[3]]), "label 3 has no color"),
        (np.array([[-1]]), "label -1 has no color"),
        (np.array([[0.5]]), "float64"),
        (np.array([1]), r"shape \(1,\)"),
    ],
)
def test_labels_that_cannot_be_written_are_refused(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        write_mask(tmp_path / "mask.png", labels, PALETTE)
    assert not list(tmp_path.iterdir())


def test_a_mask_is_a_png(tmp_path):
    with pytest.raises(ValueError, match=r"name it \.png"):
        write_mask(tmp_path / "mask.jpg", np.array([[0]]), PALETTE)


def test_an_overlay_mixes_image_and_colors():
    image, labels = torch.ones(3, 1, 2), np.array([[0, 1]])
    assert overlay(image, labels, PALETTE, 0.5).tolist() == [[[128, 128, 128], [228, 132, 138]]]
    assert overlay(image, labels, PALETTE, 0.0).tolist() == [[[255] * 3] * 2]
    assert overlay(image, labels, PALETTE, 1.0).tolist() == [[[0, 0, 0], [200, 10, 20]]]


def test_an_overlay_of_different_sizes_or_an_impossible_opacity_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 2, 2\) with \(1, 2\)"):
        overlay(torch.ones(3, 2, 2), np.array([[0, 1]]), PALETTE)
    with pytest.raises(ValueError, match=r"opacity=2 must be from 0 to 1"):
        overlay(torch.ones(3, 1, 2), np.array([[0, 1]]), PALETTE, 2)


def test_probabilities_read_back_as_float16(tmp_path):
    values = np.random.default_rng(0).random((2, 3, 4)).astype(np.float16)
    with probabilities_file(tmp_path / "p.npy", (2, 3, 4)) as array:
        array[:] = values
    assert np.array_equal(np.load(tmp_path / "p.npy"), values)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npy"]
