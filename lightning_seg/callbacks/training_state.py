"""What of a training a Lightning checkpoint leaves out, and resuming in the middle of an epoch needs.

Per process: the states of the random number generators, of metrics that have been updated, and of the means of logged
values. For all: where Lightning's loops are, in a form that its own resuming takes in every case.
"""

import random
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from lightning_seg.callbacks.resumed_schedule import total_steps

KEY = "training_state"
# What torch's optimizers keep for each number of a parameter, and for a parameter as a whole.
_OF_NUMBERS = {
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta", "sum"),
    *("exp_inf", "prev", "step_size", "ax"),
}


def add_training_state(
    checkpoint: dict[str, Any],
    trainer: Trainer,
    module: LightningModule,
    metrics: Collection[str] | None = None,
    resumed: Mapping[str, Any] | None = None,
) -> None:
    """Adds it to a checkpoint, under `KEY`, as plain data. To be called on all processes.

    Args:
        checkpoint: as Lightning's hooks get it, in a training.
        trainer: the trainer.
        module: the module that is trained.
        metrics: names of the metrics to keep the state of. Default: all that have been updated.
        resumed: the training state of a checkpoint after which nothing was trained yet. What had been logged then still
            waits for the epoch's end.
    """
    ended = _make_loops_resumable(checkpoint["loops"]["fit_loop"], validating=trainer.validating)
    own: dict[str, Any] = {"random": _random_state(trainer), "metrics": {}, "logged": {}}
    if not ended:
        updated = updated_metrics(module)
        own["metrics"] = {name: _state(updated[name]) for name in (updated if metrics is None else metrics)}
        own["logged"] = resumed["processes"][trainer.global_rank]["logged"] if resumed else _logged_sums(trainer)
    processes: list[Any] = [own]
    if trainer.world_size > 1:
        processes = [None] * trainer.world_size
        torch.distributed.all_gather_object(processes, own)
    checkpoint[KEY] = {
        "should_stop": trainer.should_stop,
        "in_epoch": not ended,
        "processes": processes,
        "total_steps": total_steps(trainer),
    }


