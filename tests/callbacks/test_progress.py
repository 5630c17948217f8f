import re
from pathlib import Path

from tests.console import SHORT, SMALL, Run


def test_where_the_output_is_not_a_terminal_an_epoch_is_one_line_and_nothing_else_is_said(
    run: Run, folder: Path
) -> None:
    printed = run("lightning-seg-train", *SHORT, *SMALL, "trainer.max_epochs=2", "run=one")
    first, second, title, *_ = printed.splitlines()
    assert re.fullmatch(r"epoch 1/2: loss \d\.\d+, val/iou \d\.\d+, [\d.]+ images/s, \d:\d\d:\d\d left", first)
    assert second.startswith("epoch 2/2: ")
    assert title.strip() == "test scores"


def test_a_mistake_in_the_test_split_is_found_before_the_training(fails: Run, folder: Path) -> None:
    (folder / "my_images/test/masks/1.png").unlink()
    data = ["data=folder", "data.root=my_images", "data.num_classes=3", "data.ignore_index=255", "data.num_workers=0"]
    assert "test/images/1.jpg has no mask" in fails("lightning-seg-train", *SHORT, *data, "run=one")
    assert not (folder / "runs/one").exists()
