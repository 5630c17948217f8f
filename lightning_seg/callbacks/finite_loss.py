"""A training whose loss is no longer finite stops, or leaves the step out."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from lightning_seg.files import atomic_write, write_json
from lightning_seg.runs.contents import DIVERGED, DIVERGED_BATCH, LAST
from lightning_seg.text import say


class TrainingDiverged(FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite, and the training has stopped."""


@dataclass
class _Step:
    """A training step whose loss is still to be looked at."""

    step: int
    epoch: int
    batch_index: int
    batch: Any
    learning_rates: list[float]
    loss: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    failed: Tensor | None = None
    copied: "torch.cuda.Event | None" = None


class FiniteLoss(Callback):
    """Stops the training at the first loss that is NaN or infinite, on all processes, or leaves such steps out.

    With `stop`, the error names the step, the terms of the loss, the images of the batch, the learning rate and what
    usually helps. The batch is kept in `diverged.pt`, and `diverged.json` marks the run. No checkpoint is written with
    weights that are not finite, so the one before stays the last. A GPU is not made to wait: whether a loss was finite
    is read while the next step is computed, and before anything is validated or written.

    With `skip`, weights, optimizer, buffers (the statistics of batch normalization) and scores stay as they were before
    a step whose loss or gradient is not finite, up to `max_skipped` steps in a training. This looks at each loss before
    the weights change, for which a GPU has to wait. It needs a module that asks `skip_step` before it logs, as
    `SegmentationModule` does; another one stops. In the precision 16-mixed, gradients are left to the gradient scaler.

    Args:
        folder: of the run.
        action: `stop` or `skip`.
        max_skipped: how many steps are left out before the training stops after all.

    Attributes:
        skipped: how many were left out.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, folder: str | Path, action: Literal["stop", "skip"] = "stop", max_skipped: int = 10) -> None:
        if action not in ("stop", "skip"):
            raise ValueError(f"on_nonfinite={action} is not one of stop, skip.")
        if isinstance(max_skipped, bool) or not isinstance(max_skipped, int) or max_skipped < 1:
            raise ValueError(f"max_skipped_steps={max_skipped} is not a number of steps, 1 or more.")
        self.folder = Path(folder)
        self.action = action
        self.max_skipped = max_skipped
        self.skipped = 0
        self._trainer: Trainer | None = None
        self._step: _Step | None = None
        self._pending: deque[_Step] = deque()
        self._leave_out_batch = False  # its buffers are put back
        self._leave_out_step = False  # no weight changes
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.skipped = state_dict["skipped"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Removes the marks of an earlier end."""
        self._trainer = trainer
        if stage == "fit" and trainer.is_global_zero:
            for name in (DIVERGED, DIVERGED_BATCH):
                (self.folder / name).unlink(missing_ok=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the batches."""
        self._pending.clear()
        self._step, self._buffers = None, []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the batch."""
        rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._step = _Step(trainer.global_step, trainer.current_epoch, batch_idx, batch, sorted(set(rates)))
        if self.action == "skip":
            floating = [buffer for buffer in pl_module.buffers() if buffer.is_floating_point()]
            self._buffers = [(buffer, buffer.clone()) for buffer in floating]
            self._leave_out_batch = False
            self._leave_out_step &= batch_idx % trainer.accumulate_grad_batches != 0

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Looks at the loss: at this one where that costs nothing, else at the one before."""
        if self._step is None or self._leave_out_batch:
            return
        step, self._step = self._step, None
        step.loss, step.terms = loss.detach(), dict(getattr(pl_module, "loss_terms", {}))
        self._post(step)
        self._settle(trainer, pl_module, left=0 if loss.device.type == "cpu" or self.action == "skip" else 1)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the statistics back that a batch which is left out has changed."""
        if self._leave_out_batch:
            with torch.no_grad():
                for buffer, before in self._buffers:
                    buffer.copy_(before)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Leaves the step out: optimizers pass over parameters without a gradient."""
        if self.action != "skip":
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not self._leave_out_step and trainer.precision != "16-mixed":
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if self._any_process(trainer, _not_finite(gradients, trainer)):
                self._count(trainer, f"the gradient of step {trainer.global_step} is not finite")
                self._leave_out_step = True
        if self._leave_out_step:
            for parameter in parameters:
                parameter.grad = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what is left before anything is scored."""
        self._settle(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at what is left before the epoch is logged."""
        self._settle(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how many steps were left out."""
        self._settle(trainer, pl_module)
        if self.skipped and trainer.is_global_zero:
            say(f"{self.skipped} training steps were left out, since their loss or gradient was not finite.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuses to write weights that are not finite."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._settle(trainer, pl_module)
        weights = [parameter.detach() for parameter in pl_module.parameters()]
        if self._any_process(trainer, _not_finite(weights, trainer)):
            raise TrainingDiverged(
                f"the weights are not finite after step {trainer.global_step - 1}, though its loss was: the gradient "
                f"was not. No checkpoint is written with them. {self._ending(trainer)}"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Marks the run, for the tables of sweeps."""
        if isinstance(exception, FloatingPointError) and trainer.is_global_zero:
            mark = {"step": trainer.global_step, "epoch": trainer.current_epoch, "reason": str(exception)}
            write_json(self.folder / DIVERGED, mark)

    def skip_step(self, loss: Tensor) -> bool:
        """Whether the module is to leave the step of this loss out; on all processes, if it is so on any.

        A module asks this before it logs anything of the step.

        Raises:
            TrainingDiverged: too many were left out.
        """
        trainer, step = self._trainer, self._step
        assert trainer is not None
        if self.action != "skip" or step is None:
            return False
        if self._leave_out_batch:  # by a term before
            return True
        if not self._any_process(trainer, not bool(torch.isfinite(loss.detach()).all())):
            return False
        module = trainer.lightning_module
        step.loss, step.terms = loss.detach(), dict(getattr(module, "loss_terms", {}))
        self._count(trainer, self._describe(step, trainer, module).rstrip("."), step)
        self._leave_out_batch = self._leave_out_step = True
        return True

    def _post(self, step: _Step) -> None:
        """Starts to find out whether the loss of any process is not finite."""
        assert step.loss is not None
        failed = (~torch.isfinite(step.loss)).any().to(torch.int32)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Not the strategy's reduction, which has a barrier that a GPU would wait in.
            torch.distributed.all_reduce(failed, torch.distributed.ReduceOp.MAX)
        if failed.is_cuda:
            step.failed = torch.empty_like(failed, device="cpu", pin_memory=True).copy_(failed, non_blocking=True)
            step.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            step.copied.record()
        else:
            step.failed = failed
        self._pending.append(step)

    def _settle(self, trainer: Trainer, pl_module: LightningModule, left: int = 0) -> None:
        """Looks at all noted losses but for the last `left`.

        Raises:
            TrainingDiverged: one is not finite.
        """
        while len(self._pending) > left:
            step = self._pending.popleft()
            if step.copied is not None:
                step.copied.synchronize()
            assert step.failed is not None
            if step.failed:
                raise TrainingDiverged(f"{self._describe(step, trainer, pl_module)} {self._ending(trainer, step)}")

    def _count(self, trainer: Trainer, reason: str, step: _Step | None = None) -> None:
        if self.skipped == self.max_skipped:
            raise TrainingDiverged(
                f"{reason}, and max_skipped_steps={self.max_skipped} were left out before. "
                f"{self._ending(trainer, step)}"
            )
        self.skipped += 1
        if trainer.is_global_zero:
            say(f"{reason}: the step is left out ({self.skipped} of at most {self.max_skipped}).")

    def _any_process(self, trainer: Trainer, failed: bool) -> bool:
        if trainer.world_size == 1:
            return failed
        flag = torch.tensor(int(failed), device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def _describe(self, step: _Step, trainer: Trainer, module: LightningModule) -> str:
        """What was not finite, of the processes where it was; called by all of them."""
        assert step.loss is not None
        own = None
        if not bool(torch.isfinite(step.loss).all()):
            terms = [name for name, value in step.terms.items() if not bool(torch.isfinite(value).all())]
            name = type(getattr(module, "loss", module)).__name__
            own = (float(step.loss), terms or [name], list(_names(step.batch)), list(_not_finite_images(step.batch)))
        found: list[Any] = [own]
        if trainer.world_size > 1:
            found = [None] * trainer.world_size
            torch.distributed.all_gather_object(found, own)
        found = [one for one in found if one is not None]
        value, terms = found[0][:2]
        names = [name for one in found for name in one[2]]
        unusual = [name for one in found for name in one[3]]
        rates = " and ".join(f"{rate:.3g}" for rate in step.learning_rates) or "unknown"
        return (
            f"the loss is {value} in step {step.step} (epoch {step.epoch}, batch {step.batch_index}), by its "
            f"{'terms' if len(terms) > 1 else 'term'} {', '.join(terms)}, with the images "
            f"{', '.join(names) or 'of this batch, which have no names'} and the learning rate {rates}."
            + (f" Not finite themselves: {', '.join(unusual)}." if unusual else "")
        )

    def _ending(self, trainer: Trainer, step: _Step | None = None) -> str:
        """What is kept, and what usually helps; the batch is written by the first process that it was not finite in."""
        kept = ""
        if step is not None:
            kept = f"The batch is kept in {self._keep(step, trainer)}. "
        if (self.folder / LAST).exists():
            kept += f"{self.folder / LAST} holds the last finite weights. "
        advice = ["a lower optimizer.lr", "a warm-up (scheduler.warmup)"]
        if not trainer.gradient_clip_val:
            advice.append("trainer.gradient_clip_val=1")
        if trainer.precision in ("16-mixed", "16-true"):
            advice.append("trainer.precision=bf16-mixed")
        if self.action == "stop":
            advice.append("on_nonfinite=skip where single images are at fault")
        return f"{kept}What usually helps: {', '.join(advice)}."

    def _keep(self, step: _Step, trainer: Trainer) -> Path:
        assert step.loss is not None
        path = self.folder / DIVERGED_BATCH
        ranks: list[Any] = [bool(torch.isfinite(step.loss).all())]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            torch.distributed.all_gather_object(ranks, bool(torch.isfinite(step.loss).all()))
        if ranks.index(False) == trainer.global_rank:
            place = {"step": step.step, "epoch": step.epoch, "batch_index": step.batch_index}
            with atomic_write(path, overwrite=True) as temporary:
                torch.save({**place, "batch": _on_cpu(step.batch)}, temporary)
        return path


def _not_finite(tensors: list[Tensor], trainer: Trainer) -> bool:
    if not tensors:
        return False
    device = trainer.strategy.root_device
    return not bool(torch.stack([torch.isfinite(tensor).all().to(device) for tensor in tensors]).all())


def _names(batch: Any) -> Iterator[str]:
    names = batch.get("name", ()) if isinstance(batch, dict) else ()
    yield from ([names] if isinstance(names, str) else map(str, names))


def _not_finite_images(batch: Any) -> Iterator[str]:
    """The images, by name, that hold NaN or infinities before the network has seen them."""
    images = batch.get("image") if isinstance(batch, dict) else batch[0] if isinstance(batch, list | tuple) else None
    if isinstance(images, Tensor) and images.is_floating_point():
        names = list(_names(batch)) or [f"image {index}" for index in range(len(images))]
        yield from (name for name, image in zip(names, images, strict=False) if not bool(torch.isfinite(image).all()))


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value