def restore_training_state(state: Mapping[str, Any], trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Restores the random numbers and the metrics of this process; what was logged, for `restore_logged`."""
    own = state["processes"][trainer.global_rank]
    _restore_random_state(own["random"], trainer)
    metrics = {name: part for name, part in module.named_modules() if isinstance(part, Metric)}
    for name, values in own["metrics"].items():
        _restore_metric(metrics[name], values)
    logged: dict[str, Any] = own["logged"]
    return logged


def check_optimizers(trainer: Trainer, module: LightningModule) -> None:
    """Refuses to go on with optimizers whose state, as it was restored, is not that of their parameters.

    Raises:
        ValueError: it is of another shape, or no tensor.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    for optimizer in trainer.optimizers:
        if not type(optimizer).__module__.startswith("torch.optim."):
            continue  # others may keep a state of fewer numbers by the same names
        for parameter, state in optimizer.state.items():
            for key in state.keys() & (_OF_NUMBERS | {"step"}):
                value, shape = state[key], () if key == "step" else tuple(parameter.shape)
                if not (value is None or (key == "step" and type(value) in (int, float))) and (
                    not isinstance(value, Tensor) or tuple(value.shape) != shape
                ):
                    found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                    raise ValueError(
                        f"{trainer.ckpt_path} cannot be resumed from: its optimizer's {key} of "
                        f"{names.get(parameter, 'a parameter')} is {found}, expected {shape}. Choose another run=NAME, "
                        "or remove it to start again."
                    )


def updated_metrics(module: nn.Module) -> dict[str, Metric]:
    """Metrics inside the module that have been updated since they were reset, by name."""
    for part in module.modules():
        if isinstance(part, MetricCollection):
            part.items(copy_state=False)  # Metrics that share a state get it only when they are asked for.
    parts = module.named_modules()
    return {name: part for name, part in parts if isinstance(part, Metric) and part.update_called}


def restore_logged(logged: Mapping[str, Mapping[str, Any]], trainer: Trainer) -> None:
    """Adds what was logged in the epoch before it was interrupted. To be called after its next step has logged."""
    results = trainer.fit_loop.epoch_loop._results
    for key, earlier in logged.items():
        if key not in results or not results[key].meta.on_epoch:
            continue
        metric = results[key]
        before = earlier["value"].to(metric.value)
        if metric.meta.is_max_reduction or metric.meta.is_min_reduction:
            metric.value = metric.meta.reduce_fx(before, metric.value)
        else:
            metric.value = before + metric.value
        if metric.meta.is_mean_reduction:
            metric.cumulated_batch_size = earlier["batch_size"].to(metric.value.device) + metric.cumulated_batch_size


def log_again(state: Mapping[str, Any], trainer: Trainer, module: LightningModule) -> None:
    """Logs what was logged in an epoch that was interrupted after its last step. For `on_train_epoch_end`."""
    for key, own in state["processes"][trainer.global_rank]["logged"].items():
        value = own["value"]
        if own["batch_size"] is not None:
            parts = [process["logged"][key] for process in state["processes"]] if own["of_all"] else [own]
            value = sum(part["value"] for part in parts) / sum(part["batch_size"] for part in parts)
        module.log(own["name"], value.to(module.device), on_step=False, on_epoch=True, logger=own["logger"])


def _make_loops_resumable(loops: dict[str, Any], *, validating: bool) -> bool:
    """Whether the epoch has ended.

    Lightning 2.6 resumes a training with `max_steps` from the end of an epoch by ending that epoch again, and one from
    the middle of a validation by continuing the latter, whose scores are then those of the rest.
    """
    epochs = loops["epoch_progress"]
    if epochs["current"]["processed"] > epochs["current"]["completed"]:
        for progress in epochs.values():
            progress["completed"] = progress["processed"]
        return True
    if validating:
        first = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        loops["epoch_loop.val_loop.batch_progress"].update(total=first, current=dict(first), is_last_batch=False)
    return False


def _random_state(trainer: Trainer) -> dict[str, Any]:
    name, words, *rest = np.random.get_state(legacy=True)
    device = trainer.strategy.root_device
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": (str(name), [int(word) for word in words], *rest),
    }


def _restore_random_state(state: Mapping[str, Any], trainer: Trainer) -> None:
    device = trainer.strategy.root_device
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    random.setstate(state["python"])
    name, words, *rest = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))


def _state(metric: Metric) -> dict[str, Any]:
    return {"updates": metric.update_count, **{name: _on(value, "cpu") for name, value in metric.metric_state.items()}}


def _restore_metric(metric: Metric, state: Mapping[str, Any]) -> None:
    for name in metric.metric_state:
        setattr(metric, name, _on(state[name], metric.device))
    metric._update_count = state["updates"]


def _on(value: Any, device: str | torch.device) -> Any:
    """A metric's state, a tensor or a list of them, on a device."""
    return value.detach().to(device) if isinstance(value, Tensor) else [_on(part, device) for part in value]


def _logged_sums(trainer: Trainer) -> dict[str, Any]:
    """Of each value whose mean (sum, minimum, maximum) over the epoch is logged: the sums so far, of this process."""
    return {
        key: {
            "name": metric.meta.name,
            "logger": metric.meta.logger and metric.meta.on_epoch,
            "of_all": bool(metric.meta.sync.should),
            "value": metric.value.detach().cpu(),
            "batch_size": metric.cumulated_batch_size.cpu()
            if metric.meta.on_epoch and metric.meta.is_mean_reduction
            else None,
        }
        for key, metric in trainer.fit_loop.epoch_loop._results.items()
        if metric.is_tensor and not metric.meta.is_custom_reduction and not metric.has_reset
    }
