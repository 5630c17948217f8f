"""FSDP on a CPU, which Lightning's own strategy refuses."""

from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

_wrap = FullyShardedDataParallel.__init__


def _wrap_on_cpu(self: FullyShardedDataParallel, module: nn.Module, **options: Any) -> None:
    _wrap(self, module, **{**options, "device_id": torch.device("cpu")})


class CpuFSDP(FSDPStrategy):
    """Lightning's, all of it, with gloo in place of NCCL."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        with patch.object(FullyShardedDataParallel, "__init__", _wrap_on_cpu):
            return super()._setup_model(model)
