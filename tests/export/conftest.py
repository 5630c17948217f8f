"""What the exporter of torch prepares for each export, prepared once."""

import functools
from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def quick_exports() -> Iterator[None]:
    """Exports in four fifths of the time. The files are the same."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # a second, which not every test needs

    fill = functools.cache(ONNXRegistry.from_torchlib)  # reads the source of a thousand operations

    def filled(**options: Any) -> ONNXRegistry:
        registry = copy(fill(**options))
        registry.functions = {target: [*functions] for target, functions in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(filled))
        # Each operation that is traced counts the devices of the machine.
        patch.setattr(torch.cuda, "device_count", functools.cache(torch.cuda.device_count))
        yield
