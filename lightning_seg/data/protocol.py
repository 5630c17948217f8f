"""What a data module must offer to be trained on by the command, and what it may offer besides.

Any `LightningDataModule` will do. It must have the loaders of `SegmentationData`; each of the other protocols here is
asked for where it is needed, and may be left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import lightning


class SegmentationData(Protocol):
    """Batches of images and masks.

    A batch is a mapping with `image`, float `(N, channels, *spatial)`, and `mask`, integers `(N, *spatial)`, or in the
    logits' shape in the multilabel task; or a pair of both; or whatever `SegmentationModule.unpack` of a subclass
    takes. It may have `name`, a list of N strings, for pictures, and `distances` and `unlabeled`, see
    `SegmentationDataModule`.

    A configuration that has the keys `num_classes`, `ignore_index`, `class_names`, `mean` and `std` hands them on to
    network, loss and module; else `module.num_classes=N` must be given, and the others as far as they are not None.
    """

    def train_dataloader(self) -> Iterable[Any]:
        """Batches to train on."""

    def val_dataloader(self) -> Iterable[Any]:
        """Batches that choose the best epoch."""

    def test_dataloader(self) -> Iterable[Any]:
        """Batches that the best epoch is scored on."""


@runtime_checkable
class NamesClasses(Protocol):
    """A data module with names for its classes, which are used where none are given. Default: "0", "1", ..."""

    class_names: Sequence[str]


@runtime_checkable
class ColorsClasses(Protocol):
    """A data module with a color `(red, green, blue)` for each mask value. Default: PASCAL VOC's colors."""

    palette: Sequence[Sequence[int]]


@runtime_checkable
class EstimatesClassWeights(Protocol):
    """A data module that estimates class weights from its training masks, for `class_weights=median_frequency`."""

    def class_weights(self, estimate: str) -> list[float]:
        """One number for each class; see `SegmentationDataModule.class_weights`."""


@runtime_checkable
class DescribesData(Protocol):
    """A data module that says what its images are, so that a run is not resumed with others, or its scores given."""

    def digests(self) -> Mapping[str, Mapping[str, Any]]:
        """By split, after `setup("fit")`: what JSON holds and is equal for a copy of the data elsewhere."""


def check_data_module(datamodule: Any) -> None:
    """Checks that something can be trained, validated and tested on.

    Raises:
        ValueError: it is not a `LightningDataModule`, or lacks a loader.
    """
    name = type(datamodule).__name__
    if not isinstance(datamodule, lightning.LightningDataModule):
        raise ValueError(f"data builds a {name}, not a LightningDataModule: derive it from that class.")
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if getattr(type(datamodule), loader) is getattr(lightning.LightningDataModule, loader):
            raise ValueError(f"the data module {name} has no {loader}: training, validation and test need one each.")


def estimated_class_weights(datamodule: Any, estimate: str) -> list[float]:
    """Class weights of a data module.

    Raises:
        ValueError: it estimates none, or as it says itself.
    """
    if not isinstance(datamodule, EstimatesClassWeights):
        raise ValueError(
            f"class_weights={estimate} needs a method class_weights, which {type(datamodule).__name__} does not "
            "have: give one number for each class, or write the method (see lightning_seg.data.EstimatesClassWeights)."
        )
    return datamodule.class_weights(estimate)
