import numpy as np
import pytest
import torch

from lightning_seg.inference import prediction_picture

PALETTE = [(0, 0, 0), (10, 200, 20), (0, 0, 250)]
NAMES = ["ground", "tree", "sky"]


def cell(picture, column, size=320):
    left = 8 + column * (size + 8)
    return np.asarray(picture)[24 : 24 + size, left : left + size]


def test_the_columns_are_image_target_prediction_and_errors():
    image = torch.full((3, 2, 2), 0.6)
    target, prediction = torch.tensor([[0, 1], [2, 255]]), torch.tensor([[0, 1], [1, 2]])
    picture = prediction_picture([image], [target], [prediction], PALETTE, NAMES, 255)
    corners = (slice(80, 320, 160), slice(80, 320, 160))
    assert (cell(picture, 0) == 153).all()
    assert cell(picture, 1)[corners].tolist()[0] == [[0, 0, 0], [10, 200, 20]]
    assert cell(picture, 2)[corners].tolist() == [[[0, 0, 0], [10, 200, 20]], [[10, 200, 20], [0, 0, 250]]]
    assert cell(picture, 3)[corners].tolist()[0] == [[51] * 3, [51] * 3]
    assert cell(picture, 3)[corners].tolist()[1][0] == [230, 30, 40]
    for column in (1, 3):
        assert set(np.unique(cell(picture, column)[160:, 160:])) == {150, 190}


def test_of_several_labels_a_pixel_the_first_is_drawn_and_an_error_in_any_shows():
    # By pixel: the first label, both, none, and void in both.
    target = torch.tensor([[[1, 1], [0, 255]], [[0, 1], [0, 255]]])
    prediction = torch.tensor([[[1, 1], [0, 1]], [[0, 0], [1, 1]]])
    picture = prediction_picture([torch.full((3, 2, 2), 0.6)], [target], [prediction], PALETTE[1:], NAMES[1:], 255)
    corners = (slice(80, 320, 160), slice(80, 320, 160))
    tree, sky, none, dark, error = [10, 200, 20], [0, 0, 250], [255, 255, 255], [51] * 3, [230, 30, 40]
    assert cell(picture, 1)[corners].tolist()[0] == [tree, tree]
    assert cell(picture, 1)[corners].tolist()[1][0] == none
    assert cell(picture, 2)[corners].tolist() == [[tree, tree], [sky, tree]]
    assert cell(picture, 3)[corners].tolist()[0] == [dark, error]
    assert cell(picture, 3)[corners].tolist()[1][0] == error
    for column in (1, 3):
        assert set(np.unique(cell(picture, column)[160:, 160:])) == {150, 190}


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (700, 500), (64, 64)])
def test_any_size_of_image_and_number_of_classes_is_drawn_in_bounds(size):
    labels = torch.randint(0, 40, size)
    names = [f"class with a rather long name {index}" for index in range(40)]
    palette = [(index, 2 * index, 255 - index) for index in range(40)]
    images = [torch.rand(3, *size), torch.rand(1, 5, 9)]
    targets = [labels, torch.zeros(5, 9, dtype=torch.int64)]
    picture = prediction_picture(images, targets, targets, palette, names)
    assert picture.width <= 4 * 328 + 8


def test_the_binary_task_names_its_background():
    labels = torch.tensor([[0, 1]])
    prediction_picture([torch.rand(3, 1, 2)], [labels], [labels], PALETTE[:2], ["tree"])


def test_numbers_and_sizes_that_differ_are_refused():
    image, labels = torch.rand(3, 4, 4), torch.zeros(4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="got 1, 1 and 0"):
        prediction_picture([image], [labels], [], PALETTE, NAMES)
    with pytest.raises(ValueError, match="target and prediction of the image"):
        prediction_picture([image], [labels], [labels[:2]], PALETTE, NAMES)
    with pytest.raises(ValueError, match="got 3 colors for 1 class names"):
        prediction_picture([image], [labels], [labels], PALETTE, ["one"])
    with pytest.raises(ValueError, match="label 9 has no color"):
        prediction_picture([image], [labels + 9], [labels], PALETTE, NAMES)
