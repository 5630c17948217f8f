"""Parameters that get no gradient are named once."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg.callbacks.untrained import UntrainedParameters
from tests.small_module import Network, build, images, trainer


class WithUnusedParts(Network):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 3)
        self.later = nn.Conv2d(3, 3, 1)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.steps = 0

    def forward(self, image):
        self.steps += self.training
        return super().forward(self.later(image) if self.steps == 3 else image)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (4, 5)])
def test_they_are_named_in_the_first_steps_with_what_to_do(epochs, steps):
    loader = DataLoader(images(6), batch_size=2)
    with pytest.warns(UserWarning, match="gradient") as caught:
        trainer(max_epochs=epochs, callbacks=[UntrainedParameters()]).fit(build(WithUnusedParts()), loader)
    (message,) = [str(one.message) for one in caught if "got no gradient" in str(one.message)]
    assert message.startswith(
        f"9 parameters of the network got no gradient in {steps} steps, so they are not trained: backbone.unused. If "
    )


def test_where_all_are_trained_nothing_is_said():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*got no gradient")
        loader = DataLoader(images(6), batch_size=2)
        trainer(max_epochs=2, callbacks=[UntrainedParameters()]).fit(build(), loader)
