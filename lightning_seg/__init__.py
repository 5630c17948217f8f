"""Semantic segmentation, trained well: losses by name, Dice and IoU that can be trusted, one device or many."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_seg.checkpoint import load_module
    from lightning_seg.consistency import ConsistencyModule
    from lightning_seg.module import SegmentationModule

__all__ = ["ConsistencyModule", "SegmentationModule", "load_module"]
__version__ = "0.1.0"

_ROOMS = {"ConsistencyModule": "consistency", "SegmentationModule": "module", "load_module": "checkpoint"}


def __getattr__(name: str) -> Any:
    """Imports Lightning with the first name that needs it, so that a loss costs what torch costs (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
