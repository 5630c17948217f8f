"""`lightning-seg-inspect`, as the console calls it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.checkpoint import module_config
from lightning_seg.trust import build_trusted
from tests.console import Run
from tests.test_checkpoint import MODULE, write

INSPECT = (
    *("lightning-seg-inspect", "data=folder", "data.root=my_images", "data.num_classes=3", "data.ignore_index=255"),
    "data.num_workers=0",
)


@pytest.fixture
def spoiled(folder: Path) -> Path:
    """Data of which one mask holds a value that is no class, and one test image is a training image, too."""
    root = folder / "my_images"
    mask = np.array(Image.open(root / "train/masks/0.png"))
    mask[30, :5] = 9
    Image.fromarray(mask).save(root / "train/masks/0.png")
    shutil.copy(root / "train/images/1.jpg", root / "test/images/1.jpg")
    return folder


def test_an_inspection_prints_what_is_wrong_and_leaves_a_page_and_a_plan(run: Run, fails: Run, spoiled: Path) -> None:
    module = {**MODULE, "num_classes": 3, "backbone": {**MODULE["backbone"], "out_channels": 3}}
    state = build_trusted(module_config({"module": module}), "module", source="test").state_dict()
    write(spoiled / "some.ckpt", config=module, state=state)
    out = run(*INSPECT, "checkpoint=some.ckpt", 'data.class_names=[background,"<b>[red]","=2"]')
    assert "mask my_images/train/masks/0.png holds label 9 in 5 pixels" in out
    assert re.search(r"leak: \d+ of 3 test images are in train too", out)
    assert "5 train images, 2 val images, 3 test images" in out

    page = (spoiled / "inspection/index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>[red]" not in page
    assert "&lt;b&gt;[red]" in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    sections = re.findall(r'<section id="([a-z-]+)"', page)
    assert sections == [
        *("problems", "plan", "classes", "images", "duplicates", "samples", "augmented", "worst-predictions"),
    ]
    worst = page[page.index('id="worst-predictions"') :]
    scores = [float(score) for score in re.findall(r"IoU ([\d.]+) %", worst)]
    assert scores == sorted(scores)
    assert len(scores) == 2

    line = fails(*INSPECT)
    assert "inspection/index.html exists: choose another output=FOLDER, or overwrite=true." in line
    job = run("lightning-seg-train", "--config-dir", "inspection", "experiment=plan", "--cfg", "job")
    assert "num_classes: 3" in job
    assert f"root: {spoiled / 'my_images'}" in job
    assert re.search(r"crop_size:\n  - 32\n  - 32|crop_size: null", job)


def test_an_inspection_is_of_one_data_set_of_label_maps(fails: Run, folder: Path) -> None:
    assert "leave -m out" in fails(*INSPECT, "-m", "seed=0,1")
    assert "task=multilabel has masks with several labels" in fails(*INSPECT, "task=multilabel")
    assert "samples=-1" in fails(*INSPECT, "samples=-1")
