"""What holds for every loss, whatever its formula."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_seg import losses
from lightning_seg.losses import (
    BoundaryLoss,
    CompoundLoss,
    CrossEntropyDiceLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    FocalTverskyLoss,
    GeneralizedDiceLoss,
    HausdorffDistanceLoss,
    JaccardLoss,
    LogCoshDiceLoss,
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    MCCLoss,
    OhemCrossEntropyLoss,
    PolyCrossEntropyLoss,
    SoftClDiceLoss,
    TopKCrossEntropyLoss,
    TverskyLoss,
)
from lightning_seg.losses.region.region_loss import RegionLoss

WEIGHTS = [1.0, 0.5, 2.0, 3.0]


def ce_lovasz(**options):
    terms = {"ce": CrossEntropyLoss(**options), "lovasz": LovaszSoftmaxLoss(**options)}
    return CompoundLoss(terms=terms, weights={"ce": 1.0, "lovasz": 0.5})


class Case(NamedTuple):
    make: Callable[..., nn.Module]
    options: dict
    tasks: tuple[str, ...] = ("multiclass", "multilabel", "binary")

    @property
    def reads_neighbors(self) -> bool:
        """Whether it matters where a pixel is, and not only what its logits and label are."""
        return self.make in (BoundaryLoss, HausdorffDistanceLoss, SoftClDiceLoss)

    @property
    def takes_soft_targets(self) -> bool:
        return self.make in (CrossEntropyLoss, DiceLoss, CrossEntropyDiceLoss) or bool(self.options.get("squared"))


CASES = {
    "ce": Case(CrossEntropyLoss, {}),
    "ce weighted": Case(
        CrossEntropyLoss, {"class_weights": WEIGHTS, "label_smoothing": 0.1}, ("multiclass", "multilabel")
    ),
    "ce per image": Case(CrossEntropyLoss, {"per_image": True, "label_smoothing": 0.1}),
    "ce sum": Case(CrossEntropyLoss, {"reduction": "sum"}),
    "focal": Case(FocalLoss, {}),
    "focal alpha": Case(FocalLoss, {"alpha": 0.25, "gamma": 1.5}, ("multilabel", "binary")),
    "focal alphas": Case(FocalLoss, {"alpha": WEIGHTS, "gamma": 0.5}, ("multiclass",)),
    "focal weighted": Case(FocalLoss, {"class_weights": WEIGHTS, "per_image": True}, ("multiclass", "multilabel")),
    "dice": Case(DiceLoss, {}),
    "dice squared": Case(DiceLoss, {"squared": True, "smooth": 0.0}),
    "dice present": Case(DiceLoss, {"classes": "present", "smooth": 0.0}),
    "dice micro": Case(DiceLoss, {"average": "micro", "per_image": True}),
    "dice micro weighted": Case(DiceLoss, {"average": "micro", "class_weights": WEIGHTS}, ("multiclass", "multilabel")),
    "dice weighted": Case(DiceLoss, {"class_weights": WEIGHTS, "classes": [1, 3]}, ("multiclass", "multilabel")),
    "lovasz": Case(LovaszSoftmaxLoss, {}),
    "lovasz all per image": Case(LovaszSoftmaxLoss, {"classes": "all", "per_image": True}),
    "lovasz weighted": Case(
        LovaszSoftmaxLoss, {"class_weights": WEIGHTS, "classes": [0, 2]}, ("multiclass", "multilabel")
    ),
    "hinge": Case(LovaszHingeLoss, {}, ("binary", "multilabel")),
    "hinge batch": Case(LovaszHingeLoss, {"per_image": False, "classes": "present"}, ("binary", "multilabel")),
    "lovasz sorted": Case(LovaszSoftmaxLoss, {"method": "sort"}),
    "hinge sorted": Case(LovaszHingeLoss, {"method": "sort"}, ("binary", "multilabel")),
    "jaccard": Case(JaccardLoss, {}),
    "jaccard weighted": Case(JaccardLoss, {"class_weights": WEIGHTS, "squared": True}, ("multiclass", "multilabel")),
    "jaccard present": Case(JaccardLoss, {"classes": "present", "smooth": 0.0, "per_image": True}),
    "tversky": Case(TverskyLoss, {"alpha": 0.3, "beta": 0.7}),
    "tversky micro": Case(TverskyLoss, {"alpha": 0.5, "beta": 0.5, "average": "micro", "per_image": True}),
    "focal_tversky": Case(FocalTverskyLoss, {"alpha": 0.3, "beta": 0.7}),
    "focal_tversky weighted": Case(
        FocalTverskyLoss,
        {"alpha": 0.3, "beta": 0.7, "class_weights": WEIGHTS, "gamma": 0.75, "per_image": True},
        ("multiclass", "multilabel"),
    ),
    "generalized_dice": Case(GeneralizedDiceLoss, {}),
    "generalized_dice per image": Case(GeneralizedDiceLoss, {"per_image": True, "classes": "present"}),
    "log_cosh_dice": Case(LogCoshDiceLoss, {}),
    "log_cosh_dice micro": Case(LogCoshDiceLoss, {"average": "micro"}),
    "mcc": Case(MCCLoss, {}),
    "mcc weighted": Case(MCCLoss, {"class_weights": WEIGHTS, "per_image": True}, ("multiclass", "multilabel")),
    "ohem": Case(OhemCrossEntropyLoss, {}),
    "ohem few": Case(OhemCrossEntropyLoss, {"threshold": 0.2, "min_kept": 5}),
    "ohem below the threshold": Case(OhemCrossEntropyLoss, {"min_kept": 0}),
    "ohem weighted": Case(
        OhemCrossEntropyLoss,
        {"class_weights": WEIGHTS, "threshold": 0.5, "min_kept": 0},
        ("multiclass", "multilabel"),
    ),
    "topk": Case(TopKCrossEntropyLoss, {}),
    "topk all": Case(TopKCrossEntropyLoss, {"k": 1}),
    "topk weighted": Case(TopKCrossEntropyLoss, {"class_weights": WEIGHTS, "k": 0.5}, ("multiclass", "multilabel")),
    "poly": Case(PolyCrossEntropyLoss, {}),
    "poly less": Case(PolyCrossEntropyLoss, {"epsilon": -1.0, "per_image": True}),
    "poly weighted": Case(PolyCrossEntropyLoss, {"class_weights": WEIGHTS, "epsilon": 2}, ("multiclass", "multilabel")),
    "poly sum": Case(PolyCrossEntropyLoss, {"reduction": "sum"}),
    "boundary": Case(BoundaryLoss, {"spacing": [2.0, 1.0]}),
    "boundary per image": Case(BoundaryLoss, {"classes": "present", "per_image": True}),
    "hausdorff": Case(HausdorffDistanceLoss, {}),
    "hausdorff per image": Case(HausdorffDistanceLoss, {"classes": "present", "per_image": True, "alpha": 0.7}),
    "cldice": Case(SoftClDiceLoss, {"iterations": 2}),
    "cldice per image": Case(SoftClDiceLoss, {"iterations": 1, "classes": "present", "per_image": True, "smooth": 0.0}),
    "ce_dice": Case(CrossEntropyDiceLoss, {"smooth": 0.5}),
    "ce_lovasz": Case(ce_lovasz, {}),
}


TASKS = "multiclass", "multilabel", "binary"
FIRST = list({case.make: case for case in reversed(CASES.values())}.values())
LIKE_OTHERS = (
    *(JaccardLoss, TverskyLoss, FocalTverskyLoss, GeneralizedDiceLoss, LogCoshDiceLoss, MCCLoss),
    *(FocalLoss, PolyCrossEntropyLoss),
)


def table(where: Callable[[Case], bool] = lambda case: True, *, every_task: bool = True, tasks: Sequence[str] = TASKS):
    """The losses that a test is about, in each of their tasks, or variants in their first one."""
    chosen = [
        (name, case, [task for task in case.tasks if task in tasks]) for name, case in CASES.items() if where(case)
    ]
    return [
        pytest.param(case, task, id=f"{name}-{task}")
        for name, case, of_case in chosen
        for task in (of_case if every_task or case in FIRST else of_case[:1])
    ]


def rows(*tables: list):
    """Parametrizes a test by losses and tasks."""
    return pytest.mark.parametrize(("case", "task"), list(chain(*tables)))


every_loss = rows(table())
# What losses share, and a task does with one variant of a loss as with another.
every_variant = rows(table(every_task=False))


def batch(task: str, ignore_index: int | None = None, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor]:
    """Logits and labels of two images, the second without the last class; some void if `ignore_index` is given."""
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if task == "binary" else 4
    logits = 2 * torch.randn(2, channels, 6, 5, generator=generator, dtype=dtype)
    shape = (2, 6, 5) if task == "multiclass" else logits.shape
    target = torch.randint(0, 4 if task == "multiclass" else 2, shape, generator=generator)
    if task == "multiclass":
        target[1] = target[1].clamp(max=2)
    elif task == "multilabel":
        target[1, -1] = 0
    if ignore_index is not None:
        target[torch.rand(shape, generator=generator) < 0.3] = ignore_index
    return logits, target


def void_of(target: Tensor, logits: Tensor, ignore_index: int) -> Tensor:
    void = target == ignore_index
    return void.unsqueeze(1).expand_as(logits) if void.ndim < logits.ndim else void


def perfect_logits(task: str, target: Tensor) -> Tensor:
    if task == "multiclass":
        return torch.stack([target == label for label in range(4)], 1).double() * 100
    return target.double() * 200 - 100


def value_and_gradient(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


# Abstract, of arguments that have no default, a schedule, and a function.
NOT_BY_DEFAULT = ("Loss", "CompoundLoss", "DeepSupervisionLoss", "LinearWeight", "with_distances")


@pytest.mark.parametrize("name", [name for name in losses.__all__ if name not in NOT_BY_DEFAULT])
def test_every_loss_is_built_with_its_defaults_and_steps(name):
    loss = getattr(losses, name)()
    logits, target = batch(loss.task, dtype=torch.float32)
    value, gradient = value_and_gradient(loss, logits, target)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@every_loss
def test_void_pixels_never_change_value_or_gradient_whatever_logits_hold_there(case, task):
    fillings = torch.tensor([50.0, -50.0, float("inf"), -float("inf"), float("nan")], dtype=torch.float64)
    for ignore_index in (255, -1, 11, 1):
        loss = case.make(task=task, ignore_index=ignore_index, **case.options)
        logits, target = batch(task, ignore_index)
        void = void_of(target, logits, ignore_index)
        if ignore_index in (255, 1):  # of the others void pixels are at the same places
            value, gradient = value_and_gradient(loss, logits, target)
            assert value.isfinite()
            assert gradient[void].eq(0).all()
        anything = fillings[torch.arange(logits.numel()) % len(fillings)].view_as(logits)
        other_value, other_gradient = value_and_gradient(loss, anything.where(void, logits), target)
        assert torch.equal(other_value, value), ignore_index
        assert torch.equal(other_gradient, gradient), ignore_index


@every_loss
def test_void_pixels_count_as_if_they_were_cut_out(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task)
    target[..., 4:, :] = 255
    whole, gradient = value_and_gradient(loss, logits, target)
    cut, cut_gradient = value_and_gradient(loss, logits[..., :4, :], target[..., :4, :])
    torch.testing.assert_close(whole, cut)
    torch.testing.assert_close(gradient[..., :4, :], cut_gradient)


@every_loss
def test_a_logit_that_is_not_a_number_shows_in_the_loss(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task)
    logits[0, 0, 2, 3] = float("nan")
    assert loss(logits, target).isnan()


@every_loss
def test_a_batch_of_void_pixels_gives_zero_attached_to_the_graph(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task)
    value, gradient = value_and_gradient(loss, logits, torch.full_like(target, 255))
    assert value == 0
    assert gradient.eq(0).all()


@every_variant
def test_an_image_of_void_pixels_does_not_dilute_the_others(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task)
    target[1] = 255
    torch.testing.assert_close(loss(logits, target), loss(logits[:1], target[:1]))


@every_variant
def test_inputs_are_bit_identical_afterwards(case, task):
    for ignore_index in (None, 255):
        logits, target = batch(task, ignore_index)
        logits_before, target_before = logits.clone(), target.clone()
        value_and_gradient(case.make(task=task, ignore_index=ignore_index, **case.options), logits, target)
        assert torch.equal(logits, logits_before)
        assert torch.equal(target, target_before)


@every_variant
def test_half_precision_logits_of_50_are_computed_in_float32(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255, dtype=torch.float32)
    dtypes = torch.float16, torch.bfloat16
    for wide, without_autocast in zip(
        (logits.sign() * 50, perfect_logits(task, target).float() / 2), dtypes, strict=True
    ):
        expected = loss(wide, target)
        for dtype in dtypes:
            autocast = dtype != without_autocast
            with torch.autocast("cpu", dtype=dtype, enabled=autocast):
                value, gradient = value_and_gradient(loss, wide.to(dtype), target)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, expected, rtol=0, atol=0)
            assert value.isfinite()
            assert gradient.isfinite().all()


@every_loss
def test_gradcheck_passes_in_float64(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255)
    height, width = (4, 4) if case.reads_neighbors else (2, 3)
    logits, target = logits[..., :height, :width].clone().requires_grad_(), target[..., :height, :width]
    # In a random direction: each of a hundred logits by itself takes a hundred times as long.
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits, fast_mode=True)


@every_variant
def test_more_dimensions_of_one_pixel_change_nothing(case, task):
    options = {name: option for name, option in case.options.items() if name != "spacing"}
    loss = case.make(task=task, ignore_index=255, **options)
    logits, target = batch(task, 255)
    expected, gradient = value_and_gradient(loss, logits, target)
    for dimension in (-3, -2, -1):
        value, other = value_and_gradient(loss, logits.unsqueeze(dimension), target.unsqueeze(dimension))
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(other.squeeze(dimension), gradient)


@rows(table(lambda case: not case.reads_neighbors, every_task=False))
def test_any_number_of_spatial_dimensions_gives_the_same(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255)
    expected, gradient = value_and_gradient(loss, logits, target)
    for spatial in ((30,), (3, 2, 5), (1, 30, 1, 1)):
        value, other = value_and_gradient(
            loss, logits.reshape(*logits.shape[:2], *spatial), target.reshape(*target.shape[:-2], *spatial)
        )
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(other.reshape(gradient.shape), gradient)


@every_variant
def test_pixels_in_a_row_and_without_space_are_taken(case, task):
    loss = case.make(task=task, **{name: option for name, option in case.options.items() if name != "spacing"})
    logits, target = batch(task)
    value = loss(logits[..., 0, 0], target[..., 0, 0])
    torch.testing.assert_close(value, loss(logits[..., :1, :1], target[..., :1, :1]))
    row = loss(logits[..., 0, :], target[..., 0, :])
    torch.testing.assert_close(row, loss(logits[..., :1, :], target[..., :1, :]))


@every_loss
def test_float32_logits_give_nearly_what_they_give_in_float64(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255, dtype=torch.float32)
    value, gradient = value_and_gradient(loss, logits, target)
    expected, expected_gradient = value_and_gradient(loss, logits.double(), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected.float())
    torch.testing.assert_close(gradient, expected_gradient.float(), rtol=1e-4, atol=1e-6)


@every_variant
def test_soft_targets_are_refused_where_they_have_no_meaning(case, task):
    loss = case.make(task=task, **case.options)
    logits, _ = batch(task)
    soft = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    if case.takes_soft_targets:
        assert loss(logits, soft).isfinite()
    else:
        with pytest.raises(TypeError, match=r"does not support soft targets; give .* target.long\(\)"):
            loss(logits, soft)


@every_variant
def test_labels_of_any_integer_type_give_the_same(case, task):
    logits, target = batch(task)
    loss = case.make(task=task, ignore_index=-1, **case.options)
    expected = loss(logits, target)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16):
        assert torch.equal(loss(logits, target.to(dtype)), expected), dtype
    target = target.clamp(max=1)
    assert torch.equal(loss(logits, target.bool()), loss(logits, target))


@every_variant
def test_memory_layout_does_not_matter(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255)
    value, gradient = value_and_gradient(loss, logits, target)
    strided, strided_gradient = value_and_gradient(loss, logits.to(memory_format=torch.channels_last), target)
    torch.testing.assert_close(strided, value)
    torch.testing.assert_close(strided_gradient, gradient)


@pytest.mark.slow
@rows(
    # Options are read by one and the same code for all losses of a family.
    table(lambda case: case.make not in LIKE_OTHERS or case in FIRST, every_task=False, tasks=TASKS[:2]),
    table(lambda case: case is CASES["ce"], tasks=["binary"]),  # whose tensors are given a channel, and then the same
)
def test_it_compiles_without_a_graph_break(case, task, monkeypatch):
    # A fifth of the time: shapes of torch's own operators are computed once for all losses, of ours each time, and the
    # processor's caches are not emptied to log how long guards take.
    of_operators = "torch._subclasses.fake_tensor.FakeTensorMode.cache_clear"
    monkeypatch.setattr(of_operators, lambda: None, raising=False)
    monkeypatch.setattr("torch._dynamo.guards.profile_guard_manager", lambda *_: 0.0, raising=False)
    torch.compiler.reset()
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255)
    # aot_eager traces the backward pass, too, and takes twice as long: where there are operators that others have not.
    has_own = case.reads_neighbors and not case.options.get("per_image") and task == "multiclass"
    backend = "aot_eager" if has_own else "eager"
    value, gradient = value_and_gradient(torch.compile(loss, backend=backend, fullgraph=True), logits, target)
    expected, expected_gradient = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@every_variant
def test_checkpoints_hold_nothing_of_the_loss(case, task):
    assert not case.make(task=task, **case.options).state_dict()


@every_loss
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_something(case, task):
    if case.options.get("label_smoothing"):
        pytest.skip("label smoothing wants no perfect prediction")
    loss = case.make(task=task, ignore_index=255, **case.options)
    _, target = batch(task, 255)
    perfect = perfect_logits(task, target)
    value, gradient = value_and_gradient(loss, perfect, target)
    assert value < 1e-12
    assert loss(-perfect, target) > 0.1
    if isinstance(loss, RegionLoss):
        assert value >= 0
        assert gradient.abs().max() < 1e-8


@every_loss
def test_the_sums_of_batches_give_the_loss_of_all_their_pixels_where_it_is_a_function_of_sums(case, task):
    loss = case.make(task=task, ignore_index=255, **case.options)
    parts = [batch(task, ignore_index=255, seed=seed) for seed in range(3)]
    parts.append((parts[0][0][:0], parts[0][1][:0]))  # a process may have no images
    sums = [loss.summed(*part) for part in parts]
    options = case.options
    if (
        case.reads_neighbors
        or case.make in (OhemCrossEntropyLoss, TopKCrossEntropyLoss)
        or options.get("per_image")
        or getattr(loss, "per_image", False)
        or {"method", "reduction"} & set(options)
    ):
        assert sums == [None] * 4
    else:
        whole = loss(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        value = loss.from_summed(sum(sums[1:], start=sums[0]))
        torch.testing.assert_close(value, whole, rtol=1e-9, atol=1e-12)
        assert not value.requires_grad


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.options.get("per_image")])
def test_per_image_a_batch_is_the_mean_of_its_images(case):
    for task in case.tasks:
        loss = case.make(task=task, ignore_index=255, **case.options)
        logits, target = batch(task, 255)
        logits, target = torch.cat([logits, -logits[:1]]), torch.cat([target, target[:1]])
        single = torch.stack([loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(loss(logits, target), single.mean())
        of_the_batch = case.make(task=task, ignore_index=255, **case.options | {"per_image": False})
        torch.testing.assert_close(of_the_batch(logits[:1], target[:1]), single[0])
        assert not torch.isclose(of_the_batch(logits, target), single.mean())


class _Watch(TorchDispatchMode):
    """Notes the operators that ran and the largest tensor of integers that they made."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: set[str] = set()
        self.largest_integers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators.add(func.overloadpacket.__name__)
        if isinstance(result, Tensor) and not result.is_floating_point() and result.dtype != torch.bool:
            self.largest_integers = max(self.largest_integers, result.numel())
        return result


