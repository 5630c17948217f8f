import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_seg.losses import (
    BoundaryLoss,
    CompoundLoss,
    CrossEntropyDiceLoss,
    CrossEntropyLoss,
    DeepSupervisionLoss,
    DiceLoss,
    FocalLoss,
    HausdorffDistanceLoss,
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    with_distances,
)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits, target = 2 * torch.randn(2, 4, 6, 5, dtype=torch.float64), torch.randint(0, 4, (2, 6, 5))
    target[:, :2] = 255
    return logits, target


def test_it_is_the_weighted_sum_of_its_terms(batch):
    terms = {"ce": CrossEntropyLoss(ignore_index=255), "lovasz": LovaszSoftmaxLoss(ignore_index=255)}
    loss = CompoundLoss(terms=terms, weights={"lovasz": 0.25, "ce": 2})
    expected = 2 * terms["ce"](*batch) + 0.25 * terms["lovasz"](*batch)
    torch.testing.assert_close(loss(*batch), expected)


def test_weights_may_change_during_training(batch):
    terms = {"ce": CrossEntropyLoss(ignore_index=255), "lovasz": LovaszSoftmaxLoss(ignore_index=255)}
    loss = CompoundLoss(terms=terms, weights={"ce": 1, "lovasz": 0})
    torch.testing.assert_close(loss(*batch), terms["ce"](*batch))
    loss.weights["lovasz"] = 1.0
    torch.testing.assert_close(loss(*batch), terms["ce"](*batch) + terms["lovasz"](*batch))


def test_a_module_of_ones_own_and_a_compound_may_be_terms(batch):
    class Spread(nn.Module):
        def forward(self, logits, target):
            return logits.var()

    inner = CrossEntropyDiceLoss(ignore_index=255)
    loss = CompoundLoss(terms={"mine": Spread(), "pair": inner}, weights={"mine": 0.1, "pair": 1})
    torch.testing.assert_close(loss(*batch), 0.1 * batch[0].var() + inner(*batch))
    assert loss.ignore_index == 255
    assert loss.task == "multiclass"


def test_the_pair_forwards_every_option_to_the_terms_it_concerns(batch):
    shared = {"ignore_index": 255, "class_weights": (w for w in [1.0, 2.0, 3.0, 4.0]), "per_image": True}
    dice = {"smooth": 0.25, "squared": True, "average": "micro", "classes": [0, 1, 3]}
    loss = CrossEntropyDiceLoss(cross_entropy_weight=0.5, dice_weight=3, label_smoothing=0.1, **dice, **shared)
    shared["class_weights"] = [1.0, 2.0, 3.0, 4.0]
    expected = 0.5 * CrossEntropyLoss(label_smoothing=0.1, **shared)(*batch) + 3 * DiceLoss(**dice, **shared)(*batch)
    torch.testing.assert_close(loss(*batch), expected)
    synced = CrossEntropyDiceLoss(sync_dist=True, task="multilabel")
    assert all(term.sync_dist and term.task == "multilabel" for term in synced.terms.values())


def test_soft_targets_reach_terms_that_take_them_and_are_refused_by_those_that_do_not(batch):
    logits = batch[0]
    soft = logits.roll(1, 1).softmax(1)
    expected = CrossEntropyLoss()(logits, soft) + DiceLoss()(logits, soft)
    torch.testing.assert_close(CrossEntropyDiceLoss()(logits, soft), expected)
    with_lovasz = CompoundLoss(
        terms={"ce": CrossEntropyLoss(), "lovasz": LovaszSoftmaxLoss()}, weights={"ce": 1, "lovasz": 1}
    )
    with pytest.raises(TypeError, match="does not support soft targets"):
        with_lovasz(logits, soft)


def test_terms_must_agree_on_task_and_ignore_index():
    with pytest.raises(ValueError, match=r"agree on ignore_index: ce has 255, dice has None"):
        CompoundLoss(terms={"ce": CrossEntropyLoss(ignore_index=255), "dice": DiceLoss()}, weights={"ce": 1, "dice": 1})
    with pytest.raises(ValueError, match=r"agree on task: ce has 'multiclass', hinge has 'binary'"):
        CompoundLoss(terms={"ce": CrossEntropyLoss(), "hinge": LovaszHingeLoss()}, weights={"ce": 1, "hinge": 1})


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        ({}, {}, "got no terms"),
        ({"ce": CrossEntropyLoss()}, {"dice": 1}, r"terms are \['ce'\] and weights are for \['dice'\]"),
        ({"ce": CrossEntropyLoss()}, {"ce": -1}, r"weights\['ce'\]=-1 is not a finite number of 0 or more"),
        ({"ce": CrossEntropyLoss()}, {"ce": 0}, "the weights of ce are all 0, so that nothing would be learned"),
        ({"ce": CrossEntropyLoss(reduction="none")}, {"ce": 1}, "the term ce has reduction='none'"),
    ],
)
def test_what_cannot_be_summed_is_refused(terms, weights, message):
    with pytest.raises(ValueError, match=message):
        CompoundLoss(terms=terms, weights=weights)


