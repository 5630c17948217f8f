"""Averaged weights go on where a training was interrupted."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_seg.callbacks.weight_average import AveragedWeights
from tests.callbacks.test_last_checkpoint import check_equal, fit, saved


def average() -> AveragedWeights:
    return AveragedWeights(decay=0.5, use_buffers=True)


@pytest.mark.parametrize("every_minutes", [None, 0])
def test_a_resumed_training_ends_with_the_average_of_one_that_never_stopped(
    tmp_path: Path, every_minutes: float | None
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options: dict[str, Any] = {"every_minutes": every_minutes, "max_epochs": 2}
    expected = fit(whole, average(), **options)
    fit(parts, average(), **{**options, "max_epochs": 1})
    resumed = fit(parts, average(), resume=True, **options)
    for name, weights in expected.lightning_module.state_dict().items():
        assert torch.equal(resumed.lightning_module.state_dict()[name], weights), name
    for key in ("state_dict", "current_model_state"):  # the average, and the weights that are trained
        check_equal(saved(parts)[key], saved(whole)[key])
    one, other = saved(whole)["state_dict"], saved(whole)["current_model_state"]
    assert not torch.equal(one["backbone.0.weight"], other["backbone.0.weight"])


@pytest.mark.parametrize(
    "options", [{}, {"use_buffers": False}, {"update_starting_at_step": 7}, {"update_every_n_steps": 3}]
)
def test_the_best_score_and_the_best_checkpoint_are_of_the_same_weights(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = fit(tmp_path, AveragedWeights(**{"decay": 0.5, "use_buffers": True, **options}), max_epochs=2)
    best = trainer.checkpoint_callbacks[0]
    assert isinstance(best, ModelCheckpoint)
    stored = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    module, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
    module.load_state_dict(stored)
    plain = lightning.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    (scores,) = plain.validate(module, data, verbose=False)
    assert best.best_model_score == scores["val/iou"]
