import torch

from lightning_seg.inspection.pictures import image_picture, overlay_picture

PALETTE = [(200, 0, 0), (0, 0, 200)]


def test_of_several_labels_a_pixel_the_first_is_drawn():
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    first, second = torch.zeros(20, 30, dtype=torch.int64), torch.ones(20, 30, dtype=torch.int64)
    first[:12], second[15:] = 1, 255
    labels = torch.ones(20, 30, dtype=torch.int64)
    labels[:12], labels[15:] = 0, 255
    assert overlay_picture(image, torch.stack([first, second]), PALETTE) == overlay_picture(image, labels, PALETTE)
    assert overlay_picture(image, labels, PALETTE) != overlay_picture(image, labels.clamp(max=1), PALETTE)


def test_an_image_is_left_as_it_is_where_it_has_no_label():
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(2, 20, 30, dtype=torch.int64)
    assert overlay_picture(image, nothing, PALETTE) == image_picture(image)
