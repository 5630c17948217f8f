"""The LightningModule, by way of a Trainer wherever it matters."""

import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, DistributedSampler

from lightning_seg.losses import (
    BoundaryLoss,
    CompoundLoss,
    CrossEntropyDiceLoss,
    CrossEntropyLoss,
    DiceLoss,
    LinearWeight,
)
from lightning_seg.metrics import MeanIoU
from lightning_seg.module import SegmentationModule
from lightning_seg.schedulers import constant, polynomial
from tests.small_module import CLASSES, VOID, Network, build, images, trainer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# ---- batches and outputs


@pytest.mark.parametrize("as_pair", [False, True], ids=["mapping", "pair"])
def test_it_trains_and_evaluates_on_mappings_and_pairs(as_pair):
    module = build(loss=CrossEntropyDiceLoss(ignore_index=VOID))
    before = module.backbone.head.weight.detach().clone()
    loader = DataLoader(images(5, as_pair), batch_size=2)
    fit = trainer(max_epochs=2)
    fit.fit(module, loader, loader)
    assert not torch.equal(before, module.backbone.head.weight)
    assert 0 <= fit.callback_metrics["val/iou"] <= 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_only_masks_of_bytes_become_whole_numbers_of_64_bits(dtype):
    mask = torch.ones(2, 6, 8, dtype=dtype)
    unpacked = build().unpack({"image": torch.rand(2, 3, 6, 8), "mask": mask})[1]
    assert unpacked.dtype == (torch.int64 if dtype == torch.uint8 else dtype)
    assert torch.equal(unpacked, mask.to(unpacked.dtype))


