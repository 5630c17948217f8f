import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lightning_seg.callbacks.progress import SpeedBar
from tests.console import SHORT, SMALL, Run


def test_where_the_output_is_not_a_terminal_an_epoch_is_one_line_and_nothing_else_is_said(
    run: Run, folder: Path
) -> None:
    printed = run("lightning-seg-train", *SHORT, *SMALL, "trainer.max_epochs=2", "run=one")
    first, second, title, *_ = printed.splitlines()
    assert re.fullmatch(r"epoch 1/2: loss \d\.\d+, val/iou [\d.]+ %, [\d.]+ images/s, \d:\d\d:\d\d left", first)
    assert second.startswith("epoch 2/2: ")
    assert title.strip() == "test scores"


def test_a_mistake_in_the_test_split_is_found_before_the_training(fails: Run, folder: Path) -> None:
    (folder / "my_images/test/masks/1.png").unlink()
    data = ["data=folder", "data.root=my_images", "data.num_classes=3", "data.ignore_index=255", "data.num_workers=0"]
    assert "test/images/1.jpg has no mask" in fails("lightning-seg-train", *SHORT, *data, "run=one")
    assert not (folder / "runs/one").exists()


def test_the_bar_of_a_terminal_shows_images_per_second() -> None:
    trainer: Any = SimpleNamespace(
        progress_bar_metrics={"loss": 0.5, "val/iou": 0.25}, loggers=[], world_size=2, max_epochs=1, current_epoch=0
    )
    bar = SpeedBar()
    bar._trainer = trainer
    bar.disable()
    bar.on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
    bar.on_train_batch_end(trainer, None, None, {"image": torch.zeros(4, 3, 2, 2)}, 0)  # type: ignore[arg-type]
    shown = bar.get_metrics(trainer, None)  # type: ignore[arg-type]
    assert (shown["loss"], shown["val/iou"]) == (0.5, "25.00 %")
    assert float(shown["images/s"]) > 8
    assert bar._get_train_description(0).strip() == "Epoch 1/1"
