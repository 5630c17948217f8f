import pytest

from lightning_seg.data import default_palette


def test_first_colors_are_those_of_pascal_voc() -> None:
    # The colors of background, aeroplane, bicycle, bird, boat, ..., tv monitor (20), as the VOC devkit lists them.
    assert default_palette(5) == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert default_palette(21)[20] == (0, 64, 128)
    assert default_palette(256)[255] == (224, 224, 192)


def test_all_colors_differ() -> None:
    assert len(set(default_palette(256))) == 256


def test_more_colors_than_an_index_png_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="65537 were asked for"):
        default_palette(65537)