class Returns(nn.Module):
    """A loss that returns what it is asked to make of the logits."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, logits, target):
        return self.result(logits)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (lambda logits: {"loss": logits.mean()}, "a dict"),
        (lambda logits: (logits.mean(), logits), "a tuple"),
        (lambda logits: 0.5, "a float"),
        (lambda logits: logits.mean((1, 2, 3)), r"a tensor of shape \(2,\)"),
    ],
)
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_loss_that_is_not_one_number_is_refused_by_what_it_is(result, found, stage):
    module, loader = build(loss=Returns(result)), DataLoader(images(2), batch_size=2)
    with pytest.raises(TypeError, match=f"^Returns gives {found} as loss: return a scalar tensor"):
        getattr(trainer(max_epochs=1), stage)(module, loader)


def test_a_loss_of_one_element_is_a_scalar():
    module, loader = build(loss=Returns(lambda logits: logits.mean().reshape(1))), DataLoader(images(2), batch_size=2)
    fit = trainer(max_epochs=1)
    fit.fit(module, loader, loader)
    assert fit.callback_metrics["val/loss"].shape == fit.callback_metrics["train/loss"].shape == ()


def test_terms_of_a_compound_beside_the_loss_are_called_after_it():
    module = build(loss=CrossEntropyDiceLoss(ignore_index=VOID))
    module.other = CompoundLoss(terms={"ce": CrossEntropyLoss()}, weights={"ce": 1.0})
    assert [path for path, _ in module._compound_losses()] == [(), ("other",)]


def test_auxiliary_logits_are_said_not_to_be_trained_and_are_not_scored():
    module = build(Network(wrap=lambda logits: (logits, logits[..., :3, :4])), auxiliary_weight=0)
    image = torch.rand(2, 3, 6, 8)
    with pytest.warns(UserWarning, match="returns 1 auxiliary logits, which are not trained: give module.auxil"):
        trained = module(image)
    assert torch.equal(trained, module.backbone(image)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(module.eval()(image), trained)


@pytest.mark.parametrize(
    ("weight", "weights"), [(0.5, (0.5, 0.5)), ([0.5, 2], (0.5, 2.0)), ([0, 1], (0.0, 1.0))], ids=str
)
def test_auxiliary_logits_are_trained_with_their_weights_at_their_own_resolution(weight, weights):
    module = build(
        Network(wrap=lambda logits: [logits, logits[..., ::2, ::2], logits[..., ::4, ::4]]), auxiliary_weight=weight
    )
    image, mask = torch.rand(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss = module.training_step((image, mask), 0)
    fine, middle, coarse = module.backbone(image)
    # The pixel that holds the center of two is the second, of four the third.
    expected = module.loss(fine, mask) + weights[0] * module.loss(middle, mask[:, 1::2, 1::2])
    expected = expected + weights[1] * module.loss(coarse, mask[:, 2::4, 2::4])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(module.loss_terms["auxiliary"], expected - module.loss(fine, mask))
    assert torch.equal(module.eval()(image), fine)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda logits: logits, "auxiliary_weight has 2 numbers, and the backbone returns 0 auxiliary"),
        (lambda logits: (logits, logits), "auxiliary_weight has 2 numbers, and the backbone returns 1 auxiliary"),
        (lambda logits: (logits, logits[:, :1], logits), "auxiliary logits of 1, 3 channels, but num_classes=3"),
    ],
)
def test_auxiliary_logits_that_do_not_fit_are_refused(wrap, message):
    module = build(Network(wrap=wrap), auxiliary_weight=[1, 1])
    with pytest.raises(ValueError, match=message):
        module.training_step((torch.rand(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))), 0)


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        ({"image": 0, "label": 0}, r"the keys \['image', 'label'\]"),
        (torch.zeros(2, 3, 4, 4), "a Tensor"),
        ((1, 2, 3), "a tuple"),
    ],
)
def test_a_batch_of_another_form_is_refused_by_what_it_is(batch, found):
    with pytest.raises(TypeError, match=f"but got {found}: change the data set or override SegmentationModule.unpack"):
        build().unpack(batch)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_an_image_of_integers_is_refused_with_what_to_give(dtype):
    with pytest.raises(TypeError, match=f"images are {dtype}, expected floating point: for 8 bits, give image / 255"):
        build()(torch.ones(1, 3, 6, 8, dtype=dtype))


def test_an_image_of_integers_may_be_in_the_units_of_mean_and_std():
    image = torch.randint(0, 256, (1, 3, 6, 8), dtype=torch.uint8)
    module = build(mean=[120.0] * 3, std=[60.0] * 3)
    assert torch.equal(module(image), module(image.float()))


def test_an_image_of_float64_is_for_a_network_of_float64():
    with pytest.raises(
        TypeError, match=r"images are torch\.float64 and the network is torch\.float32: give image\.float\(\)"
    ):
        build()(torch.rand(1, 3, 6, 8, dtype=torch.float64))
    assert build().double()(torch.rand(1, 3, 6, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    "wrap", [lambda logits: {"out": logits}, lambda logits: SimpleNamespace(logits=logits)], ids=["out", "logits"]
)
def test_wrapped_outputs_give_the_same_logits_as_a_tensor(wrap):
    plain, wrapped = Network(), Network(wrap)
    wrapped.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 6, 8)
    assert torch.equal(build(wrapped)(image), plain(image))


class TakesLogits(nn.Module):
    """A loss that knows no target."""

    def forward(self, logits):
        return logits.mean()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Returns(lambda logits: logits.detach().mean()), "the loss of Returns has no gradient"),
        (TakesLogits(), r"TakesLogits must be called as loss\(logits, target\), which its forward does not take"),
        (nn.MSELoss(), r"MSELoss cannot be computed of logits \(2, 4, 8, 8\) and a target \(2, 8, 8\) of int64"),
    ],
)
def test_a_loss_that_cannot_be_computed_or_trains_nothing_is_refused(loss, message):
    module = SegmentationModule(nn.Conv2d(3, 4, 1), loss, num_classes=4)
    batch = {"image": torch.rand(2, 3, 8, 8), "mask": torch.zeros(2, 8, 8, dtype=torch.long)}
    with pytest.raises(ValueError, match=message):
        module.training_step(batch, 0)


def test_logits_have_the_images_size_whatever_the_backbones_stride():
    assert build(Network(stride=4))(torch.rand(2, 3, 9, 13)).shape == (2, 3, 9, 13)


@pytest.mark.parametrize("augmented", [False, True])
def test_logits_have_the_size_asked_for(augmented):
    module, image = build(test_time_augmentation=augmented), torch.rand(2, 3, 6, 8)
    assert module(image, (12, 10)).shape == module.predict_logits(image, (12, 10)).shape == (2, 3, 12, 10)


def test_a_backbone_of_other_channels_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="gives 5 channels, but num_classes=3"):
        build(Network(classes=5))(torch.rand(1, 3, 4, 4))


def test_images_are_normalized_by_mean_and_std():
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    image = torch.rand(2, 3, 4, 4)
    seen = build(nn.Identity(), mean=mean, std=std)(image)
    expected = torch.stack([(image[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(seen, expected)


def test_mean_and_std_of_other_channels_than_the_image_has_are_refused():
    with pytest.raises(ValueError, match="the image has 3 channels, and mean and std have 4 and 4 numbers"):
        build(nn.Identity(), mean=[0.5] * 4, std=[0.5] * 4)(torch.zeros(1, 3, 4, 4))


def test_normalization_is_not_part_of_the_weights():
    normalized = build(mean=[0.5] * 3, std=[0.5] * 3)
    build().load_state_dict(normalized.state_dict())


@pytest.mark.parametrize(
    ("task", "classes", "shape"),
    [("multiclass", 3, (2, 4, 5)), ("multilabel", 3, (2, 3, 4, 5)), ("binary", 1, (2, 4, 5))],
)
def test_labels_are_the_most_probable_classes(task, classes, shape):
    module = build(
        task=task, num_classes=classes, class_names=None, loss=CrossEntropyLoss(task=task, ignore_index=VOID)
    )
    logits = torch.randn(2, classes, 4, 5)
    labels, probabilities = module.predict_labels(logits), module.probabilities(logits)
    assert (labels.shape, labels.dtype, probabilities.shape) == (shape, torch.int64, logits.shape)
    if task == "multiclass":
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 4, 5))
        assert torch.equal(labels, probabilities.argmax(dim=1))
    else:
        assert torch.equal(labels.reshape(logits.shape), (probabilities > 0.5).long())


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_logit_of_exactly_0_is_labeled_0(task):
    module = build(task=task, num_classes=1 if task == "binary" else 3, class_names=None, loss=nn.Identity())
    logits = torch.tensor([-1e-6, 0.0, 1e-6]).expand(2, module.num_classes, 3)
    assert module.predict_labels(logits).flatten(0, -2).unique(dim=0).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("form", [lambda image: image, lambda image: {"image": image}, lambda image: (image, 0)])
def test_prediction_takes_images_alone_in_a_mapping_or_first(form):
    module, image = build(), torch.rand(2, 3, 6, 8)
    assert torch.equal(module.predict_step(form(image), 0), module(image).argmax(dim=1))


class OwnValidation(SegmentationModule):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self(batch["image"])


def test_images_in_tiles_may_be_integers_unless_a_step_of_ones_own_reads_them() -> None:
    module = build(Network())
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    labels = module.predict_step({"image": image, "image_top": 255}, 0)
    assert torch.equal(labels, module(image / 255).argmax(dim=1))
    assert module.takes_integers
    own = OwnValidation(Network(), CrossEntropyLoss(), num_classes=module.num_classes)
    assert not own.takes_integers


def evaluated_and_trained(rows, loss):
    """The logged losses of one training step and one validation."""
    torch.manual_seed(0)
    run, loader = trainer(), DataLoader(rows, batch_size=2)
    run.fit(build(loss=loss), loader, loader)
    return {name: run.callback_metrics[name].item() for name in ("train/loss", "val/loss")}


def test_distances_of_a_batch_reach_a_loss_that_needs_them_and_are_computed_where_there_are_none():
    dice, boundary = DiceLoss(ignore_index=VOID), BoundaryLoss(ignore_index=VOID)
    loss = CompoundLoss(terms={"dice": dice, "boundary": boundary}, weights={"dice": 1, "boundary": 1})
    rows = images(2)
    maps = [{**row, "distances": loss.target_distances(row["mask"][None], 3)[0]} for row in rows]
    expected = evaluated_and_trained(rows, loss)
    assert evaluated_and_trained(maps, loss) == pytest.approx(expected, rel=1e-6)
    doubled = evaluated_and_trained([{**row, "distances": 2 * row["distances"]} for row in maps], loss)
    assert doubled["train/loss"] != pytest.approx(expected["train/loss"])
    assert doubled["val/loss"] != pytest.approx(expected["val/loss"])


@pytest.mark.parametrize("loss", [CrossEntropyLoss, CrossEntropyDiceLoss])
def test_a_loss_that_needs_no_distances_ignores_those_of_a_batch(loss):
    rows = images(2)
    maps = [{**row, "distances": torch.zeros(3, 6, 8)} for row in rows]
    loss = loss(ignore_index=VOID)
    assert evaluated_and_trained(maps, loss) == evaluated_and_trained(rows, loss)


def test_a_compute_loss_of_ones_own_is_given_the_target_with_its_distances():
    class Doubled(SegmentationModule):
        def compute_loss(self, logits, target):
            return 2 * super().compute_loss(logits, target)

    row, loss = images(1)[0], BoundaryLoss(ignore_index=VOID)
    batch = {name: value[None] for name, value in row.items() if name != "name"}
    maps = 3 * loss.target_distances(batch["mask"], 3)
    module = Doubled(Network(), loss, num_classes=3, ignore_index=VOID)
    image, target = module.unpack({**batch, "distances": maps})
    logits = module(image)
    assert torch.equal(target, batch["mask"])
    torch.testing.assert_close(module.compute_loss(logits, target), 6 * loss(logits, batch["mask"]))


def test_distances_of_another_shape_are_refused():
    rows = [{**row, "distances": torch.zeros(6, 8)} for row in images(2)]
    with pytest.raises(ValueError, match=r"^distances are .*of shape \(2, 6, 8\).*of shape \(2, 3, 6, 8\)\.$"):
        evaluated_and_trained(rows, BoundaryLoss(ignore_index=VOID))


# ---- arguments that contradict each other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "semantic"}, "task='semantic' is unknown; expected one of"),
        ({"task": "binary"}, "num_classes=3 does not fit task='binary'"),
        ({"num_classes": 1, "class_names": ["a"]}, "num_classes=1 does not fit task='multiclass'"),
        ({"class_names": ["a", "b"]}, "2 class_names were given for num_classes=3"),
        ({"ignore_index": 1}, 'ignore_index=1 is also class 1 "road"'),
        ({"task": "multilabel", "ignore_index": 0}, "ignore_index=0 is also class 0;"),
        ({"loss": CrossEntropyLoss(ignore_index=11)}, "built with ignore_index=11, the module with ignore_index=255"),
        ({"loss": CrossEntropyLoss()}, "built with ignore_index=None, the module with ignore_index=255"),
        ({"loss": CrossEntropyLoss(task="multilabel", ignore_index=VOID)}, "task=multilabel, the module with task=mul"),
        (
            {"loss": CrossEntropyLoss(ignore_index=VOID, class_weights=[1.0, 2.0])},
            r"loss\.class_weights has 2 numbers, and there are 3 classes: give one for each\.",
        ),
        (
            {"loss": CrossEntropyDiceLoss(ignore_index=VOID, classes=[0, 3])},
            r"loss\.classes=\[0, 3\] names class 3, and the 3 classes are 0 to 2\.",
        ),
        (
            {"loss": CrossEntropyDiceLoss(ignore_index=VOID, class_weights=[1.0])},
            r"loss\.terms\.cross_entropy\.class_weights has 1 number, and there are 3 classes",
        ),
        ({"mean": [0.5] * 3}, r"mean=\[0.5, 0.5, 0.5\] and std=None must be given together"),
    ],
)
def test_contradicting_arguments_are_refused_by_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_ignore_index_may_lie_above_or_below_the_classes():
    for ignore_index in (-1, 3, 11):
        build(ignore_index=ignore_index, loss=CrossEntropyLoss(ignore_index=ignore_index))


# ---- optimizer and scheduler


def sgd(lr=0.1):
    return partial(torch.optim.SGD, lr=lr)


def test_the_encoders_learning_rate_is_scaled_and_every_parameter_is_trained_once():
    module = build(optimizer=sgd(), encoder_learning_rate_factor=0.1)
    optimizer = module.configure_optimizers()
    encoder, rest = optimizer.param_groups
    assert (encoder["lr"], rest["lr"]) == pytest.approx((0.01, 0.1))
    assert list(map(id, encoder["params"])) == list(map(id, module.backbone.encoder.parameters()))
    assert list(map(id, rest["params"])) == list(map(id, module.backbone.head.parameters()))


@pytest.mark.parametrize(("factor", "counts"), [(1.0, [2]), (0.1, [1, 2])])
def test_frozen_parameters_are_not_given_to_the_optimizer(factor, counts):
    module = build(optimizer=sgd(), encoder_learning_rate_factor=factor)
    frozen = [module.backbone.encoder.bias] if factor != 1 else module.backbone.encoder.parameters()
    for parameter in frozen:
        parameter.requires_grad_(False)
    assert [len(group["params"]) for group in module.configure_optimizers().param_groups] == counts


def test_the_scheduler_steps_with_the_optimizer_to_the_end_of_the_training():
    seen = []

    class Rates(lightning.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen.append([group["lr"] for group in optimizer.param_groups])

    module = build(
        optimizer=sgd(), scheduler=partial(polynomial, power=1.0, warmup=0.0), encoder_learning_rate_factor=0.1
    )
    fit = trainer(max_epochs=3, accumulate_grad_batches=2, callbacks=[Rates()])
    fit.fit(module, DataLoader(images(5), batch_size=1))
    # Five batches by twos are three steps an epoch.
    expected = [[0.01 * (1 - step / 9), 0.1 * (1 - step / 9)] for step in range(9)]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected))
    assert [group["lr"] for group in fit.optimizers[0].param_groups] == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": partial(torch.optim.AdamW, betas=(2, 0.9))}, "^optimizer: Invalid beta parameter at index 0: 2"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.1, nesterov=True)}, "^optimizer: Nesterov momentum requires a "),
        ({"scheduler": partial(polynomial, power=0.9, warmup=1)}, "^scheduler: scheduler.warmup=1 must be a share"),
    ],
)
def test_what_an_optimizer_or_a_schedule_says_of_its_options_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(max_steps=1).fit(build(**options), DataLoader(images(1)))


def test_a_schedule_over_an_endless_training_is_refused():
    module = build(scheduler=constant)
    with pytest.raises(ValueError, match=r"give trainer.max_epochs or trainer.max_steps"):
        trainer(max_epochs=-1).fit(module, DataLoader(images(1)))


# ---- evaluation


def whole(rows):
    """All images as one batch."""
    return torch.stack([row["image"] for row in rows]), torch.stack([row["mask"] for row in rows])


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("stage", ["val", "test"])
def test_evaluation_does_not_depend_on_the_batch_size(stage, batch_size):
    rows, module = images(5), build()
    loader = DataLoader(rows, batch_size=batch_size)
    run = trainer()
    scores = (run.validate if stage == "val" else run.test)(module, loader, verbose=False)[0]
    image, mask = whole(rows)
    with torch.no_grad():
        logits = module.backbone(image)
    expected = F.cross_entropy(logits, mask, ignore_index=VOID)
    assert scores[f"{stage}/loss"] == pytest.approx(expected.item(), rel=1e-5)
    labels, valid = logits.argmax(dim=1), mask != VOID
    assert scores[f"{stage}/accuracy"] == pytest.approx((labels == mask)[valid].float().mean().item(), rel=1e-6)
    for index, name in enumerate(CLASSES):
        ours, theirs = (labels == index) & valid, mask == index
        iou = (ours & theirs).sum() / (ours | theirs).sum()
        assert scores[f"{stage}/iou/{name}"] == pytest.approx(iou.item(), rel=1e-6)


def test_a_batch_of_nothing_but_void_does_not_spoil_the_loss():
    rows = images(2)
    rows[1]["mask"][:] = VOID
    module = build(loss=nn.CrossEntropyLoss(ignore_index=VOID, reduction="sum"))
    scores = trainer().validate(module, DataLoader(rows, batch_size=1), verbose=False)[0]
    with torch.no_grad():
        expected = module.loss(module.backbone(rows[0]["image"][None]), rows[0]["mask"][None])
    assert scores["val/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_every_score_is_logged_once_an_epoch_for_every_stage_and_class():
    loader, run, module = DataLoader(images(3), batch_size=2), trainer(), build()
    names = {"loss", "iou", "dice", "accuracy"} | {f"{score}/{name}" for score in ("iou", "dice") for name in CLASSES}
    run.fit(module, loader, loader)
    assert set(run.callback_metrics) == {f"{stage}/{name}" for stage in ("train", "val") for name in names} | {"loss"}
    assert set(run.test(module, loader, verbose=False)[0]) == {f"test/{name}" for name in names}


def test_scores_of_an_epoch_forget_the_epoch_before():
    loader, run, module = DataLoader(images(3), batch_size=2), trainer(), build()
    first = run.validate(module, loader, verbose=False)
    assert run.validate(module, loader, verbose=False) == first


@pytest.mark.parametrize(("augmented", "outside"), [(True, 8), (False, 1)])
def test_the_validations_of_a_training_take_one_pass_and_those_outside_the_eight_of_an_augmentation(augmented, outside):
    passes = []

    class Counting(Network):
        def forward(self, image):
            passes.append(self.training)
            return super().forward(image)

    module, loader, run = build(Counting(), test_time_augmentation=augmented), DataLoader(images(1)), trainer()
    run.fit(module, loader, loader)
    assert passes == [True, False]
    for evaluate in (run.validate, run.test, run.predict):
        passes.clear()
        evaluate(module, loader)
        assert passes == [False] * outside


# ---- the terms of a compound loss


def pair(dice=1.0, ce=1.0):
    terms = {"ce": CrossEntropyLoss(ignore_index=VOID), "dice": DiceLoss(ignore_index=VOID)}
    return CompoundLoss(terms=terms, weights={"ce": ce, "dice": dice})


def logged(module, **arguments):
    """What a training whose weights do not move logs of the loss, over batches of two images and of one."""
    run = trainer(**arguments)
    module.optimizer_factory = sgd(lr=0.0)
    run.fit(module, DataLoader(rows := images(3), batch_size=2))
    return rows, {name: value.item() for name, value in run.callback_metrics.items() if name.startswith("train/loss")}


def expected_mean(module, rows, loss):
    with torch.no_grad():
        values = [loss(module(image), mask) for image, mask in (whole(rows[:2]), whole(rows[2:]))]
    return pytest.approx(((2 * values[0] + values[1]) / 3).item(), rel=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_each_term_of_a_compound_is_logged_before_its_weight(compiled):
    torch.compiler.reset()
    loss = pair(dice=0.0, ce=3.0)
    module = build(loss=torch.compile(loss, fullgraph=True, backend="eager") if compiled else loss)
    rows, values = logged(module)
    assert values == {
        "train/loss": expected_mean(module, rows, loss),
        "train/loss/ce": expected_mean(module, rows, loss.terms["ce"]),
        "train/loss/dice": expected_mean(module, rows, loss.terms["dice"]),
    }


def test_the_terms_of_a_compound_within_another_are_logged_below_its_name():
    loss = CompoundLoss(
        terms={"pair": pair(dice=2.0), "more": DiceLoss(ignore_index=VOID)}, weights={"pair": 1, "more": 1}
    )
    module = build(loss=loss)
    rows, values = logged(module)
    assert values == {
        "train/loss": expected_mean(module, rows, loss),
        "train/loss/pair": expected_mean(module, rows, loss.terms["pair"]),
        "train/loss/more": expected_mean(module, rows, loss.terms["more"]),
        "train/loss/pair/ce": expected_mean(module, rows, CrossEntropyLoss(ignore_index=VOID)),
        "train/loss/pair/dice": expected_mean(module, rows, DiceLoss(ignore_index=VOID)),
    }


def test_a_compute_loss_of_ones_own_logs_what_it_calls():
    class Research(SegmentationModule):
        def compute_loss(self, logits, target):
            return 0.4 * self.auxiliary(logits, target) + self.current_epoch

    module = Research(Network(), pair(), num_classes=3, ignore_index=VOID)
    module.auxiliary = pair(dice=LinearWeight(start=0, end=1, first_epoch=0, last_epoch=1))
    _, values = logged(module, max_epochs=2)
    assert values.keys() == {"train/loss", "train/loss/auxiliary/ce", "train/loss/auxiliary/dice"}
    assert module.auxiliary.weights["dice"] == 1


def test_a_compound_that_a_step_does_not_call_is_not_logged_in_it():
    class Alternating(SegmentationModule):
        def compute_loss(self, logits, target):
            return (self.loss if len(logits) == 2 else nn.functional.cross_entropy)(logits, target % 3)

    module = Alternating(Network(), pair(), num_classes=3, ignore_index=VOID)
    rows, values = logged(module)
    image, mask = whole(rows[:2])
    with torch.no_grad():
        expected = DiceLoss(ignore_index=VOID)(module(image), mask % 3)
    assert values["train/loss/dice"] == pytest.approx(expected.item(), rel=1e-5)


# ---- weights that follow a schedule


class WeightsSeen(lightning.Callback):
    """The weight of Dice in each training and validation step, and a stop in the middle of it."""

    def __init__(self, save=None, after=None):
        self.seen, self.save, self.after = [], save, after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(pl_module.loss.weights["dice"])
        if len(self.seen) == self.after:
            trainer.save_checkpoint(self.save)

    def on_train_epoch_end(self, trainer, pl_module):
        if self.after == "epoch 1" and trainer.current_epoch == 1:
            trainer.save_checkpoint(self.save)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.seen.append(-pl_module.loss.weights["dice"])


def ramped():
    return build(loss=pair(dice=LinearWeight(start=1, end=4, first_epoch=0, last_epoch=3)))


def test_training_and_evaluation_use_the_weights_of_the_epoch():
    loader, weights = DataLoader(images(3), batch_size=2), WeightsSeen()
    trainer(max_epochs=3, callbacks=[weights]).fit(ramped(), loader, loader)
    assert weights.seen == [1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3]


@pytest.mark.parametrize(
    ("after", "later"), [(3, [2, 3, 3]), (4, [3, 3]), ("epoch 1", [3, 3])], ids=["middle", "last step", "end"]
)
def test_a_resumed_training_has_the_weights_of_its_epoch(tmp_path, after, later):
    loader = DataLoader(images(3), batch_size=2)
    path = tmp_path / "some.ckpt"
    trainer(max_epochs=2, callbacks=[WeightsSeen(path, after)]).fit(ramped(), loader)
    weights = WeightsSeen()
    trainer(max_epochs=3, callbacks=[weights]).fit(ramped(), loader, ckpt_path=path, weights_only=True)
    assert weights.seen == later


def test_a_checkpoint_is_tested_with_the_weights_of_its_epoch(tmp_path):
    loader, path = DataLoader(images(3), batch_size=2), tmp_path / "some.ckpt"
    trainer(max_epochs=2, callbacks=[WeightsSeen(path, "epoch 1")]).fit(ramped(), loader)
    module = ramped()
    trainer().test(module, loader, ckpt_path=path, weights_only=True, verbose=False)
    assert module.loss.weights == {"ce": 1, "dice": 2}


# ---- scores of the training, and evaluations one after the other


def test_the_scores_of_a_training_are_those_of_its_batches():
    rows, module, run = images(3), build(optimizer=sgd(lr=0.0)), trainer()
    run.fit(module, DataLoader(rows, batch_size=2))
    image, mask = whole(rows)
    with torch.no_grad():
        expected = MeanIoU(num_classes=3, ignore_index=VOID)(module(image), mask)
    assert run.callback_metrics["train/iou"] == pytest.approx(expected.item(), rel=1e-6)


class Interruption(lightning.Callback):
    def on_validation_batch_end(self, *_):
        raise InterruptedError


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss(ignore_index=VOID)], ids=["sums", "mean"])
def test_an_interrupted_evaluation_leaves_nothing_to_the_next(loss):
    loader, module = DataLoader(images(3), batch_size=2), build(loss=loss)
    with pytest.raises(InterruptedError):
        trainer(callbacks=[Interruption()]).validate(module, loader, verbose=False)
    interrupted = trainer().validate(module, loader, verbose=False)[0]["val/loss"]
    assert interrupted == trainer().validate(module, loader, verbose=False)[0]["val/loss"]


def test_the_images_of_a_rank_are_counted_anew_in_every_evaluation():
    rows, module = images(5), build()
    loader = DataLoader(rows, batch_size=2, sampler=DistributedSampler(rows, 2, 1, shuffle=False))
    first = trainer().validate(module, loader, verbose=False)
    assert trainer().validate(module, loader, verbose=False) == first


# ---- images repeated to make ranks even


def test_a_rank_scores_its_own_images_alone():
    rows, module = images(5), build()
    sampler = DistributedSampler(rows, 2, 1, shuffle=False)
    padded = trainer().validate(module, DataLoader(rows, batch_size=2, sampler=sampler), verbose=False)
    assert padded == trainer().validate(module, DataLoader([rows[1], rows[3]], batch_size=2), verbose=False)


def test_distances_of_repeated_images_are_left_out_with_them():
    rows, loss = images(5), BoundaryLoss(ignore_index=VOID)
    maps = [{**row, "distances": 2 * loss.target_distances(row["mask"][None], 3)[0]} for row in rows]
    module, sampler = build(loss=loss), DistributedSampler(rows, 2, 1, shuffle=False)
    padded = trainer().validate(module, DataLoader(maps, batch_size=3, sampler=sampler), verbose=False)
    assert padded == trainer().validate(module, DataLoader([maps[1], maps[3]], batch_size=2), verbose=False)