class _Passes(TorchDispatchMode):
    """Notes the operators that read or write something of the logits' size."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name.startswith("softmax_sums") or name in ("softmax", "_log_softmax", "_softmax", "sigmoid"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_all_terms_share_one_pass_over_the_logits(batch):
    loss = CompoundLoss(
        terms={
            "ce": CrossEntropyLoss(ignore_index=255, label_smoothing=0.1),
            "focal": FocalLoss(ignore_index=255),
            "dice": DiceLoss(ignore_index=255, squared=True),
            "lovasz": LovaszSoftmaxLoss(ignore_index=255),
        },
        weights=dict.fromkeys(("ce", "focal", "dice", "lovasz"), 1),
    )
    logits = batch[0].requires_grad_()
    with _Passes() as passes:
        loss(logits, batch[1]).backward()
    assert passes.names == ["softmax_sums", "softmax_sums_backward"]


# ---- distances of the target that were computed before


class _Mine(nn.Module):
    """A term of one's own, which knows nothing of distances."""

    def forward(self, logits, target):
        return logits.square().mean()


def of_distances(spacing=None):
    """A compound with two terms that read distances, one of them in a compound, and three that do not."""
    shared = {"ignore_index": 255}
    pair = CompoundLoss(
        terms={
            "ce": CrossEntropyLoss(**shared),
            "boundary": BoundaryLoss(spacing=spacing, classes="present", **shared),
        },
        weights={"ce": 1, "boundary": 0.5},
    )
    hausdorff = HausdorffDistanceLoss(spacing=spacing, **shared)
    terms = {"dice": DiceLoss(**shared), "hausdorff": hausdorff, "pair": pair, "mine": _Mine()}
    return CompoundLoss(terms=terms, weights={"dice": 1, "hausdorff": 0.1, "pair": 2, "mine": 0.1})


@pytest.mark.parametrize("spacing", [None, [2.0, 1.0]])
def test_distances_computed_before_reach_the_terms_that_read_them_and_change_nothing(batch, spacing, monkeypatch):
    logits, target = batch
    loss = of_distances(spacing)
    (expected_gradient,) = torch.autograd.grad(expected := loss(logits.requires_grad_(), target), logits)
    expected_values = loss.last_values
    distances = loss.target_distances(target, 4)
    assert torch.equal(distances, loss.terms["hausdorff"].target_distances(target, 4))
    seen = []
    monkeypatch.setattr(BoundaryLoss, "distances_of", lambda *arguments: seen.append(arguments))
    value = loss(logits, with_distances(target, distances))
    assert not seen  # no term computed its own
    (gradient,) = torch.autograd.grad(value, logits)
    # They are kept in float32.
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9)
    for name, term_value in expected_values.items():
        torch.testing.assert_close(loss.last_values[name], term_value, rtol=1e-6, atol=0)
    assert not torch.isclose(loss(logits, with_distances(target, 2 * distances)), expected)


def test_distances_that_do_not_fit_are_refused(batch):
    logits, target = batch
    with pytest.raises(
        ValueError, match=r"^distances are .*of shape \(2, 6, 5\).*floating point of shape \(2, 4, 6, 5\)\.$"
    ):
        of_distances()(logits, with_distances(target, torch.zeros(2, 6, 5)))


def test_a_compound_without_such_terms_takes_the_target_as_it_is_and_gives_no_distances(batch):
    loss, (logits, target) = CrossEntropyDiceLoss(ignore_index=255), batch
    assert loss(logits, with_distances(target, torch.zeros(2, 4, 6, 5))) == loss(logits, target)
    with pytest.raises(ValueError, match=r"^no term of \['cross_entropy', 'dice'\] takes distances\.$"):
        loss.target_distances(target, 4)