@rows(table(lambda case: case.make not in (BoundaryLoss, HausdorffDistanceLoss)))  # whose distances come from the host
def test_nothing_waits_for_a_device_and_no_one_hot_is_built(case, task, monkeypatch):
    # The path that CUDA and torch.compile take; on the CPU, looking for labels out of range costs no wait.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    loss = case.make(task=task, ignore_index=255, **case.options)
    logits, target = batch(task, 255)
    logits.requires_grad_()
    with _Watch() as watch:
        value = loss(logits, target)
        value.backward()
    assert not watch.operators & {"_local_scalar_dense", "nonzero", "masked_select", "one_hot", "item"}
    if task == "multiclass" and "asz" not in str(loss):
        # The hardest pixels are found by counting costs in a fixed number of bins.
        counts = 2048 if case.make in (OhemCrossEntropyLoss, TopKCrossEntropyLoss) else 0
        assert watch.largest_integers <= max(target.numel(), counts)


CLASSES = [
    *(DiceLoss, JaccardLoss, TverskyLoss, FocalTverskyLoss, GeneralizedDiceLoss, LogCoshDiceLoss, MCCLoss),
    *(LovaszSoftmaxLoss, BoundaryLoss, HausdorffDistanceLoss, SoftClDiceLoss),
]


@pytest.mark.parametrize("make", CLASSES)
def test_with_present_classes_it_does_not_matter_how_many_others_there_are(make):
    logits, target = batch("multiclass", 255)
    wide = torch.cat([logits, logits.new_full((2, 17, 6, 5), -1000.0)], 1)
    loss = make(classes="present", ignore_index=255)
    value, gradient = value_and_gradient(loss, logits, target)
    wide_value, wide_gradient = value_and_gradient(loss, wide, target)
    torch.testing.assert_close(wide_value, value)
    torch.testing.assert_close(wide_gradient[:, :4], gradient)


