"""A default stands in conf/; where Python has one too, which a public signature needs, it is the same."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import OmegaConf

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import PredictionPictures
from lightning_seg.inference import predict_files
from lightning_seg.losses import FocalTverskyLoss, TverskyLoss
from tests.conf_readme import MACHINE

CONF = Path(__file__).parents[2] / "conf"


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """What has a `_target_` of this package, at any depth."""
    if isinstance(node, dict):
        if str(node.get("_target_", "")).startswith("lightning_seg"):
            yield node
        for child in node.values():
            yield from parts(child)


def defaults_of(target: str) -> dict[str, Any]:
    """The defaults of all arguments of a function or class, also of those that it hands on to its parents."""
    made = get_object(target)
    found: dict[str, Any] = {}
    for function in [one.__init__ for one in reversed(made.__mro__)] if inspect.isclass(made) else [made]:
        found |= {name: argument.default for name, argument in inspect.signature(function).parameters.items()}
    return found


def differing() -> set[tuple[str, str]]:
    """The options whose default in conf/ is not that in Python, which is one, and not None, as for what is left out."""
    found = set()
    for path in sorted({*CONF.rglob("*.yaml")} - {MACHINE}):
        for part in parts(OmegaConf.to_container(OmegaConf.load(path))):
            known = defaults_of(part["_target_"])
            for name, value in part.items():
                default = known.get(name, inspect.Parameter.empty)
                if default not in (inspect.Parameter.empty, None) and "${" not in str(value) and value != default:
                    found.add((f"{path.parent.name}/{path.name}", name))
    return found


def test_what_python_leaves_off_or_out_is_all_that_differs() -> None:
    assert differing() == {
        ("augment/d4.yaml", "d4"),  # which is what the file is for
        ("backbone/unet_3d.yaml", "spatial_dims"),  # likewise
        ("data/folder.yaml", "num_workers"),  # in Python, as in torch, a loader has none unless told
        ("data/volumes.yaml", "num_workers"),  # likewise
        ("data/huggingface.yaml", "num_workers"),  # likewise
        ("experiment/few_labels.yaml", "test_time_augmentation"),  # likewise of augment=d4
    }


def test_choices_that_need_a_number_have_none_in_python() -> None:
    for function, names in (
        (SegmentationModule, ("tile", "margin")),
        (predict_files, ("tile", "margin")),
        (PredictionPictures, ("count",)),
        (TverskyLoss, ("alpha", "beta")),
        (FocalTverskyLoss, ("alpha", "beta")),
    ):
        parameters = inspect.signature(function).parameters
        assert [parameters[name].default for name in names] == [None] * len(names), function
