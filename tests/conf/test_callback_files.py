"""Callbacks are chosen by name, one file each."""

from pathlib import Path

import lightning
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from lightning.pytorch.callbacks import EMAWeightAveraging
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from lightning_seg import SegmentationModule
from lightning_seg.losses import CrossEntropyLoss

CALLBACKS = Path(__file__).parents[2] / "conf" / "callbacks"
LISTS = ("custom", "default", "no_pictures", "none")
NAMES = sorted(path.stem for path in CALLBACKS.glob("*.yaml") if path.stem not in LISTS)
PLAIN = {"checkpoint", "last", "progress", "curves", "confusion", "details", "resource_usage"}
ALL = PLAIN | {"pictures", "validation"}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ALL),
        (["callbacks=no_pictures"], PLAIN),
        (["trainer=fsdp"], PLAIN),
        (["callbacks=[default,early_stopping,ema]"], ALL | {"early_stopping", "ema"}),
        (["callbacks=[no_pictures,model_summary]"], PLAIN | {"model_summary"}),
        (["~callbacks.pictures"], ALL - {"pictures"}),
    ],
)
def test_callbacks_are_chosen_by_name(overrides: list[str], expected: set[str]) -> None:
    assert set(composed(*overrides).callbacks) == expected


def test_options_of_a_callback_are_changed_by_its_name() -> None:
    callbacks = composed(
        "callbacks=[default,early_stopping]",
        "callbacks.checkpoint.monitor=val/loss",
        "callbacks.checkpoint.mode=min",
        "callbacks.early_stopping.patience=3",
        "callbacks.pictures=null",
    ).callbacks
    assert (callbacks.checkpoint.monitor, callbacks.early_stopping.mode) == ("val/loss", "min")
    assert callbacks.early_stopping.patience == 3
    assert callbacks.pictures is None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_file_holds_the_callback_of_its_name_and_builds_it(name: str) -> None:
    callbacks = composed(f"callbacks=[default,{name}]", "folder=runs/one", "data.palette=[[0,0,0]]").callbacks
    assert isinstance(instantiate(callbacks[name]), lightning.Callback)


def test_a_training_with_ema_is_evaluated_with_the_averaged_weights() -> None:
    torch.manual_seed(0)
    settings = composed("callbacks=[default,ema]", "callbacks.ema.decay=0.5").callbacks.ema
    after_each_step: list[torch.Tensor] = []
    evaluated: list[torch.Tensor] = []

    class Watching(SegmentationModule):
        def on_before_zero_grad(self, optimizer: object) -> None:
            after_each_step.append(self.backbone.weight.detach().clone())

        def on_validation_epoch_start(self) -> None:
            evaluated.append(self.backbone.weight.detach().clone())

    samples = [{"image": torch.rand(3, 8, 8), "mask": torch.randint(0, 2, (8, 8))} for _ in range(4)]
    loader = DataLoader(samples, batch_size=2)
    module = Watching(
        torch.nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2, optimizer=lambda p: torch.optim.SGD(p, lr=1.0)
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    ema = instantiate(settings)
    assert isinstance(ema, EMAWeightAveraging)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[ema], num_sanity_val_steps=0, enable_model_summary=False, **quiet
    )
    trainer.fit(module, loader, loader)
    last = evaluated[-1]
    assert len(evaluated) == 2
    # The trained weights are not what was evaluated; the average is what remains after the training.
    assert not any(torch.allclose(last, weights) for weights in after_each_step)
    torch.testing.assert_close(module.backbone.weight.detach(), last)


def test_the_test_of_a_checkpoint_uses_its_averaged_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tested: list[torch.Tensor] = []

    class Watching(SegmentationModule):
        def on_test_epoch_start(self) -> None:
            tested.append(self.backbone.weight.detach().clone())

    samples = [{"image": torch.rand(3, 8, 8), "mask": torch.randint(0, 2, (8, 8))} for _ in range(4)]
    loader = DataLoader(samples, batch_size=2)
    module = Watching(
        torch.nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2, optimizer=lambda p: torch.optim.SGD(p, lr=1.0)
    )
    config = composed("callbacks=[default,ema]", "callbacks.ema.decay=0.5").callbacks.ema
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[instantiate(config)], enable_model_summary=False, **quiet
    )
    trainer.fit(module, loader, loader)
    averaged = module.backbone.weight.detach().clone()
    path = tmp_path / "one.ckpt"
    trainer.save_checkpoint(path)
    stored = torch.load(path, weights_only=True)
    stored["state_dict"]["backbone.weight"] = averaged
    stored["current_model_state"]["backbone.weight"] = averaged + 1
    torch.save(stored, path)
    trainer.test(module, loader, ckpt_path=str(path), weights_only=True, verbose=False)
    torch.testing.assert_close(tested[-1], averaged)