@pytest.mark.parametrize("make", CLASSES)
def test_false_positives_of_an_absent_class_cost_with_all_classes_and_nothing_with_present_ones(make):
    # Each channel is by itself, and nothing is true in the last.
    logits, target = batch("multilabel")
    target[:, 3] = 0
    logits[:, 3] = -100
    wrong = logits.clone()
    wrong[:, 3, 1:4, 1:4] = 3
    present, every = make(task="multilabel", classes="present"), make(task="multilabel", classes="all")
    torch.testing.assert_close(present(wrong, target), present(logits, target), rtol=0, atol=0)
    if make is BoundaryLoss:  # a class without outline has no distances
        torch.testing.assert_close(every(wrong, target), every(logits, target), rtol=0, atol=0)
    else:
        assert every(wrong, target) > every(logits, target) + 1e-3


@pytest.mark.parametrize("name", ["ce", "focal", "dice", "jaccard", "generalized_dice", "mcc", "lovasz", "ce_dice"])
def test_the_gradient_is_all_the_memory_of_the_logits_size_that_is_taken(name):
    torch.manual_seed(0)
    logits = torch.randn(2, 16, 256, 512, requires_grad=True)
    target = torch.randint(0, 16, (2, 256, 512))
    loss = CASES[name].make(ignore_index=255)
    with torch.profiler.profile(profile_memory=True) as profile:
        loss(logits, target).backward()
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    size = logits.numel() * 4
    assert size <= peak <= 1.5 * size


def test_a_loss_of_ones_own_that_uses_maps_is_not_evaluated_from_sums():
    class MeanProbability(losses.Loss):
        def from_statistics(self, statistics):
            return statistics.probabilities.mean()

    assert MeanProbability().summed(*batch("multiclass")) is None
