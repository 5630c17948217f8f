"""An encoder is frozen for so many epochs, with its norms, and exactly so under resume."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy

from lightning_seg.callbacks import FreezeEncoder, TrainingInterrupted
from tests.callbacks.stopping import Signal
from tests.callbacks.test_last_checkpoint import BATCHES, check_same_training, fit
from tests.small_module import build

State = dict[str, torch.Tensor]
ENCODER = ["0", "1"]  # a convolution and its norm


def freeze(epochs: int = 1) -> FreezeEncoder:
    return FreezeEncoder(epochs, encoder=ENCODER)


class Watch(lightning.Callback):
    """The weights after each step, and in which mode the norm was in it."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.training: list[bool] = []

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.training.append(pl_module.get_submodule("backbone.1").training)

    def on_train_batch_end(self, trainer: Any, pl_module: lightning.LightningModule, *rest: Any) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_a_frozen_encoder_stays_bit_for_bit_with_its_norms_and_is_trained_afterwards(
    tmp_path: Path, strategy: str
) -> None:
    watch = Watch()
    try:
        fit(tmp_path, freeze(), watch, max_epochs=2, strategy=strategy, val_check_interval=2)
    finally:
        if strategy == "ddp":
            torch.distributed.destroy_process_group()
    assert watch.training == [False] * BATCHES + [True] * BATCHES
    first, frozen, last = watch.states[0], watch.states[BATCHES - 1], watch.states[-1]
    encoder = [name for name in first if name.startswith(("backbone.0.", "backbone.1."))]
    assert len(encoder) == 7
    for name in encoder:
        assert torch.equal(first[name], frozen[name]), name
        assert not torch.equal(frozen[name], last[name]), name
    assert not torch.equal(first["backbone.4.weight"], frozen["backbone.4.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [("on_train_batch_start", 0, 2), ("on_train_epoch_end", 0, None), ("on_train_batch_start", 1, 2)]
)
def test_a_resumed_training_ends_as_one_that_never_stopped(tmp_path: Path, place: Any) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(whole, freeze(), max_epochs=2)
    with pytest.raises(TrainingInterrupted):
        fit(cut, freeze(), Signal(*place), max_epochs=2)
    fit(cut, freeze(), resume=True, max_epochs=2)
    check_same_training(whole, cut)


def test_with_minus_one_it_is_never_trained(tmp_path: Path) -> None:
    watch = Watch()
    trainer = fit(tmp_path, freeze(-1), watch, max_epochs=2)
    assert torch.equal(watch.states[0]["backbone.0.weight"], watch.states[-1]["backbone.0.weight"])
    assert all(parameter.requires_grad for parameter in trainer.lightning_module.parameters())


def test_what_cannot_be_frozen_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Sequential has no part called encoder or backbone"):
        fit(tmp_path, FreezeEncoder(1))
    with pytest.raises(ValueError, match="epochs=-2 must be 0 or more, or -1"):
        FreezeEncoder(-2)

    class Sharded:
        strategy = FSDPStrategy.__new__(FSDPStrategy)

    with pytest.raises(ValueError, match=r"callbacks.freeze works on one device and with DDP, not with FSDPStrategy"):
        FreezeEncoder(1).setup(Sharded(), build(), "fit")  # type: ignore[arg-type]


def test_the_part_is_that_of_the_module_where_none_is_given() -> None:
    class Single:
        strategy: Any = lightning.pytorch.strategies.SingleDeviceStrategy()

    callback, module = FreezeEncoder(1), build(encoder="head")
    callback.on_train_start(Single(), module)  # type: ignore[arg-type]
    assert callback._parameters == list(module.backbone.head.parameters())
