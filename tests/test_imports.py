import subprocess
import sys

import pytest

import lightning_seg
import lightning_seg.inference
from lightning_seg.files import atomic_write


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("blocked", "code"),
    [
        (
            ["hydra", "omegaconf", "lightning", "segmentation_models_pytorch", "torchmetrics", "torchvision", "scipy"],
            """
from lightning_seg.losses import CrossEntropyDiceLoss, DiceLoss

loss = CrossEntropyDiceLoss(ignore_index=255)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
assert 0 < loss < 2, loss
""",
        ),
        (
            ["hydra", "omegaconf", "lightning", "segmentation_models_pytorch"],
            """
from lightning_seg.metrics import segmentation_metrics

metrics = segmentation_metrics("multiclass", 2)
metrics.update(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
assert metrics.compute()["accuracy"] == 1
""",
        ),
        (["hydra", "segmentation_models_pytorch", "timm"], "from lightning_seg import SegmentationModule"),
    ],
    ids=["losses", "metrics", "module"],
)
def test_a_part_imports_only_what_it_needs(blocked, code):
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)  # importing it then raises
    run(f"import sys\n\nimport torch\n\n{block}{code}")


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
