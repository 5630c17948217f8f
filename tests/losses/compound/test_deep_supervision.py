"""A loss over the outputs of a network at several resolutions."""

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_seg import SegmentationModule
from lightning_seg.losses import CrossEntropyDiceLoss, CrossEntropyLoss, DeepSupervisionLoss, DiceLoss
from lightning_seg.losses.compound.deep_supervision import target_at_size

VOID = 255


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def outputs(*sizes, channels=3):
    return [torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True) for size in sizes]


def labels(*size):
    target = torch.randint(0, 3, (2, *size))
    target[:, :2] = VOID
    return target


@pytest.mark.parametrize(
    "sizes", [[(8,), (4,)], [(8, 12), (4, 6), (2, 3)], [(9, 7), (5, 4), (3, 2)], [(4, 8, 8), (4, 4, 4), (2, 2, 2)]]
)
def test_it_is_the_weighted_mean_of_the_loss_at_each_resolution(sizes):
    weights = [3.0, 1.0, 0.5][: len(sizes)]
    loss, logits, target = DiceLoss(ignore_index=VOID), outputs(*sizes), labels(*sizes[0])
    # The reference goes through floating point, where 255 and the classes are exact.
    resized = [F.interpolate(target[:, None].double(), size, mode="nearest-exact")[:, 0].long() for size in sizes]
    expected = sum(
        weight * loss(output, small) for weight, output, small in zip(weights, logits, resized, strict=True)
    ) / sum(weights)
    torch.testing.assert_close(DeepSupervisionLoss(loss, weights)(logits, target), expected)


def test_by_default_each_output_weighs_half_of_the_one_before():
    logits, target, loss = outputs((8, 8), (4, 4), (2, 2)), labels(8, 8), CrossEntropyLoss(ignore_index=VOID)
    halving = DeepSupervisionLoss(loss)(logits, target)
    torch.testing.assert_close(halving, DeepSupervisionLoss(loss, [4, 2, 1])(logits, target))
    torch.testing.assert_close(DeepSupervisionLoss(loss)(logits[:1], target), loss(logits[0], target))


def test_a_single_tensor_is_given_to_the_loss_as_it_is():
    (logits,), target, loss = outputs((8, 8)), labels(8, 8), CrossEntropyLoss(ignore_index=VOID)
    assert torch.equal(DeepSupervisionLoss(loss, [1, 0.5])(logits, target), loss(logits, target))


