"""Several trained modules as one, whose probabilities are the mean of theirs."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.checkpoint import load_module
from lightning_seg.module import SegmentationModule

_MUST_AGREE = ("task", "num_classes", "class_names", "ignore_index", "scale")


class Ensemble(SegmentationModule):
    """A module whose logits are those of the mean of its members' probabilities.

        logits = log 1/K Σ_k p_k(x)        multiclass; in the other tasks log p - log(1 - p) of the mean p

    Tiles, test-time augmentation, loss and palette are those of the first member.

    Args:
        members: modules, or functions that load one each: these are called anew for every image or tile, and one member
            at a time is in memory.
        names: of the members, for the message.

    Raises:
        ValueError: there are none, or they differ in classes, task or scale.
    """

    def __init__(
        self, members: Sequence[SegmentationModule | Callable[[], SegmentationModule]], names: Sequence[object] = ()
    ) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one module.")
        names = names or [f"module {index}" for index in range(len(members))]
        first = _loaded(members[0])
        for member, name in zip(members[1:], names[1:], strict=True):
            other = _loaded(member)
            for what in _MUST_AGREE:
                if getattr(first, what) != getattr(other, what):
                    raise ValueError(
                        f"{names[0]} and {name} do not make an ensemble: {what} is {getattr(first, what)} and "
                        f"{getattr(other, what)}."
                    )
        held = [member for member in members if isinstance(member, nn.Module)]
        super().__init__(
            nn.ModuleList(held),
            first.loss,
            num_classes=first.num_classes,
            task=first.task,
            ignore_index=first.ignore_index,
            class_names=first.class_names,
            test_time_augmentation=first.test_time_augmentation,
            tile=first.tile,
            margin=first.margin,
            tiling=first.tiling,
            threshold=first.decision_threshold,
        )
        self.scale, self.palette = first.scale, first.palette
        self.reading, self.volumes = getattr(first, "reading", None), first.volumes
        self.loaders = [] if held else list(members)
        self.eval()

    def forward(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits `(N, num_classes, *size)` of the mean probabilities."""
        total: list[Tensor] = []
        count = 0
        for member in self._members(image.device):
            logits = member(image, size)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            several = self.task == "multiclass"
            parts = [logits.log_softmax(1)] if several else [F.logsigmoid(logits), F.logsigmoid(-logits)]
            total = [torch.logaddexp(*pair) for pair in zip(total, parts, strict=True)] if total else parts
            count += 1
        return total[0] - math.log(count) if len(total) == 1 else total[0] - total[1]

    def _members(self, device: torch.device) -> Iterator[nn.Module]:
        assert isinstance(self.backbone, nn.ModuleList)
        yield from self.backbone
        for load in self.loaders:
            yield _loaded(load).to(device)


def load_modules(
    paths: str | Path | Sequence[str | Path],
    *,
    trusted: Sequence[str] = (),
    map_location: str | torch.device = "cpu",
    one_in_memory: bool = False,
) -> SegmentationModule:
    """The module of a checkpoint, or the ensemble of several; each as `load_module` takes it.

    Args:
        paths: one, or several.
        trusted: as of `load_module`.
        map_location: the device to load to.
        one_in_memory: the members of an ensemble are read anew for every image or tile, so that memory is that of one.

    Raises:
        ValueError: they differ in classes, task or scale, or one cannot be loaded.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths or "" in paths:
        raise ValueError("checkpoint is empty: name a file, or several, checkpoint=[a.ckpt,b.ckpt].")
    load = partial(load_module, trusted=trusted, map_location=map_location)
    if len(paths) == 1:
        return load(paths[0])
    loaders = [partial(load, path) for path in paths]
    return Ensemble(loaders if one_in_memory else [one() for one in loaders], paths).to(map_location)


def _loaded(member: SegmentationModule | Callable[[], SegmentationModule]) -> SegmentationModule:
    return member if isinstance(member, SegmentationModule) else member()
