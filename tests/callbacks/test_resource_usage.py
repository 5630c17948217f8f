import json

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lightning_seg.callbacks import ResourceUsage, resource_usage


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(resource_usage, "perf_counter", clock)
    return clock


class Slow(lightning.LightningModule):
    """1,000 seconds for the first batch of a process, 2 for every other, 100 for one of validation."""

    def __init__(self, clock):
        super().__init__()
        self.network = nn.Linear(3, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.clock, self.is_first, self.ballast = clock, True, 0

    def training_step(self, batch, index):
        self.clock.now += 1000.0 if self.is_first else 2.0
        self.is_first = False
        np.ones(self.ballast)
        return self.network(batch).sum()

    def validation_step(self, batch, index):
        self.clock.now += 100.0

    def on_train_epoch_end(self):
        self.clock.now += 50.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.01)


class Images(Dataset):
    """A second passes for each image that is loaded."""

    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 8

    def __getitem__(self, index):
        self.clock.now += 0.5
        return torch.ones(3)


def fit(module, folder, *callbacks, ckpt_path=None, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(
        callbacks=[ResourceUsage(folder / "resource_usage.json"), *callbacks],
        default_root_dir=folder,
        **quiet,
        **{"enable_checkpointing": bool(callbacks), **options},
    )
    trainer.fit(
        module,
        DataLoader(Images(module.clock), batch_size=2),
        DataLoader(torch.ones(4, 3)),
        ckpt_path=ckpt_path,
        weights_only=True,
    )
    return json.loads((folder / "resource_usage.json").read_text())


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}])
def test_a_step_takes_as_long_as_its_data_and_its_training_but_not_the_validation(tmp_path, clock, options):
    written = fit(Slow(clock), tmp_path, max_epochs=2, **options)
    assert written["steps"] == 7
    # Two images of half a second each, of which one batch is loaded ahead, and the step.
    assert written["seconds_per_step"] == pytest.approx(3.0, abs=0.2)


def test_a_resumed_training_continues_the_sums(tmp_path, clock):
    fit(Slow(clock), tmp_path, ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1), max_epochs=3)
    written = fit(Slow(clock), tmp_path, max_epochs=4, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert written["steps"] == 7 + 7
    assert written["seconds_per_step"] == pytest.approx(3.0, abs=0.2)


def test_a_training_of_one_batch_has_no_time_of_a_step(tmp_path, clock):
    written = fit(Slow(clock), tmp_path, max_steps=1)
    assert written["seconds_per_step"] is None
    assert written["steps"] == 0


def test_parameters_are_counted(tmp_path, clock):
    written = fit(Slow(clock), tmp_path, max_epochs=1)
    assert (written["parameters"], written["trainable_parameters"]) == (8 + 6, 8)
    assert (written["processes"], written["device"], written["memory"]) == (1, "cpu", "resident")


@pytest.mark.skipif(not resource_usage.reset_peak_memory(torch.device("cpu")), reason="the peak cannot be reset here")
def test_each_training_of_a_process_has_its_own_peak_of_memory(tmp_path, clock):
    small, large = Slow(clock), Slow(clock)
    large.ballast = 50_000_000
    before = fit(small, tmp_path, max_epochs=1)["peak_memory_bytes"]
    high = fit(large, tmp_path, max_epochs=1)["peak_memory_bytes"]
    after = fit(small, tmp_path, max_epochs=1)["peak_memory_bytes"]
    assert high - before > 8 * 40_000_000
    assert high - after > 8 * 40_000_000
