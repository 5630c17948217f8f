import torch

from lightning_seg.inspection.step import free_memory, step_usage


def test_the_memory_of_an_image_is_that_of_the_maps_which_a_step_keeps():
    network = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Tanh()) for _ in range(12)))
    image, target = torch.rand(3, 512, 512), torch.zeros(512, 512, dtype=torch.int64)
    usage = step_usage(network, torch.nn.functional.cross_entropy, image, target)
    one_map = image.numel() * image.element_size()
    assert 12 * one_map <= usage.per_image < 40 * one_map  # the output of each tanh, which its gradient needs
    assert usage.seconds_per_image > 0


def test_free_memory_is_some_of_this_machine():
    free = free_memory(torch.device("cpu"))
    assert free is None or free > 2**20
