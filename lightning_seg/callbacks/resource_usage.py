"""What a training uses: time per step, memory, parameters."""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_seg.files import write_json


class ResourceUsage(Callback):
    """Writes what the training has used so far, at the end of each of its epochs, as JSON.

    - `seconds_per_step`: mean time of a training batch, waiting for its data included and validation not. The first
      batch of a process is left out, since much is set up in it; null if there was no other.
    - `steps`: how many batches that is a mean of.
    - `peak_memory_bytes`: on a GPU the most that torch had allocated, else the most resident memory of the whole
      process; of several processes the one that took most. null where the system does not report it.
    - `memory`: `cuda` or `resident`, which of the two it is.
    - `parameters` and `trainable_parameters` of the module, `processes`, and the `device`.

    A resumed training continues the sums in its checkpoint.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._seconds, self._steps, self._peak = 0.0, 0, 0
        self._parameters: dict[str, int] = {}
        self._mark = 0.0
        self._is_first = True

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return {"seconds": self._seconds, "steps": self._steps, "peak": self._peak}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the sums of a checkpoint."""
        self._seconds, self._steps, self._peak = (state_dict[name] for name in ("seconds", "steps", "peak"))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Counts the parameters, before a strategy shards them."""
        numbers = [(parameter.numel(), parameter.requires_grad) for parameter in pl_module.parameters()]
        self._parameters = {
            "parameters": sum(number for number, _ in numbers),
            "trainable_parameters": sum(number for number, is_trained in numbers if is_trained),
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock, and the peak of memory anew."""
        self._is_first = True
        reset_peak_memory(trainer.strategy.root_device)
        self._mark = perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock after what is done between epochs."""
        self._mark = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock after a validation in the middle of an epoch."""
        self._mark = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the time since the batch before."""
        device = trainer.strategy.root_device
        if device.type == "cuda" and (self._is_first or trainer.is_last_batch):
            torch.cuda.synchronize(device)  # A GPU works behind; what is left at the end would go uncounted.
        now = perf_counter()
        if not self._is_first:
            self._seconds += now - self._mark
            self._steps += 1
        self._mark, self._is_first = now, False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        device = trainer.strategy.root_device
        own = torch.tensor(max(self._peak, peak_memory(device)), dtype=torch.int64, device=device)
        self._peak = int(trainer.strategy.reduce(own, reduce_op="max"))
        if not trainer.is_global_zero:
            return
        content = {
            "seconds_per_step": self._seconds / self._steps if self._steps else None,
            "steps": self._steps,
            "peak_memory_bytes": self._peak or None,
            "memory": "cuda" if device.type == "cuda" else "resident",
            **self._parameters,
            "processes": trainer.world_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        }
        write_json(self.path, content)


def peak_memory(device: torch.device) -> int:
    """Bytes; 0 where the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(
            (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")), None
        )
        if peak is not None:
            return 1024 * int(peak.split()[1])
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak_memory(device: torch.device) -> bool:
    """Lets each of several trainings in one process have its own peak; false where the system does not permit it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True
