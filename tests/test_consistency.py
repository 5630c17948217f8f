"""The module whose predictions learn to rotate with the image."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg import ConsistencyModule, SegmentationModule
from lightning_seg.d4 import SYMMETRIES
from lightning_seg.data import ShapesDataModule
from lightning_seg.losses import CrossEntropyDiceLoss, CrossEntropyLoss, LinearWeight


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def module(network, weight=1.0, task="multiclass", kind=ConsistencyModule, **options):
    classes = 1 if task == "binary" else 3
    if kind is ConsistencyModule:
        options["consistency_weight"] = weight
    return kind(
        network,
        CrossEntropyLoss(task=task, ignore_index=255),
        num_classes=classes,
        task=task,
        ignore_index=255,
        **options,
    )


def convolution(classes=3, kernel=3):
    return nn.Conv2d(3, classes, kernel, padding=kernel // 2).double()


def symmetric_convolution(classes=3):
    """A kernel that is the mean of its eight orientations, which makes the convolution equivariant."""
    layer = convolution(classes)
    with torch.no_grad():
        layer.weight.copy_(sum(symmetry(layer.weight) for symmetry in SYMMETRIES) / 8)
    return layer


IMAGE = torch.rand(2, 3, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_an_equivariant_network_is_consistent_and_another_is_not(task):
    classes = 1 if task == "binary" else 3
    for _ in range(10):
        assert module(symmetric_convolution(classes), task=task).inconsistency(IMAGE) < 1e-12
        assert module(convolution(classes), task=task).inconsistency(IMAGE) > 1e-6


def test_value_and_gradient_are_those_of_the_formula_with_a_fixed_target():
    layer = convolution()
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        (gradient,) = torch.autograd.grad(value := module(layer).inconsistency(IMAGE), [layer.weight])
        # By hand: which of the seven it was, the value tells.
        for turns, mirrored in [(k, m) for k in range(4) for m in (False, True)][1:]:
            turned = (IMAGE.flip(3) if mirrored else IMAGE).rot90(turns, (2, 3))
            fixed = layer(IMAGE).softmax(1).detach()
            fixed = (fixed.flip(3) if mirrored else fixed).rot90(turns, (2, 3))
            expected = ((layer(turned).softmax(1) - fixed) ** 2).sum() / (2 * 6 * 9)
            if torch.isclose(expected, value, rtol=1e-10):
                torch.testing.assert_close(gradient, torch.autograd.grad(expected, [layer.weight])[0])
                seen.add((turns, mirrored))
    assert len(seen) == 7


def batches(unlabeled):
    batch = {"image": torch.rand(2, 3, 8, 8), "mask": torch.randint(0, 3, (2, 8, 8))}
    return [{**batch, "unlabeled": torch.rand(2, 3, 8, 8)} if unlabeled else batch]


def one_epoch(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet, **options)


def trained_step(training, batch):
    """Weights after one step, and what was logged."""
    trainer = one_epoch()
    trainer.fit(training, DataLoader(batch, batch_size=None))
    return training.backbone.weight.detach().clone(), trainer.callback_metrics


def test_unlabeled_images_are_trained_on_and_void_pixels_too():
    network = convolution().float()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    results = []
    for unlabeled, void in ((False, False), (True, False), (False, True)):
        torch.manual_seed(3)
        (batch,) = batches(unlabeled)
        if void:
            batch["mask"].fill_(255)
        network.load_state_dict(start)
        torch.manual_seed(4)
        results.append(trained_step(module(network, 5.0), [batch]))
    labeled, both, nothing_but_void = results
    assert not torch.equal(labeled[0], both[0])
    # Without a single label the supervised loss is 0, and the term remains as it was.
    assert nothing_but_void[1]["train/loss"] == 0
    assert nothing_but_void[1]["train/loss/consistency"] == labeled[1]["train/loss/consistency"] > 0
    assert not torch.equal(nothing_but_void[0], start["weight"])


def test_weight_zero_trains_as_the_plain_module_does():
    network = convolution().float()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    weights = []
    for training in (module(network, 0.0), module(network, kind=SegmentationModule)):
        network.load_state_dict(start)
        torch.manual_seed(3)
        after, logged = trained_step(training, batches(unlabeled=False))
        assert "train/loss/consistency" not in logged
        assert not training.requires_unlabeled
        weights.append(after)
    assert torch.equal(*weights)


def test_the_weight_follows_a_schedule_over_epochs():
    training = module(convolution(), LinearWeight(start=0.0, end=2.0, first_epoch=0, last_epoch=4))
    assert training.requires_unlabeled
    assert training.consistency_weight == 0
    training.set_epoch(3)
    assert training.consistency_weight == 1.5


def test_the_weights_of_the_loss_follow_their_schedules_too():
    ramp = LinearWeight(start=0.0, end=2.0, first_epoch=0, last_epoch=4)
    loss = CrossEntropyDiceLoss(ignore_index=255, dice_weight=ramp)
    training = ConsistencyModule(convolution(), loss, num_classes=3, ignore_index=255, consistency_weight=1.0)
    training.set_epoch(3)
    assert loss.weights["dice"] == 1.5


@pytest.mark.parametrize("unlabeled", [False, True])
def test_a_step_adds_the_weighted_term_of_all_of_its_images(unlabeled):
    (batch,) = batches(unlabeled)
    seen = []

    class Fixed(ConsistencyModule):
        def inconsistency(self, image):
            seen.append(image)
            return self.backbone.weight.new_tensor(10.0)

        def log(self, *_, **__):
            pass

    training = Fixed(convolution().float(), CrossEntropyLoss(), num_classes=3, consistency_weight=0.25)
    supervised = training.compute_loss(training(batch["image"]), batch["mask"])
    torch.testing.assert_close(training.training_step(batch, 0), supervised + 2.5)
    expected = [batch["image"], batch["unlabeled"]] if unlabeled else [batch["image"]]
    assert torch.equal(seen[0], torch.cat(expected))


def test_the_term_is_computed_in_float32_whatever_the_logits():
    class Half(nn.Conv2d):
        def forward(self, image):
            return super().forward(image).bfloat16()

    assert module(Half(3, 3, 1)).inconsistency(IMAGE.float()).dtype == torch.float32


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="consistency_weight"):
        module(convolution(), -1.0)


@pytest.mark.parametrize(("weight", "loaded"), [(1.0, True), (0.0, False)])
def test_unlabeled_images_are_loaded_for_a_module_that_reads_them(weight, loaded):
    seen = []

    class Listening(ConsistencyModule):
        def training_step(self, batch, batch_idx):
            seen.append(batch)
            return super().training_step(batch, batch_idx)

    data = ShapesDataModule(
        num_train=4,
        num_val=1,
        num_test=1,
        image_size=32,
        seed=0,
        num_classes=1,
        ignore_index=255,
        train_limit=2,
        batch_size=2,
        unlabeled_per_image=2,
    )
    network = convolution(classes=1).float()
    training = Listening(
        network,
        CrossEntropyLoss(task="binary", ignore_index=255),
        num_classes=1,
        task="binary",
        ignore_index=255,
        consistency_weight=weight,
    )
    one_epoch(limit_val_batches=0).fit(training, data)
    assert ["unlabeled" in batch for batch in seen] == [loaded]
    if loaded:
        assert seen[0]["unlabeled"].shape == (4, 3, 32, 32)
