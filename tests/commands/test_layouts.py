"""Data that lie as somebody left them are trained on by one command, and evaluated from the checkpoint."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.console import SHORT, Run


@pytest.mark.slow
def test_patterns_and_values_go_through_training_and_evaluation(folder: Path, run: Run) -> None:
    """The values of the masks are 7 and 8, as of Cityscapes; the checkpoint says what they stand for."""
    root = folder / "town"
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            for place in (root / "left" / split / "ulm", root / "fine" / split / "ulm"):
                place.mkdir(parents=True, exist_ok=True)
            mask = np.full((32, 32), 7, np.uint8)
            mask[8:20, 8:20], mask[0] = 8, 3
            Image.fromarray(mask * 20).save(root / "left" / split / "ulm" / f"{index}_left.png")
            Image.fromarray(mask).save(root / "fine" / split / "ulm" / f"{index}_ids.png")
    out = run(
        "lightning-seg-train",
        *("data=folder", "data.root=town", "data.num_classes=2", "data.class_names=[road,car]"),
        *("data.ignore_index=255", "data.images=left/{split}/{city}/{id}_left.png"),
        *("data.masks=fine/{split}/{city}/{id}_ids.png", "data.values={7:road,8:car,else:void}"),
        *("data.num_workers=0", "data.batch_size=2", "run=town", "callbacks=no_pictures", *SHORT),
    )
    assert "train 4, val 2; for example left/train/ulm/0_left.png with fine/train/ulm/0_ids.png" in out
    scored = run("lightning-seg-evaluate", "checkpoint=runs/town/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    assert "road" in scored
    assert "car" in scored
