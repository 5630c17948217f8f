"""With sync_dist=True, DistributedDataParallel trains on the loss of the joined batch."""

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from lightning_seg.losses import CrossEntropyDiceLoss, CrossEntropyLoss, DiceLoss, FocalLoss

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
}
BATCHES = ("uneven", "one rank void", "all void")


def joined_batch(kind: str, task: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images, of which rank 0 gets the first and rank 1 the others."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    shape, high = ((3, 3, 4, 5), 2) if task == "multilabel" else ((3, 4, 5), 3)
    target = torch.randint(0, high, shape, generator=generator)
    target[0][target[0] == 2] = 1  # class 2 is only on rank 1
    target[1, ..., :3] = 255
    target[{"uneven": slice(0), "one rank void": slice(1), "all void": slice(3)}[kind]] = 255
    return image, target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 1, dtype=torch.float64)


def step(model: nn.Module, loss: nn.Module, image, target) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    value = loss(model(image), target)
    value.backward()
    return value.item(), torch.cat([parameter.grad.flatten().clone() for parameter in model.parameters()])


def train_on_one_of_two_ranks(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(network())
    results = {}
    for name, (make, options) in CASES.items():
        for kind in BATCHES:
            image, target = joined_batch(kind, options.get("task", "multiclass"))
            part = slice(0, 1) if rank == 0 else slice(1, 3)
            for sync in (True, False):
                loss = make(ignore_index=255, sync_dist=sync, **options)
                results[name, kind, sync] = step(model, loss, image[part], target[part])
    image, target = joined_batch("uneven", "multiclass")
    if rank == 0:  # one rank alone, as at the end of an evaluation with an odd number of images
        results["eval"] = DiceLoss(ignore_index=255, sync_dist=True).eval()(network()(image), target).item()
    torch.save(results, f"{folder}/rank{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(train_on_one_of_two_ranks, (str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", BATCHES)
def test_two_processes_have_value_and_gradient_of_the_joined_batch(ranks, name, kind):
    make, options = CASES[name]
    image, target = joined_batch(kind, options.get("task", "multiclass"))
    value, gradient = step(network(), make(ignore_index=255, **options), image, target)
    for results in ranks:
        synced_value, synced_gradient = results[name, kind, True]
        assert synced_value == pytest.approx(value)
        torch.testing.assert_close(synced_gradient, gradient)


@pytest.mark.parametrize("name", [name for name in CASES if name != "ce sum"])
def test_without_sync_dist_it_would_not(ranks, name):
    make, options = CASES[name]
    image, target = joined_batch("uneven", options.get("task", "multiclass"))
    _, gradient = step(network(), make(ignore_index=255, **options), image, target)
    assert not torch.allclose(ranks[0][name, "uneven", False][1], gradient, rtol=1e-3)


def test_evaluation_waits_for_no_other_process(ranks):
    image, target = joined_batch("uneven", "multiclass")
    expected = DiceLoss(ignore_index=255)(network()(image), target).item()
    assert ranks[0]["eval"] == pytest.approx(expected)


def test_in_one_process_it_changes_nothing():
    image, target = joined_batch("uneven", "multiclass")
    logits = network()(image)
    expected = DiceLoss(ignore_index=255)(logits, target)
    assert torch.equal(DiceLoss(ignore_index=255, sync_dist=True)(logits, target), expected)
