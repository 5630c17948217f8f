"""The files of conf/loss build the losses that they name, with defaults equal to those in Python, where it has any."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_seg import losses
from tests import small_encoder
from tests.compositions import of_choice
from tests.first_step import loss_of_first_step

CONF = Path(__file__).parents[2] / "conf" / "loss"
SINGLE = {
    "boundary": losses.BoundaryLoss,
    "ce": losses.CrossEntropyLoss,
    "ce_dice": losses.CrossEntropyDiceLoss,
    "cldice": losses.SoftClDiceLoss,
    "dice": losses.DiceLoss,
    "focal": losses.FocalLoss,
    "focal_tversky": losses.FocalTverskyLoss,
    "generalized_dice": losses.GeneralizedDiceLoss,
    "hausdorff": losses.HausdorffDistanceLoss,
    "jaccard": losses.JaccardLoss,
    "log_cosh_dice": losses.LogCoshDiceLoss,
    "lovasz": losses.LovaszSoftmaxLoss,
    "lovasz_hinge": losses.LovaszHingeLoss,
    "mcc": losses.MCCLoss,
    "ohem": losses.OhemCrossEntropyLoss,
    "poly": losses.PolyCrossEntropyLoss,
    "topk": losses.TopKCrossEntropyLoss,
    "tversky": losses.TverskyLoss,
}
PAIRS = {
    "ce_lovasz": ("ce", "lovasz"),
    "ce_then_lovasz": ("ce", "lovasz"),
    "dice_boundary": ("dice", "boundary"),
    "dice_cldice": ("dice", "cldice"),
    "focal_dice": ("focal", "dice"),
}
FILES = sorted({**SINGLE, **PAIRS})


def composed(name: str, *overrides: str):
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", [f"loss={name}", *overrides])


def chosen(name: str, **values):
    """The configuration with this loss and other values of its top level."""
    config = deepcopy(of_choice("loss", name))
    config.merge_with(values)
    return config


def build(name: str, *overrides: str, **values):
    return instantiate((composed(name, *overrides) if overrides else chosen(name, **values)).loss)


def tasks(name: str):
    return ("binary", "multilabel") if name == "lovasz_hinge" else ("multiclass", "binary", "multilabel")


def batch(task: str):
    logits = torch.randn(2, 1 if task == "binary" else 3, 8, 8, requires_grad=True)
    return logits, torch.randint(0, 2, (2, 8, 8) if task != "multilabel" else (2, 3, 8, 8))


def test_every_file_is_tested_here():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == sorted([*FILES, "weighted_ce", "custom"])


@pytest.mark.parametrize("name", FILES)
def test_every_file_builds_its_loss_and_steps_in_every_task_it_is_for(name):
    for task in tasks(name):
        loss = build(name, task=task)
        assert type(loss) is SINGLE.get(name, losses.CompoundLoss)
        assert (loss.task, loss.ignore_index) == (task, 255)
        logits, target = batch(task)
        loss(logits, target).backward()
        assert logits.grad is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, "weighted_ce"])
def test_every_file_trains(name, monkeypatch):
    small_encoder.replace(monkeypatch, "resnet18")
    data = {"num_train": 8, "num_val": 2, "num_test": 3, "image_size": 32, "batch_size": 4}
    binary = {"num_classes": 1, "class_names": ["object"]} if name == "lovasz_hinge" else {}
    values = {"data": {**data, **binary}, **({"task": "binary"} if binary else {})}
    assert torch.isfinite(loss_of_first_step(chosen(name, folder=".", **values)))


@pytest.mark.parametrize("name", SINGLE)
def test_a_file_gives_the_defaults_of_python(name):
    torch.manual_seed(0)
    task = tasks(name)[0]
    logits, target = batch(task)
    own = {"alpha": 0.3, "beta": 0.7} if "tversky" in name else {}  # Python has no default for them
    assert torch.equal(build(name, task=task)(logits, target), SINGLE[name](task=task, **own)(logits, target))


def test_weighted_cross_entropy_is_cross_entropy_with_weights_that_are_estimated_or_given():
    assert chosen("weighted_ce").loss.class_weights == "median_frequency"
    torch.manual_seed(0)
    logits, target = batch("multiclass")
    weights = [0.5, 2.0, 1.0]
    loss = build("weighted_ce", f"loss.class_weights={weights}")(logits, target)
    expected = torch.nn.functional.cross_entropy(logits, target, torch.tensor(weights))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_the_sum_of_the_losses_in_its_name(name):
    torch.manual_seed(0)
    loss = build(name)
    assert tuple(loss.terms) == PAIRS[name]
    logits, target = batch("multiclass")
    expected = sum(loss.weights[term] * build(term)(logits, target) for term in PAIRS[name])
    torch.testing.assert_close(loss(logits, target), expected)


def values(node, key: str):
    """The value of a key wherever a configuration has it."""
    children = node.items() if isinstance(node, dict) else ()
    return [found for name, child in children for found in ([child] if name == key else values(child, key))]


@pytest.mark.parametrize("name", FILES)
def test_class_weights_and_sync_dist_are_chosen_once_for_every_loss(name):
    config = chosen(name, class_weights=[1, 2, 3, 4, 5, 6], sync_dist=True)
    loss = OmegaConf.to_container(config, resolve=True)["loss"]
    count = 2 if name in PAIRS else 1
    assert values(loss, "class_weights") == [[1, 2, 3, 4, 5, 6]] * count
    assert values(loss, "sync_dist") == [True] * count


def test_values_of_the_command_line_are_those_that_are_set_here():
    values = ["task=binary", "class_weights=[1,2,3,4,5,6]", "sync_dist=true"]
    expected = chosen("ce_then_lovasz", task="binary", class_weights=[1, 2, 3, 4, 5, 6], sync_dist=True)
    assert composed("ce_then_lovasz", *values) == expected


def test_lists_from_yaml_reach_the_loss():
    loss = build("dice", "loss.classes=[0,2]", "loss.class_weights=[1,2,3]")
    assert loss.classes == (0, 2)
    assert loss.class_weights.tolist() == [1, 2, 3]
    assert build("focal", "loss.alpha=[1,0.5]").alpha.tolist() == [1, 0.5]
    assert build("focal", "loss.alpha=0.25", "task=binary").alpha == 0.25


def test_a_key_of_a_term_can_be_changed_by_itself():
    loss = build("ce_lovasz", "loss.weights.lovasz=0.5", "loss.terms.ce.label_smoothing=0.1", "data.ignore_index=11")
    assert {term.ignore_index for term in loss.terms.values()} == {11}
    assert loss.terms["ce"].label_smoothing == 0.1
    assert loss.weights == {"ce": 1.0, "lovasz": 0.5}


def test_boundary_loss_takes_over_from_dice():
    loss = build("dice_boundary", "trainer.max_epochs=98")
    for epoch, boundary in ((0, 0.01), (1, 0.02), (49, 0.5), (97, 0.98)):
        loss.set_epoch(epoch)
        assert loss.weights == pytest.approx({"dice": 1 - boundary, "boundary": boundary})


def test_lovasz_comes_in_after_cross_entropy():
    loss = build("ce_then_lovasz", "trainer.max_epochs=10", "loss.weights.lovasz.first_epoch=5")
    weights = []
    for epoch in range(10):
        loss.set_epoch(epoch)
        weights.append(loss.weights["lovasz"])
    assert weights == pytest.approx([0, 0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8])
    assert loss.weights["ce"] == 1


def test_cross_entropy_plus_dice_in_equal_parts_is_what_is_trained_with_by_default():
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        loss = instantiate(compose("train").loss)
    assert type(loss) is losses.CrossEntropyDiceLoss
    assert loss.weights == {"cross_entropy": 1.0, "dice": 1.0}
