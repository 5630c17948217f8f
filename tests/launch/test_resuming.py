"""Errors of restoring a checkpoint are told from those of the training that it resumes."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_seg.callbacks.last_checkpoint import LastCheckpoint
from lightning_seg.callbacks.training_state import check_optimizers
from lightning_seg.launch.errors import one_line
from lightning_seg.launch.resuming import restoring


class Small(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trainer(tmp_path: Path) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=tmp_path, max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"loops": {}}, "loops lacks 'fit_loop'"),
        ({"loops": {"fit_loop": 5}}, "loops does not hold what is expected there"),
        ({"optimizer_states": [{"state": 1}]}, "optimizer_states lacks 'param_groups'"),
        ({"lr_schedulers": 5}, "lr_schedulers does not hold what is expected there"),
        ({"callbacks": [1]}, "callbacks does not hold what is expected there"),
    ],
)
def test_a_checkpoint_that_cannot_be_restored_is_named_in_one_line(
    tmp_path: Path, trainer: lightning.Trainer, changed: dict[str, Any], reason: str
) -> None:
    path, loader = tmp_path / "last.ckpt", DataLoader(cast(Any, torch.zeros(2, 2)))
    trainer.fit(Small(), loader)
    trainer.save_checkpoint(path)
    torch.save({**torch.load(path, weights_only=True), **changed}, path)
    with pytest.raises(ValueError, match="cannot be resumed from") as raised, restoring(path):
        trainer.fit(Small(), loader, ckpt_path=path, weights_only=True)
    assert one_line(raised.value) == (
        f"{path} cannot be resumed from, as it was damaged, changed, or written by another version ({reason}). Choose "
        "another run=NAME, or remove it to start again."
    )


def test_weights_that_do_not_fit_are_said_with_the_file(tmp_path: Path, trainer: lightning.Trainer) -> None:
    path, loader = tmp_path / "last.ckpt", DataLoader(cast(Any, torch.zeros(2, 2)))
    trainer.fit(Small(), loader)
    trainer.save_checkpoint(path)
    torch.save({**torch.load(path, weights_only=True), "state_dict": {"layer.weight": 5}}, path)
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be resumed from: the weights of")), restoring(path):
        trainer.fit(Small(), loader, ckpt_path=path, weights_only=True)


class Adaptive(Small):
    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


class OfFewerNumbers(torch.optim.Optimizer):
    """An optimizer of one's own, whose state is a number for a whole parameter."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})


def test_the_state_of_an_optimizer_of_ones_own_is_its_own_affair() -> None:
    module = Small()
    optimizer = OfFewerNumbers(module.parameters())
    optimizer.state[module.layer.weight]["exp_avg"] = torch.zeros(())
    check_optimizers(cast(Any, SimpleNamespace(optimizers=[optimizer])), module)


def without(state: dict[str, Any]) -> None:
    del state["exp_avg_sq"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.update(exp_avg=torch.zeros(1, 3)), "exp_avg of layer.weight is of shape (1, 3)"),
        (lambda state: state.update(exp_avg_sq=torch.zeros(2)), "exp_avg_sq of layer.weight is of shape (2,)"),
        (lambda state: state.update(exp_avg="text"), "exp_avg of layer.weight is str, expected (1, 2)"),
        (lambda state: state.update(step=torch.ones(2)), "step of layer.weight is of shape (2,), expected ()"),
        (lambda state: state.update(step=[3]), "(optimizer_states does not hold what is expected there)"),
        (without, "(KeyError: 'exp_avg_sq')"),
        (lambda state: None, ""),
    ],
)
def test_a_state_that_is_not_that_of_its_optimizer_is_refused_before_the_first_step(
    tmp_path: Path, trainer: lightning.Trainer, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    path, loader = tmp_path / "last.ckpt", DataLoader(cast(Any, torch.zeros(2, 2)))
    trainer.fit(Adaptive(), loader)
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    change(content["optimizer_states"][0]["state"][0])
    torch.save(content, path)
    longer = lightning.Trainer(
        default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        callbacks=[LastCheckpoint(tmp_path / "next.ckpt", None)],
    )  # fmt: skip
    module = Adaptive()
    if not reason:
        with restoring(path):
            longer.fit(module, loader, ckpt_path=path, weights_only=True)
        return
    with pytest.raises(ValueError, match=re.escape(reason)) as raised, restoring(path):
        longer.fit(module, loader, ckpt_path=path, weights_only=True)
    assert str(one_line(raised.value)).startswith(f"{path} cannot be resumed from")
    assert torch.equal(module.layer.weight, content["state_dict"]["layer.weight"])


def test_an_error_of_the_training_stays_what_it_is() -> None:
    with pytest.raises(KeyError), restoring(Path("last.ckpt")):
        raise KeyError("of the data")
