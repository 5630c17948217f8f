"""The files of conf/loss build the losses that they name, with defaults equal to those in Python."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_seg import losses

CONF = Path(__file__).parents[2] / "conf" / "loss"
FILES = {
    "ce": losses.CrossEntropyLoss,
    "dice": losses.DiceLoss,
    "focal": losses.FocalLoss,
    "lovasz": losses.LovaszSoftmaxLoss,
    "lovasz_hinge": losses.LovaszHingeLoss,
    "ce_dice": losses.CrossEntropyDiceLoss,
    "ce_lovasz": losses.CompoundLoss,
}


def build(name: str, task: str, overrides: dict | None = None, ignore_index: int | None = 255):
    loss = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), overrides or {})
    config = OmegaConf.create({"task": task, "data": {"ignore_index": ignore_index}, "loss": loss})
    return instantiate(config.loss)


@pytest.mark.parametrize("name", FILES)
def test_every_file_builds_its_loss_and_steps_in_every_task_it_is_for(name):
    assert {path.stem for path in CONF.glob("*.yaml")} >= set(FILES)
    for task in ("binary", "multilabel") if name == "lovasz_hinge" else ("multiclass", "binary", "multilabel"):
        loss = build(name, task)
        assert type(loss) is FILES[name]
        assert (loss.task, loss.ignore_index) == (task, 255)
        logits = torch.randn(2, 1 if task == "binary" else 3, 4, 4, requires_grad=True)
        target = torch.randint(0, 2, (2, 4, 4) if task != "multilabel" else (2, 3, 4, 4))
        loss(logits, target).backward()
        assert logits.grad is not None


@pytest.mark.parametrize("name", [name for name in FILES if name != "ce_lovasz"])
def test_a_file_gives_the_defaults_of_python(name):
    torch.manual_seed(0)
    task = "binary" if name == "lovasz_hinge" else "multiclass"
    logits = torch.randn(2, 1 if task == "binary" else 3, 4, 4)
    target = torch.randint(0, 2, (2, 4, 4))
    assert torch.equal(build(name, task, ignore_index=None)(logits, target), FILES[name](task=task)(logits, target))


def test_lists_from_yaml_reach_the_loss():
    loss = build("dice", "multiclass", {"classes": [0, 2], "class_weights": [1, 2, 3]})
    assert loss.classes == (0, 2)
    assert loss.class_weights.tolist() == [1, 2, 3]
    assert build("focal", "multiclass", {"alpha": [1, 0.5]}).alpha.tolist() == [1, 0.5]
    assert build("focal", "binary", {"alpha": 0.25}).alpha == 0.25


def test_the_terms_of_a_compound_share_task_and_ignore_index():
    loss = build("ce_lovasz", "binary", {"weights": {"lovasz": 0.5}}, ignore_index=11)
    assert {(term.task, term.ignore_index) for term in loss.terms.values()} == {("binary", 11)}
    assert loss.weights == {"ce": 1.0, "lovasz": 0.5}