@pytest.mark.parametrize(("before", "after"), [(4, 2), (5, 3), (7, 7), (3, 6), (100, 7)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_a_resized_target_holds_the_nearest_pixels_in_its_own_dtype(before, after, dtype):
    target = torch.randint(0, 2**40, (before,)).to(dtype)
    centers = (torch.arange(after) + 0.5) * before / after
    distance = (centers[:, None] - (torch.arange(before) + 0.5)).abs()
    found = target_at_size(target[None], (after,))[0]
    assert found.dtype == dtype
    # Of two pixels that are equally near, either.
    for value, away in zip(found, distance, strict=True):
        assert value in target[away <= away.min() + 1e-6]


def test_channels_of_the_target_are_kept_with_hard_and_soft_targets():
    logits, binary = outputs((8, 8), (4, 4), channels=1), torch.randint(0, 2, (2, 8, 8))
    with_channel = DeepSupervisionLoss(CrossEntropyLoss(task="binary"))(logits, binary[:, None])
    torch.testing.assert_close(DeepSupervisionLoss(CrossEntropyLoss(task="binary"))(logits, binary), with_channel)

    logits, soft = outputs((8, 8), (4, 4)), torch.rand(2, 3, 8, 8).double().softmax(1)
    soft[:, :, :3] = VOID
    loss = CrossEntropyLoss(ignore_index=VOID)
    expected = (2 * loss(logits[0], soft) + loss(logits[1], soft[:, :, 1::2, 1::2])) / 3
    torch.testing.assert_close(DeepSupervisionLoss(loss)(logits, soft), expected)


def test_an_output_of_weight_0_stays_in_the_graph():
    logits, target = outputs((8, 8), (4, 4)), labels(8, 8)
    DeepSupervisionLoss(CrossEntropyLoss(ignore_index=VOID), [1, 0])(logits, target).backward()
    assert logits[0].grad.any()
    assert torch.equal(logits[1].grad, torch.zeros_like(logits[1]))


def test_it_has_the_task_and_ignore_index_of_its_loss():
    loss = DeepSupervisionLoss(DiceLoss(task="multilabel", ignore_index=VOID))
    assert (loss.task, loss.ignore_index) == ("multilabel", VOID)
    assert not hasattr(DeepSupervisionLoss(nn.MSELoss()), "task")


def test_it_compiles_without_a_graph_break():
    torch.compiler.reset()
    logits, target, loss = outputs((8, 8), (4, 4)), labels(8, 8), DeepSupervisionLoss(DiceLoss(ignore_index=VOID))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@pytest.mark.parametrize(
    ("weights", "sizes", "message"),
    [
        ([1, 0.5], [(8, 8)], "got 1 logits for 2 weights"),
        (None, [], "got no logits"),
        (None, [(4, 4), (8, 8)], r"logits of the sizes \(4, 4\), \(8, 8\) do not go from fine to coarse"),
        (None, [(8, 8), (4, 9)], "do not go from fine to coarse"),
        (None, [(8, 8), (4,)], "do not go from fine to coarse"),
    ],
)
def test_logits_that_do_not_fit_are_refused(weights, sizes, message):
    with pytest.raises(ValueError, match=message):
        DeepSupervisionLoss(CrossEntropyLoss(ignore_index=VOID), weights)(outputs(*sizes), labels(8, 8))


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="a weight=-1 is not a finite number of 0 or more"):
        DeepSupervisionLoss(DiceLoss(), [1, -1])
    with pytest.raises(ValueError, match=r"weights=\[0.0, 0.0\] must not be all 0"):
        DeepSupervisionLoss(DiceLoss(), [0, 0])
    with pytest.raises(ValueError, match=r"reduction='none'; a mean over resolutions needs scalars"):
        DeepSupervisionLoss(CrossEntropyLoss(reduction="none"))


# ---- as its docstring says, in a module


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.heads = nn.ModuleList([nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)])

    def forward(self, image):
        features = self.encoder(image)
        return [head(F.avg_pool2d(features, 2**level)) for level, head in enumerate(self.heads)]


class FinestOutput(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        finest, *self.coarse = self.network(image)
        return finest


class DeeplySupervisedModule(SegmentationModule):
    def compute_loss(self, logits, target):
        return self.loss([logits, *self.backbone.coarse] if self.training else logits, target)


@pytest.fixture
def one_process():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("leaves_out", [False, True])
def test_distributed_data_parallel_finds_every_parameter_in_the_graph(one_process, leaves_out):
    network = nn.parallel.DistributedDataParallel(Network())
    loss, target = DeepSupervisionLoss(CrossEntropyDiceLoss(dice_weight=0, ignore_index=VOID), [1, 0]), labels(8, 8)

    def step():
        logits = network(torch.rand(2, 3, 8, 8))
        (loss.loss(logits[0], target) if leaves_out else loss(logits, target)).backward()

    step()
    if leaves_out:
        with pytest.raises(RuntimeError, match="parameters that were not used in producing loss"):
            step()
    else:
        step()


def test_it_trains_a_module_and_logs_the_terms_at_the_finest_resolution():
    loss = DeepSupervisionLoss(CrossEntropyDiceLoss(ignore_index=VOID))
    module = DeeplySupervisedModule(FinestOutput(Network()), loss, num_classes=3, ignore_index=VOID)
    module.optimizer_factory = lambda groups: torch.optim.SGD(groups, lr=0.0)
    rows = [{"image": torch.rand(3, 8, 8), "mask": mask} for mask in labels(8, 8)]
    loader = DataLoader(rows, batch_size=2)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    run = lightning.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, **options)
    run.fit(module, loader, loader)
    batch = next(iter(loader))
    with torch.no_grad():
        logits = module(batch["image"])
        fine = loss.loss(logits, batch["mask"])
        both = loss([logits, *module.backbone.coarse], batch["mask"])
        ce = CrossEntropyLoss(ignore_index=VOID)(logits, batch["mask"])
    assert run.callback_metrics["val/loss"].item() == pytest.approx(fine.item(), rel=1e-5)
    assert run.callback_metrics["train/loss"].item() == pytest.approx(both.item(), rel=1e-5)
    assert run.callback_metrics["train/loss/cross_entropy"].item() == pytest.approx(ce.item(), rel=1e-5)
