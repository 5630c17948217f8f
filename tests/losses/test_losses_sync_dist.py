"""With sync_dist=True, DistributedDataParallel trains on the loss of the joined batch."""

import pytest
import torch
from torch import nn

from lightning_seg.losses import (
    CompoundLoss,
    CrossEntropyDiceLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    OhemCrossEntropyLoss,
    TopKCrossEntropyLoss,
    TverskyLoss,
)
from tests.process_group import run_on_ranks


def compound(**options) -> CompoundLoss:
    terms = {"ce": CrossEntropyLoss, "dice": DiceLoss, "lovasz": LovaszSoftmaxLoss}
    weights = {"ce": 1.0, "dice": 0.5, "lovasz": 2.0}
    return CompoundLoss(terms={name: make(**options) for name, make in terms.items()}, weights=weights)


WEIGHTS = [1.0, 3.0, 0.5]
CASES = {
    "ce": (CrossEntropyLoss, {"class_weights": WEIGHTS, "label_smoothing": 0.1}),
    "ce multilabel": (CrossEntropyLoss, {"task": "multilabel"}),
    "ce sum": (CrossEntropyLoss, {"reduction": "sum"}),
    "ce per image": (CrossEntropyLoss, {"per_image": True}),
    "focal": (FocalLoss, {"alpha": WEIGHTS}),
    "dice": (DiceLoss, {}),
    "dice present": (DiceLoss, {"classes": "present", "smooth": 0.0, "squared": True}),
    "dice micro": (DiceLoss, {"average": "micro"}),
    "dice per image": (DiceLoss, {"per_image": True}),
    "dice multilabel": (DiceLoss, {"task": "multilabel", "class_weights": WEIGHTS}),
    "ce_dice": (CrossEntropyDiceLoss, {}),
    "tversky": (TverskyLoss, {"alpha": 0.5, "beta": 0.5}),
    "jaccard": (JaccardLoss, {"classes": "present"}),
    "ohem": (OhemCrossEntropyLoss, {"min_kept": 5, "threshold": 0.3}),
    "top_k": (TopKCrossEntropyLoss, {"k": 0.3, "class_weights": WEIGHTS}),
    "compound": (compound, {}),
}
for method in ("histogram", "sort"):
    CASES |= {
        f"lovasz {method}": (LovaszSoftmaxLoss, {"method": method, "class_weights": WEIGHTS}),
        f"lovasz {method} per image": (LovaszSoftmaxLoss, {"method": method, "per_image": True}),
        f"lovasz {method} multilabel": (LovaszSoftmaxLoss, {"method": method, "task": "multilabel"}),
        f"hinge {method}": (LovaszHingeLoss, {"method": method, "per_image": False}),
        f"hinge {method} per image": (LovaszHingeLoss, {"method": method}),
    }
TRAINED = {
    "ce": (CrossEntropyLoss, {}),
    "dice": (DiceLoss, {}),
    "focal": (FocalLoss, {}),
    "tversky": (TverskyLoss, {"alpha": 0.5, "beta": 0.5}),
    "lovasz histogram": (LovaszSoftmaxLoss, {"method": "histogram"}),
    "lovasz sort": (LovaszSoftmaxLoss, {"method": "sort"}),
    "compound": (compound, {}),
}
BATCHES = ("uneven", "one rank void", "all void")
# The images of the joined batch that each rank gets, by the number of processes.
PARTS = {2: (slice(0, 1), slice(1, 5)), 3: (slice(0, 1), slice(1, 4), slice(4, 5))}


def task_of(make, options) -> str:
    return "binary" if make is LovaszHingeLoss else options.get("task", "multiclass")


def joined_batch(kind: str, task: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Five images, of which rank 0 gets the first."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(5, 2, 4, 5, generator=generator, dtype=torch.float64)
    shape, high = ((5, 3, 4, 5) if task == "multilabel" else (5, 4, 5)), 3 if task == "multiclass" else 2
    target = torch.randint(0, high, shape, generator=generator)
    target[0][target[0] == 2] = 1  # class 2 is not on rank 0
    target[1, ..., :3] = 255
    target[{"uneven": slice(0), "one rank void": slice(1), "all void": slice(5)}[kind]] = 255
    return image, target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 1, dtype=torch.float64)


