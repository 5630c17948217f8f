"""Weights that follow a schedule over epochs."""

import pytest
import torch
from torch import nn

from lightning_seg.losses import CompoundLoss, CrossEntropyDiceLoss, CrossEntropyLoss, DiceLoss, LinearWeight


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 3, (2, 4, 5))


def ramp(start=0.2, end=1.0, first_epoch=2, last_epoch=6):
    return LinearWeight(start=start, end=end, first_epoch=first_epoch, last_epoch=last_epoch)


def scheduled_pair():
    return CompoundLoss(terms={"ce": CrossEntropyLoss(), "dice": DiceLoss()}, weights={"ce": 2, "dice": ramp(start=0)})


def test_a_linear_weight_is_constant_then_a_straight_line_then_constant():
    assert [ramp()(epoch) for epoch in range(9)] == pytest.approx([0.2, 0.2, 0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    falling = ramp(start=0.99, end=0.01)
    assert [falling(epoch) for epoch in (0, 4, 6, 100)] == pytest.approx([0.99, 0.5, 0.01, 0.01])
    assert ramp(start=0.1, end=0.3)(6) == 0.3


def test_a_linear_weight_of_one_epoch_jumps_there():
    jump = ramp(first_epoch=3, last_epoch=3)
    assert [jump(epoch) for epoch in (0, 2, 3, 4)] == [0.2, 0.2, 1.0, 1.0]
    assert ramp(first_epoch=0, last_epoch=0)(0) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -0.1}, "start=-0.1 is not a finite number of 0 or more"),
        ({"end": float("nan")}, "end=nan is not a finite number"),
        ({"first_epoch": 7}, "first_epoch=7 and last_epoch=6 must be integers, 0 or more, the smaller one first"),
        ({"first_epoch": -1}, "first_epoch=-1 and"),
        ({"last_epoch": 6.0}, "last_epoch=6.0 must be integers"),
        ({"last_epoch": None}, "last_epoch=None must be integers"),
    ],
)
def test_a_linear_weight_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ramp(**arguments)


def test_a_compound_begins_with_the_weights_of_epoch_0_and_follows_set_epoch(batch):
    loss = scheduled_pair()
    assert loss.weights == {"ce": 2.0, "dice": 0.0}
    loss.set_epoch(3)
    assert loss.weights == {"ce": 2.0, "dice": 0.25}
    expected = 2 * CrossEntropyLoss()(*batch) + 0.25 * DiceLoss()(*batch)
    torch.testing.assert_close(loss(*batch), expected)
    torch.testing.assert_close(loss.eval()(*batch), expected)


def test_a_weight_set_by_hand_stays_where_there_is_no_schedule():
    loss = scheduled_pair()
    loss.weights["ce"] = 5.0
    loss.set_epoch(9)
    assert loss.weights == {"ce": 5.0, "dice": 1.0}


def test_set_epoch_reaches_compounds_within_a_compound_and_within_a_module_of_ones_own():
    class Wrapped(nn.Module):
        def __init__(self, loss):
            super().__init__()
            self.inside = loss

        def forward(self, logits, target):
            return self.inside(logits, target)

    inner = CrossEntropyDiceLoss(dice_weight=ramp())
    deep = scheduled_pair()
    outer = CompoundLoss(terms={"pair": inner, "wrapped": Wrapped(deep)}, weights={"pair": 1, "wrapped": ramp()})
    outer.set_epoch(4)
    assert (outer.weights["wrapped"], inner.weights["dice"], deep.weights["dice"]) == pytest.approx((0.6, 0.6, 0.5))


def test_any_function_of_the_epoch_is_a_schedule_and_its_weights_are_checked():
    loss = CompoundLoss(terms={"ce": CrossEntropyLoss()}, weights={"ce": lambda epoch: 1.5 - epoch})
    assert loss.weights == {"ce": 1.5}
    with pytest.raises(ValueError, match=r"weights\['ce'\]\(2\)=-0.5 is not a finite number of 0 or more"):
        loss.set_epoch(2)


def test_a_term_of_weight_0_keeps_its_parameters_in_the_graph(batch):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits, target):
            return (self.scale * logits).square().mean()

    learned = Scaled()
    loss = CompoundLoss(terms={"ce": CrossEntropyLoss(), "learned": learned}, weights={"ce": 1, "learned": 0})
    loss(*batch).backward()
    assert learned.scale.grad == 0


def test_the_last_values_are_those_of_the_terms_before_their_weights_and_without_gradient(batch):
    loss = scheduled_pair()
    loss(*batch)
    assert list(loss.last_values) == ["ce", "dice"]
    torch.testing.assert_close(loss.last_values["ce"], CrossEntropyLoss()(*batch).detach())
    torch.testing.assert_close(loss.last_values["dice"], DiceLoss()(*batch).detach())
    assert not any(value.requires_grad for value in loss.last_values.values())


def test_a_compiled_compound_follows_its_schedule_with_few_graphs(batch):
    torch.compiler.reset()
    graphs = []
    loss = scheduled_pair()
    compiled = torch.compile(loss, fullgraph=True, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    for epoch in range(12):
        loss.set_epoch(epoch)
        torch.testing.assert_close(compiled(*batch), loss(*batch))
        found = loss.last_values
        compiled(*batch)
        torch.testing.assert_close(loss.last_values, found)
    assert len(graphs) <= 3
