"""What only a training or a test finds to be without effect is said once, and only where it is sure."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_seg.callbacks.unused_options import UnusedOptions

GIVEN = {"module.auxiliary_weight": "0.4", "module.margin": "8"}


def trainer(**more: Any) -> Any:
    return SimpleNamespace(**{"is_global_zero": True, "world_size": 1, "global_step": 0, **more})


def module(**more: Any) -> Any:
    return SimpleNamespace(
        **{"loss_terms": {"loss": 1.0}, "auxiliary_weight": 0.4, "tile": 64, "has_cut_tiles": False, **more}
    )


def test_a_network_without_auxiliary_logits_is_said_once_for_a_step_of_several_batches(capsys) -> None:
    callback = UnusedOptions(GIVEN)
    for _ in range(3):
        callback.on_train_batch_end(trainer(), module())
    line = "module.auxiliary_weight=0.4 is not used: the network returns no auxiliary logits."
    assert capsys.readouterr().out.splitlines() == [line]


@pytest.mark.parametrize(
    ("of_trainer", "of_module", "lines"),
    [({}, {}, 1), ({"world_size": 2}, {}, 0), ({}, {"has_cut_tiles": True}, 0), ({}, {"tile": None}, 0)],
    ids=["none was cut", "others may have cut theirs", "one was cut", "no tiles"],
)
def test_options_of_tiles_are_said_where_no_image_was_cut(capsys, of_trainer, of_module, lines) -> None:
    UnusedOptions(GIVEN).on_test_end(trainer(**of_trainer), module(**of_module))
    said = capsys.readouterr().out.splitlines()
    why = "no image is larger than module.tile=64, so none was cut into tiles"
    assert said == [f"module.margin=8 changed nothing: {why}."] * lines
