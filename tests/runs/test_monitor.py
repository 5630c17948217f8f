from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torchmetrics import MeanMetric, MetricCollection

from lightning_seg.metrics import PixelAccuracy
from lightning_seg.runs.monitor import check_direction, check_monitored, known_mode, logged_names, save_where_logged
from tests.console import Run
from tests.report.conftest import composed


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/iou", "max"),
        ("val/dice/road", "max"),
        ("val/accuracy", "max"),
        ("val/loss", "min"),
        ("train/loss/dice", "min"),
        ("val/loss_of_edges", "min"),
        ("val/iou/glossy", "max"),  # a class
        ("epoch", "max"),
        ("val/right", None),
    ],
)
def test_the_name_tells_whether_high_or_low_is_good(name: str, mode: str | None) -> None:
    assert known_mode(name) == mode


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ("max", "max")),
        (["monitor=val/loss"], ("min", "min")),
        (["monitor=val/loss", "monitor_mode=max"], ("max", "max")),
        (["monitor=val/right", "monitor_mode=min"], ("min", "min")),
        (["callbacks.checkpoint.monitor=val/loss"], ("min", "min")),
        (["callbacks.early_stopping.monitor=val/loss"], ("max", "min")),
        (["monitor=val/right", "callbacks.checkpoint.mode=min"], ("min", "min")),
        (["monitor=val/loss", "callbacks.checkpoint=null"], (None, "min")),
    ],
)
def test_checkpoints_and_early_stopping_keep_the_better_ones(
    overrides: list[str], expected: tuple[str | None, str]
) -> None:
    callbacks = composed("callbacks=[default,early_stopping]", *overrides)["callbacks"]
    assert ((callbacks["checkpoint"] or {}).get("mode"), callbacks["early_stopping"]["mode"]) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["monitor=val/iuo"],
            r"^monitor=val/iuo is not logged; did you mean val/iou\? a validation logs val/loss",
        ),
        (["monitor=iou"], r"monitor=iou is not logged; did you mean val/iou\?"),
        (["monitor=val/iou/dots"], r"did you mean val/iou/dot\?"),
        (["monitor=test/iou"], r"monitor=test/iou is not logged"),
        (["monitor=val_loss"], r"did you mean val/loss\?"),
        (["callbacks.checkpoint.monitor=val/f1"], r"callbacks.checkpoint.monitor=val/f1 is not logged"),
        (["callbacks=[default,early_stopping]", "callbacks.early_stopping.monitor=x"], r"early_stopping.monitor=x is"),
    ],
)
def test_what_is_not_logged_is_refused_with_what_is(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_monitored(composed(*overrides))


@pytest.mark.parametrize(
    "monitor", ["val/loss", "val/iou/disc", "train/loss", "train/loss/dice", "train/iou", "epoch", "val/dice/dot"]
)
def test_what_is_logged_is_monitored(monitor: str) -> None:
    check_monitored(composed(f"monitor={monitor}"))


def test_a_module_of_ones_own_may_log_anything() -> None:
    config = composed("module._target_=mine.Module", "monitor=val/anything")
    check_monitored(config)
    check_monitored(config, ["val/loss", "val/anything"])
    check_monitored(composed("module._target_=mine.Module", "monitor=train/anything"), ["val/loss"])


def test_what_a_module_of_ones_own_has_not_logged_is_refused_before_the_training() -> None:
    config = composed("module._target_=mine.Module", "monitor=val/right")
    with pytest.raises(ValueError, match=r"val/right is not logged; did you mean val/rights\? .* logs val/loss"):
        check_monitored(config, ["val/rights", "val/loss", "val/rights/road"])


def test_names_are_those_of_the_task() -> None:
    binary = composed("task=binary", "data.num_classes=1", "data.class_names=[object]")
    assert {"loss", "iou", "iou/object"} <= set(logged_names(binary))


def test_a_direction_that_neither_name_nor_metric_tells_is_asked_for() -> None:
    metrics = MetricCollection(
        {"right": PixelAccuracy(num_classes=3), "wrong": _LowerIsBetter(), "unknown": MeanMetric()}, prefix="val/"
    )
    module: Any = SimpleNamespace(val_metrics=metrics)
    check_direction(composed("monitor=val/right"), module)
    for name in ("wrong", "unknown", "elsewhere"):
        with pytest.raises(ValueError, match=rf"monitor=val/{name}: are high or low values better\?"):
            check_direction(composed(f"monitor=val/{name}"), module)
        check_direction(composed(f"monitor=val/{name}", "monitor_mode=min"), module)


class _LowerIsBetter(MeanMetric):
    higher_is_better = False


def test_scores_of_the_training_are_looked_at_when_they_are_logged() -> None:
    callbacks = composed("callbacks=[default,early_stopping]", "monitor=train/loss")["callbacks"]
    save_where_logged(callbacks)
    assert callbacks["checkpoint"]["save_on_train_epoch_end"] is True
    assert callbacks["early_stopping"]["check_on_train_epoch_end"] is True


@pytest.mark.parametrize("arguments", [["seed=0"], ["-m", "seed=0,1"], ["-m", "sweep=small"]])
def test_a_wrong_name_ends_trainings_sweeps_and_searches_before_they_begin(
    fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "monitor=val/iuo is not logged" in fails("lightning-seg-train", *arguments, "monitor=val/iuo")
    assert not list(tmp_path.rglob("config.yaml"))
    assert not list(tmp_path.rglob("*.db"))
