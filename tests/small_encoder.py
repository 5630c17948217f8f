"""An encoder of segmentation-models-pytorch of a few thousand weights, in the place of one of ten million."""

from typing import Any

import pytest
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

WIDTH = 8


class SmallEncoder(nn.Module, EncoderMixin):  # type: ignore[misc]
    """As deep as a ResNet, with one convolution a stage."""

    def __init__(self, depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        self._depth, self._in_channels, self._output_stride = depth, 3, output_stride
        self._out_channels = [3, *[WIDTH] * depth]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, WIDTH, 3, stride=2, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU())
            for before in self._out_channels[:-1]
        )

    def get_stages(self) -> dict[int, Any]:
        """The stages that may be dilated."""
        return {2 ** (index + 1): [stage] for index, stage in enumerate(self.stages) if index > 2}

    def forward(self, image: Tensor) -> list[Tensor]:
        """The image, and the features of each stage."""
        features = [image]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


ENTRY = {"encoder": SmallEncoder, "params": {}, "pretrained_settings": {}}


def replace(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lets networks be built with it in the place of the encoder of that name, until the test ends."""
    monkeypatch.setitem(encoders, name, ENTRY)
