"""Schedules against their closed forms, and through a training."""

import math
from functools import partial

import pytest
import torch

from lightning_seg import schedulers
from lightning_seg.schedulers import plateau

STEPS = 40
HIGHEST = (0.1, 0.01)


def learning_rates(schedule, steps=STEPS):
    """The learning rates of both groups in each of the steps."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in HIGHEST]
    optimizer = torch.optim.SGD(
        [{"params": [parameter], "lr": lr} for parameter, lr in zip(parameters, HIGHEST, strict=True)]
    )
    scheduler = schedule(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return torch.tensor(rates, dtype=torch.float64), [group["lr"] for group in optimizer.param_groups]


def expected(share):
    return torch.tensor([[share(step) * lr for lr in HIGHEST] for step in range(STEPS)], dtype=torch.float64)


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_polynomial_follows_its_formula_to_zero(power):
    rates, last = learning_rates(partial(schedulers.polynomial, power=power, warmup=0.0))
    torch.testing.assert_close(rates, expected(lambda step: (1 - step / STEPS) ** power))
    assert last == pytest.approx([0, 0], abs=1e-12)


def test_cosine_follows_its_formula_to_zero():
    rates, last = learning_rates(partial(schedulers.cosine, warmup=0.0))
    torch.testing.assert_close(rates, expected(lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2))
    assert last == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize(
    ("schedule", "fall"),
    [
        (partial(schedulers.polynomial, power=0.9), lambda share: (1 - share) ** 0.9),
        (schedulers.cosine, lambda share: (1 + math.cos(math.pi * share)) / 2),
    ],
    ids=["polynomial", "cosine"],
)
def test_warmup_rises_in_a_line_and_the_rest_falls_to_zero(schedule, fall):
    warm = STEPS // 4
    rates, last = learning_rates(partial(schedule, warmup=0.25))

    def share(step):
        if step < warm:
            return 1 / warm + (1 - 1 / warm) * step / warm
        return fall((step - warm) / (STEPS - warm))

    torch.testing.assert_close(rates, expected(share))
    assert last == pytest.approx([0, 0], abs=1e-12)


def test_one_cycle_peaks_at_the_optimizers_learning_rates():
    rates, _ = learning_rates(partial(schedulers.one_cycle, warmup=0.25))
    torch.testing.assert_close(rates.amax(dim=0), torch.tensor(HIGHEST, dtype=torch.float64))
    assert rates[:, 0].argmax() == 0.25 * STEPS - 1
    assert (rates[-1] < rates[0]).all()


def test_constant_stays():
    rates, _ = learning_rates(schedulers.constant)
    torch.testing.assert_close(rates, expected(lambda step: 1.0))


@pytest.mark.parametrize("schedule", [partial(schedulers.polynomial, power=0.9), schedulers.cosine])
@pytest.mark.parametrize("warmup", [-0.1, 1.0, 500])
def test_a_warmup_that_is_not_a_share_is_refused(schedule, warmup):
    with pytest.raises(ValueError, match=f"scheduler.warmup={warmup} must be a share"):
        learning_rates(partial(schedule, warmup=warmup))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.9])
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
def test_the_shortest_trainings_have_a_schedule(steps, warmup):
    for schedule in (partial(schedulers.polynomial, power=0.9), schedulers.cosine):
        rates, _ = learning_rates(partial(schedule, warmup=warmup), steps)
        assert (rates > 0).all()


def test_on_a_plateau_the_rates_of_all_groups_are_lowered_after_the_patience() -> None:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (0.1, 0.01)]
    optimizer = torch.optim.SGD(groups)
    scheduler = plateau(optimizer, 0, monitor="val/iou", mode="max", factor=0.5, patience=1, min_delta=0.01)
    rates = []
    for score in (0.5, 0.6, 0.605, 0.6, 0.7):  # the third and fourth are no improvement
        scheduler.step(score)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates == [[0.1, 0.01]] * 3 + [[0.05, 0.005]] * 2


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_a_factor_that_does_not_lower_a_rate_is_refused(factor: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)])
    with pytest.raises(ValueError, match=rf"scheduler.factor={factor} must be above 0 and less than 1"):
        plateau(optimizer, 0, monitor="val/iou", mode="max", factor=factor, patience=1, min_delta=0.0)


@pytest.mark.parametrize(
    ("kind", "options", "rates"),
    [
        (torch.optim.lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.5}, [1.0, 1.0, 0.5, 0.5, 0.25]),
        (torch.optim.lr_scheduler.LinearLR, {"start_factor": 0.5, "total_iters": 2}, [0.5, 0.75, 1.0, 1.0, 1.0]),
        (torch.optim.lr_scheduler.OneCycleLR, {"max_lr": 1.0, "pct_start": 0.5, "anneal_strategy": "linear"}, None),
        (torch.optim.lr_scheduler.CosineAnnealingLR, {}, [(1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]),
        (torch.optim.lr_scheduler.PolynomialLR, {}, [1.0, 0.8, 0.6, 0.4, 0.2]),
        (torch.optim.lr_scheduler.PolynomialLR, {"total_iters": 2}, [1.0, 0.5, 0.0, 0.0, 0.0]),
    ],
)
def test_schedulers_of_torch_are_given_what_they_ask_for(kind, options, rates):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedulers.schedule(partial(kind, **options), optimizer, 5)
    found = []
    for _ in range(5):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step() if len(found) < 5 else None
    if rates is None:
        assert made.total_steps == 5
    else:
        assert found == pytest.approx(rates)


def test_schedules_that_cannot_be_made_are_refused_in_one_line():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="follows a score: take scheduler=plateau"):
        schedulers.schedule(torch.optim.lr_scheduler.ReduceLROnPlateau, optimizer, 5)
    with pytest.raises(ValueError, match=r"StepLR cannot be made of .* 'step_size'"):
        schedulers.schedule(torch.optim.lr_scheduler.StepLR, optimizer, 5)
