"""`lightning-seg-inspect`, as the console calls it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg.checkpoint import module_config
from lightning_seg.trust import build_trusted
from tests.console import SHORT, SMALL, Run
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


@pytest.mark.slow
def test_an_inspection_prints_what_is_wrong_and_leaves_a_page_and_a_plan(run: Run, fails: Run, spoiled: Path) -> None:
    module = {**MODULE, "num_classes": 3, "backbone": {**MODULE["backbone"], "out_channels": 3}}
    state = build_trusted(module_config({"module": module}), "module", source="test").state_dict()
    write(spoiled / "some.ckpt", config=module, state=state)
    out = run(*INSPECT, "checkpoint=some.ckpt", 'data.class_names=[background,"<b>[red]","=2"]')
    assert "mask my_images/train/masks/0.png holds label 9 in 5 pixels" in out
    assert re.search(r"leak: \d+ of 3 test images in train too", out)
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


@pytest.mark.slow
def test_masks_of_several_labels_a_pixel_are_inspected_and_trained_on_by_the_plan(run: Run, folder: Path) -> None:
    for image in (folder / "my_images").glob("*/images/*.jpg"):
        for name, rows in (("sky", slice(0, 20)), ("sea", slice(10, 40))):
            mask = np.zeros((40, 48), np.uint8)
            mask[rows] = 255
            file = folder / "my_images" / image.parts[-3] / name / f"{image.stem}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(mask).save(file)
    loss = {"_target_": "lightning_seg.losses.CrossEntropyLoss", "task": "multilabel", "ignore_index": None}
    module = {**MODULE, "loss": loss, "task": "multilabel", "ignore_index": None}
    state = build_trusted(module_config({"module": module}), "module", source="test").state_dict()
    says_yes = {name: torch.full_like(value, float(name.endswith("bias"))) for name, value in state.items()}
    write(folder / "yes.ckpt", config=module, state={**state, **{n: v for n, v in says_yes.items() if "backbone" in n}})
    run(
        *("lightning-seg-inspect", "data=folder", "data.root=my_images", "data.num_classes=2", "task=multilabel"),
        *("data.images={split}/images/{id}.jpg", "data.masks={split}/{class}/{id}.png"),
        *("data.class_names=[sky,sea]", "data.num_workers=0", "backbone=custom", "backbone._target_=torch.nn.Conv2d"),
        *("+backbone.in_channels=3", "+backbone.out_channels=2", "+backbone.kernel_size=1"),
        "checkpoint=yes.ckpt",
    )
    page = (folder / "inspection/index.html").read_text(encoding="utf-8")
    assert "the shares do not add up to 100 %" in page
    assert "of several labels of a pixel the first" in page
    [sky, sea, *_] = re.findall(r"</span>(?:sky|sea)</td>(.*?)</tr>", page)
    assert re.findall(r"<td>([\d.,]+)", sky) == ["50.000", "5,760", "6", "6", "960", "39"]
    assert re.findall(r"<td>([\d.,]+)", sea) == ["75.000", "8,640", "6", "6", "1,440", "59"]
    assert re.findall(r"IoU ([\d.]+) %", page) == ["62.50", "62.50"]  # of 1/2 and 3/4
    run(
        *("lightning-seg-train", "--config-dir", "inspection", "experiment=plan", "run=planned", *SHORT),
        *("data.batch_size=4", "+trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "data.num_workers=0"),
    )
    assert (folder / "runs/planned").is_dir()


@pytest.mark.slow
def test_an_inspection_is_of_one_data_set_and_of_its_task(fails: Run, folder: Path) -> None:
    assert "leave -m out" in fails(*INSPECT, "-m", "seed=0,1")
    assert "samples=-1" in fails(*INSPECT, "samples=-1")
    shapes = ("lightning-seg-inspect", "data=shapes", *SMALL)
    assert re.search(r"has a mask of shape \(32, 32\), and \(\d, H, W\) is expected", fails(*shapes, "task=multilabel"))
    loss = {"_target_": "lightning_seg.losses.CrossEntropyLoss", "task": "multilabel", "ignore_index": 255}
    write(folder / "other.ckpt", config={**MODULE, "loss": loss, "task": "multilabel"})
    line = fails(*shapes, "checkpoint=other.ckpt", "samples=1")
    assert "other.ckpt was trained with task=multilabel, and the data is inspected with task=multiclass" in line
