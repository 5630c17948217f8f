"""What labels are read from: a mask, a file for each class, or nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from lightning_seg.data.image_files import MAX_PIXELS, ImageFileError
from lightning_seg.data.masks import Colors, load_mask, read_labels
from lightning_seg.data.values import Values
from lightning_seg.data.windows import Box
from lightning_seg.reading import StoredFile

Size = tuple[int, int]


class MaskSource(Protocol):
    """Labels that are not one mask file; its text names them in messages.

    `shows`: what they are, in words; `unread`: options of masks of labels that say nothing of such.
    """

    shows: ClassVar[str]
    unread: ClassVar[tuple[str, ...]]

    def read(self, reader: "MaskReader", size: Callable[[], Size]) -> Tensor:
        """The labels, int64 `(H, W)`, or `(C, H, W)` in the multilabel task; `size()` is that of the image."""

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class MaskReader:
    """How masks are read.

    Args:
        num_values: masks hold 0..num_values-1; in the multilabel task there are so many channels of 0 and 1.
        class_names: of the classes.
        ignore_index: the value of void pixels.
        color_table: see `load_mask`, as the four that follow.
        void_colors: see there.
        values: see there.
        threshold: see there.
        page: see there.
        max_pixels: see there.
        multilabel: whether a pixel may have several labels.
    """

    num_values: int
    class_names: Sequence[str] = ()
    ignore_index: int | None = None
    color_table: Colors | None = None
    void_colors: Colors = ()
    values: Values | None = None
    threshold: float | None = None
    page: int | None = None
    max_pixels: int = MAX_PIXELS
    multilabel: bool = False

    def __call__(self, source: "Path | MaskSource", size: Callable[[], Size], box: Box | None = None) -> Tensor:
        """The labels of a file or another source, or of a part of it, of uint8 or int64, not checked."""
        if not isinstance(source, Path) and not isinstance(source, StoredFile):
            labels = source.read(self, size)
            return labels if box is None else labels[(..., *box.parts)]
        if self.multilabel:
            raise ImageFileError(
                f"mask {source} has one label a pixel, and task=multilabel several: give a file for each class, "
                "data.masks=masks/{class}/{id}.png, for instance."
            )
        return read_labels(
            source,
            color_table=self.color_table,
            void_colors=self.void_colors,
            ignore_index=self.ignore_index,
            max_pixels=self.max_pixels,
            values=self.values,
            threshold=self.threshold,
            page=self.page,
            box=box,
        )


@dataclass(frozen=True)
class ClassFiles:
    """Binary files, of which each shows where one class is.

    0 is elsewhere and another value, the same in all of a file, the class; with `threshold`, this value and more. Where
    no file shows a class there is the background, class 0, if it has no file itself, else void.

    Args:
        files: of each class in order, none, one or several, which are joined.
    """

    shows: ClassVar[str] = "each file shows one class"
    unread: ClassVar[tuple[str, ...]] = ("color_table", "values")
    files: tuple[tuple[Path, ...], ...]

    def __str__(self) -> str:
        return str(next(path for paths in self.files for path in paths))

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`. Where several classes are in one pixel of a multiclass mask, it is the last of them."""
        shown = [self._shown(paths, reader) for paths in self.files]
        shape = next(one.shape for one in shown if one is not None)
        for one, paths in zip(shown, self.files, strict=True):
            if one is not None and one.shape != shape:
                raise ImageFileError(
                    f"mask {paths[0]} is {one.shape[0]}×{one.shape[1]} and {self} is {shape[0]}×{shape[1]} (height by "
                    "width): the files of one image must have the same size."
                )
        if reader.multilabel:
            return torch.stack([torch.zeros(shape, dtype=torch.int64) if one is None else one.long() for one in shown])
        elsewhere = 0 if not self.files[0] else reader.ignore_index
        mask = torch.full(shape, -1, dtype=torch.int64)
        for label, one in enumerate(shown):
            if one is not None:
                mask[one] = label
        if elsewhere is None and (mask < 0).any():
            raise ImageFileError(
                f"{int((mask < 0).sum()):,} pixels of {self} and the files beside it have no class: set "
                "data.ignore_index to leave such pixels out, or give the background no file of its own."
            )
        return mask.where(mask >= 0, 0 if elsewhere is None else elsewhere)

    @staticmethod
    def _shown(paths: Sequence[Path], reader: MaskReader) -> Tensor | None:
        joined: Tensor | None = None
        for path in paths:
            mask = load_mask(path, max_pixels=reader.max_pixels, threshold=reader.threshold, page=reader.page)
            found = np.unique(mask.numpy())
            others = [int(value) for value in found if value != 0]
            if len(others) > 1:
                raise ImageFileError(
                    f"mask {path} shows one class and holds {', '.join(map(str, found[:4].tolist()))}"
                    f"{', …' if len(found) > 4 else ''}: save it with 0 and one other value, or give data.threshold, "
                    "the value from which on pixels are the class."
                )
            if joined is not None and joined.shape != mask.shape:
                raise ImageFileError(f"mask {path} and {paths[0]} differ in size: {mask.shape} and {joined.shape}.")
            joined = mask != 0 if joined is None else joined | (mask != 0)
        return joined


@dataclass(frozen=True)
class NoObject:
    """An image without a mask, on which there is nothing of any class but the background.

    Args:
        image: its file.
    """

    shows: ClassVar[str] = "there is no mask"
    unread: ClassVar[tuple[str, ...]] = ()
    image: Path

    def __str__(self) -> str:
        return f"of {self.image}, which has none"

    def read(self, reader: MaskReader, size: Callable[[], Size]) -> Tensor:
        """See `MaskSource`."""
        height, width = size()
        return torch.zeros((reader.num_values, height, width) if reader.multilabel else (height, width)).long()


def class_files(files: Mapping[int, Sequence[Path]], classes: int) -> ClassFiles:
    """The files of some classes of an image, by their index."""
    return ClassFiles(tuple(tuple(files.get(label, ())) for label in range(classes)))
