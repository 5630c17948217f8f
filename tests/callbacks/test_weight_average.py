"""Averaged weights go on where a training was interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch

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
