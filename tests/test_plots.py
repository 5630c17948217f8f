import numpy as np
import pytest

from lightning_seg.plots import confusion_picture


def ink(pixels):
    """The dark part of a picture, without what is around it."""
    dark = pixels.min(-1) < 128
    rows, columns = (np.flatnonzero(dark.any(axis)) for axis in (1, 0))
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("name", ["1", "10", "bicyclist", "a much longer name than most"])
def test_the_name_above_a_column_of_the_confusion_is_as_whole_as_that_of_its_row(name):
    pixels = np.asarray(confusion_picture(np.zeros((1, 1), np.int64), [name]).convert("RGB"))
    room = len(pixels) - 44 - 24
    of_row, of_column = pixels[room + 14 :, :room], pixels[24 : room + 14, room:]
    assert np.array_equal(np.rot90(ink(of_row)), ink(of_column))


def test_the_title_of_a_small_confusion_is_whole():
    one, many = (np.asarray(confusion_picture(np.zeros((n, n), np.int64), ["a"] * n).convert("RGB")) for n in (1, 20))
    assert np.array_equal(ink(one[:20]), ink(many[:20]))