def step(model: nn.Module, loss: nn.Module, image, target) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    logits = model(image)
    value = loss(logits[:, 0] if loss.task == "binary" else logits, target)
    value.backward()
    return value.item(), torch.cat([parameter.grad.flatten().clone() for parameter in model.parameters()])


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)
    return nn.Sequential(*layers).double()


def weights_after_ten_steps(model: nn.Module, loss: nn.Module, part: slice = slice(None)) -> torch.Tensor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for seed in range(10):
        image, target = joined_batch(BATCHES[seed % 2], "multiclass", seed)
        step(model, loss, image[part], target[part])
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def train_on_one_rank(rank: int, world_size: int) -> dict[tuple, object]:
    part = PARTS[world_size][rank]
    model = nn.parallel.DistributedDataParallel(network())
    results = {}
    for name, (make, options) in CASES.items():
        for kind in BATCHES:
            image, target = joined_batch(kind, task_of(make, options))
            for sync in (True, False) if kind == "uneven" else (True,):
                loss = make(ignore_index=255, sync_dist=sync, **options)
                results[name, kind, sync] = step(model, loss, image[part], target[part])
    for name, (make, options) in TRAINED.items():
        loss = make(ignore_index=255, sync_dist=True, **options)
        results["trained", name] = weights_after_ten_steps(
            nn.parallel.DistributedDataParallel(two_layers()), loss, part
        )
    image, target = joined_batch("uneven", "multiclass")
    if rank == 0:  # one rank alone, as at the end of an evaluation with an odd number of images
        for make in (DiceLoss, LovaszSoftmaxLoss):
            loss = make(ignore_index=255, sync_dist=True).eval()
            results["eval", make.__name__] = loss(network()(image), target).item()
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each rank found, by the number of processes."""
    return {
        world_size: run_on_ranks(train_on_one_rank, world_size, tmp_path_factory.mktemp("ranks"))
        for world_size in PARTS
    }


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("world_size", PARTS)
def test_processes_have_value_and_gradient_of_the_joined_batch(ranks, world_size, name, kind):
    make, options = CASES[name]
    image, target = joined_batch(kind, task_of(make, options))
    value, gradient = step(network(), make(ignore_index=255, **options), image, target)
    for results in ranks[world_size]:
        synced_value, synced_gradient = results[name, kind, True]
        assert synced_value == pytest.approx(value, rel=1e-6, abs=1e-12)
        torch.testing.assert_close(synced_gradient, gradient, rtol=1e-6, atol=1e-9)
    assert bool(gradient.any()) == (kind != "all void")


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("world_size", PARTS)
def test_ten_steps_lead_to_the_weights_that_the_joined_batch_leads_to(ranks, world_size, name):
    make, options = TRAINED[name]
    expected = weights_after_ten_steps(two_layers(), make(ignore_index=255, **options))
    start = torch.cat([parameter.detach().flatten() for parameter in two_layers().parameters()])
    assert (expected - start).norm() > 0.01
    for results in ranks[world_size]:
        torch.testing.assert_close(results["trained", name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name != "ce sum"])
@pytest.mark.parametrize("world_size", PARTS)
def test_without_sync_dist_it_would_not(ranks, world_size, name):
    make, options = CASES[name]
    image, target = joined_batch("uneven", task_of(make, options))
    _, gradient = step(network(), make(ignore_index=255, **options), image, target)
    assert not torch.allclose(ranks[world_size][0][name, "uneven", False][1], gradient, rtol=1e-3)


def test_evaluation_waits_for_no_other_process(ranks):
    image, target = joined_batch("uneven", "multiclass")
    for make in (DiceLoss, LovaszSoftmaxLoss):
        expected = make(ignore_index=255)(network()(image), target).item()
        for first, *_ in ranks.values():
            assert first["eval", make.__name__] == pytest.approx(expected)


@pytest.mark.parametrize("name", CASES)
def test_in_one_process_it_changes_nothing(name):
    make, options = CASES[name]
    image, target = joined_batch("uneven", task_of(make, options))
    value, gradient = step(network(), make(ignore_index=255, **options), image, target)
    synced_value, synced_gradient = step(network(), make(ignore_index=255, sync_dist=True, **options), image, target)
    assert synced_value == value
    assert torch.equal(synced_gradient, gradient)