def test_it_compiles_with_a_target_that_carries_distances(batch):
    torch.compiler.reset()
    terms = {"ce": CrossEntropyLoss(ignore_index=255), "boundary": BoundaryLoss(ignore_index=255)}
    loss, (logits, target) = CompoundLoss(terms=terms, weights={"ce": 1, "boundary": 1}), batch
    carrying = with_distances(target, 3 * loss.target_distances(target, 4))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, carrying), loss(logits, carrying))
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@pytest.mark.parametrize("loss", [of_distances(), BoundaryLoss(ignore_index=255)], ids=["compound", "alone"])
def test_distances_as_a_third_argument_still_work_with_a_warning(batch, loss):
    logits, target = batch
    distances = 2 * loss.target_distances(target, 4)
    with pytest.warns(FutureWarning, match=r"use loss\(logits, lightning_seg\.losses\.with_distances\(") as warned:
        value = loss(logits, target, distances)
    assert value == loss(logits, with_distances(target, distances))
    assert warned[0].filename == __file__


@pytest.mark.parametrize("options", [{"spacing": [1.0, 2.0]}, {"classes": [1, 2]}])
def test_terms_that_read_different_distances_share_none(batch, options):
    terms = {
        "boundary": BoundaryLoss(ignore_index=255),
        "hausdorff": HausdorffDistanceLoss(ignore_index=255, **options),
    }
    loss = CompoundLoss(terms=terms, weights=dict.fromkeys(terms, 1))
    torch.testing.assert_close(loss(*batch), terms["boundary"](*batch) + terms["hausdorff"](*batch))
    with pytest.raises(
        ValueError, match=r"^the terms need different distances .*spacing=None, classes=all.*equal options"
    ):
        loss.target_distances(batch[1], 4)


def test_the_sums_of_a_compound_within_a_compound_give_its_loss():
    focal, lovasz = FocalLoss(gamma=1.5, ignore_index=255), LovaszSoftmaxLoss(ignore_index=255)
    inner = CompoundLoss(terms={"focal": focal, "lovasz": lovasz}, weights={"focal": 1.0, "lovasz": 0.5})
    outer = CompoundLoss(
        terms={"inner": inner, "other": FocalLoss(gamma=0.5, ignore_index=255)}, weights={"inner": 2.0, "other": 1.0}
    )
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (4, 6, 5), generator=generator)
    sums = outer.summed(logits[:1], target[:1]) + outer.summed(logits[1:], target[1:])
    torch.testing.assert_close(outer.from_summed(sums), outer(logits, target))


def test_a_compound_with_a_term_of_another_library_is_not_a_function_of_sums():
    loss = CompoundLoss(terms={"ce": torch.nn.CrossEntropyLoss()}, weights={"ce": 1.0})
    assert loss.summed(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3).long()) is None


def nested(name):
    dice, ce = DiceLoss(ignore_index=255), CrossEntropyLoss(ignore_index=255)
    inner = CompoundLoss(terms={name: dice, "ce": ce}, weights={name: 1.0, "ce": 1.0})
    terms = {"loss": inner, "terms": DiceLoss(ignore_index=255)}
    return CompoundLoss(terms=terms, weights={"loss": 1.0, "terms": 3.0})


def test_terms_are_named_by_their_way_from_the_outermost_compound(batch):
    loss = nested("loss")
    loss(*batch)
    dice, ce = DiceLoss(ignore_index=255)(*batch), CrossEntropyLoss(ignore_index=255)(*batch)
    expected = {"loss": dice + ce, "loss/loss": dice, "loss/ce": ce, "terms": dice}
    assert loss.named_values().keys() == expected.keys()
    for name, value in loss.named_values().items():
        torch.testing.assert_close(value, expected[name])


def test_named_values_have_no_gradient_and_can_be_forgotten(batch):
    logits, target = batch
    loss = nested("loss")
    loss(logits.detach().clone().requires_grad_(), target).backward()
    assert not any(value.requires_grad for value in loss.named_values().values())
    loss.forget_values()
    assert loss.named_values() == {}


def test_a_compound_within_another_module_is_named_after_its_term(batch):
    loss = CompoundLoss(terms={"deep": DeepSupervisionLoss(nested("dice"))}, weights={"deep": 1.0})
    loss(*batch)
    assert list(loss.named_values()) == ["deep", "deep/loss", "deep/loss/dice", "deep/loss/ce", "deep/terms"]


def test_a_term_that_is_nan_shows_in_the_sum(batch):
    class Broken(torch.nn.Module):
        def forward(self, logits, target):
            return logits.sum() * torch.nan

    terms = {"dice": DiceLoss(ignore_index=255), "broken": Broken()}
    loss = CompoundLoss(terms=terms, weights={"dice": 1.0, "broken": 0.5})
    assert loss(*batch).isnan()
    assert loss.named_values()["broken"].isnan()
