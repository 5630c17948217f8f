import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lightning_seg
import lightning_seg.inference
from lightning_seg.files import atomic_write

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


# Of a part: packages that it may not import, those of the next one among them, and code that uses it.
ALL = ["hydra", "segmentation_models_pytorch", "timm"]
PARTS = {
    "losses": (
        [*ALL, "omegaconf", "lightning", "torchmetrics", "torchvision", "scipy"],
        """
from lightning_seg.losses import CrossEntropyDiceLoss, DiceLoss

loss = CrossEntropyDiceLoss(ignore_index=255)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
assert 0 < loss < 2, loss
""",
    ),
    "metrics": (
        [*ALL, "omegaconf", "lightning"],
        """
from lightning_seg.metrics import segmentation_metrics

metrics = segmentation_metrics("multiclass", 2)
metrics.update(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
assert metrics.compute()["accuracy"] == 1
""",
    ),
    "module": (ALL, "from lightning_seg import SegmentationModule"),
}
# One after the other in one process; what a part imports is what the next one need not.
IMPORTS = """
import sys

import torch

for name, blocked, code in {parts}:
    sys.modules.update(dict.fromkeys(blocked))  # importing what is None raises
    exec(code, {{"torch": torch}})
    for package in blocked:
        del sys.modules[package]
    print(name)
"""


@pytest.mark.slow
def test_a_part_imports_only_what_it_needs():
    parts = [(name, blocked, code) for name, (blocked, code) in PARTS.items()]
    done = subprocess.run([sys.executable, "-c", IMPORTS.format(parts=parts)], capture_output=True, text=True)
    assert done.stdout.split() == list(PARTS), done.stderr


def test_the_package_lists_its_names_before_they_are_imported():
    assert {"ConsistencyModule", "SegmentationModule", "load_module"} <= set(dir(lightning_seg))
    assert lightning_seg.SegmentationModule.__name__ == "SegmentationModule"


def test_a_name_that_the_package_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'SegmentationModel'"):
        _ = lightning_seg.SegmentationModel


def test_the_former_name_of_a_function_still_works_with_a_warning():
    with pytest.warns(FutureWarning, match=r"use lightning_seg\.files\.atomic_write instead"):
        from lightning_seg.inference import whole_file
    assert whole_file is atomic_write
    with pytest.raises(AttributeError, match="has no attribute 'half_file'"):
        _ = lightning_seg.inference.half_file


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("train", ["--cfg", "job"], "backbone:"),
        ("train", ["lr=0.1"], "lightning-seg-train: there is no lr: did you mean optimizer.lr?"),
        ("train", ["+epochs=5"], "lightning-seg-train: epochs is not a key of lightning-seg-train"),
        ("predict", ["batch_size=0", "checkpoint=a", "input=b", "output=c"], "batch_size=0, but it must be 1 or more."),
        ("report", ["--help"], "compares runs"),
        ("train", ["--help"], "what is minimized: boundary, ce, ce_dice,"),
    ],
)
def test_what_a_command_line_alone_tells_is_said_before_torch_is_imported(command, words, said):
    scripts = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["scripts"]
    name, _, function = scripts[f"lightning-seg-{command}"].partition(":")
    block = "".join(f"sys.modules[{one!r}] = None\n" for one in ("torch", "lightning", "transformers", "torchvision"))
    arguments = [f"lightning-seg-{command}", *words]
    code = f"import sys\n{block}sys.argv = {arguments!r}\nfrom {name} import {function} as main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
