"""What the losses of distance maps share."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Unpack

import torch
from torch import Tensor, nn

from lightning_seg.losses.boundary.distance_maps import checked_spacing, signed_distance
from lightning_seg.losses.boundary.target import distances_of, from_third_argument
from lightning_seg.losses.engine.pixels import Pixels
from lightning_seg.losses.engine.reduction import mean_over_classes, ratio, sum_if
from lightning_seg.losses.engine.statistics import Statistics
from lightning_seg.losses.loss import Loss
from lightning_seg.losses.options import ClassOptions


class DistanceLoss(Loss):
    """A mean, over valid pixels and then over classes, of what depends on distances; a subclass writes `pixel_losses`.

    Args:
        spacing: the distance of neighbors in each spatial dimension, for voxels that are not cubes; None is 1 in all.
        options: classes, task, ignore_index, class_weights, per_image and sync_dist; see `Loss`.

    Raises:
        ValueError: spacing is not a list of positive numbers, or as `Loss` says.
    """

    def __init__(self, *, spacing: Iterable[float] | None = None, **options: Unpack[ClassOptions]) -> None:
        super().__init__(**options)
        self.spacing = checked_spacing(spacing)

    def from_statistics(self, statistics: Statistics) -> Tensor:
        """The loss; called with autocast off."""
        counted, valid_count = self._counted(statistics)
        mask, scope = target_mask(statistics.pixels), self._scope(statistics, counted)
        carried = distances_of(statistics.pixels.target)
        if carried is None:
            distances = self.distances_of(mask, scope, statistics)
        else:
            distances = self._checked(carried, statistics)
        pixel_losses = torch.where(scope, self.pixel_losses(statistics, mask, scope, distances), 0)
        sums = self._over_group(pixel_losses.sum(-1, dtype=statistics.sum_dtype))
        weights = self.weights_for(statistics)
        loss = mean_over_classes(ratio(sums, valid_count), counted, weights, self.per_image, self.syncs)
        return loss.to(pixel_losses.dtype)

    @abstractmethod
    def pixel_losses(self, statistics: Statistics, mask: Tensor, scope: Tensor, distances: Tensor) -> Tensor:
        """The loss of each pixel and class, (N, C, S).

        Args:
            statistics: of the batch.
            mask: where the label is the class; bool, (N, C, S) as all that follow.
            scope: the valid pixels of the classes that count; losses elsewhere are not read.
            distances: the signed distances of the mask, in the dtype of the probabilities, finite in scope.
        """

    def forward(self, logits: Tensor, target: Tensor, distances: Tensor | None = None) -> Tensor:
        """The loss, float32 or float64; see `read_pixels` for shapes, dtypes and errors.

        Args:
            logits: (N, C, *spatial).
            target: labels, which may carry what `target_distances` gave for them, see `with_distances`.
            distances: deprecated; a target carries them, see `with_distances`.
        """
        if distances is not None:
            target = from_third_argument(target, distances)
        return super().forward(logits, target)

    def target_distances(self, target: Tensor, num_classes: int) -> Tensor:
        """The signed distances φ of the target's classes, by `signed_distance`, to be computed once and kept.

        They depend on the target and on the loss's spacing, classes, task and ignore_index, and on nothing else, so
        that the processes of a data loader may compute them while the device trains, after augmentation: a data module
        of this package does with `distances=True`, and any other puts them into the batch as `distances`, from where
        `SegmentationModule.unpack` takes them. Without it, call `loss(logits, with_distances(target, distances))`.

        Args:
            target: labels as the loss takes them, with the first dimension N.
            num_classes: the number C of channels that the logits will have; read in the multiclass task only.

        Returns:
            (N, C, *spatial), float32; 0 at void pixels and for classes that the loss leaves out.
        """
        shape = target.shape if self.task != "multiclass" else (len(target), num_classes, *target.shape[1:])
        statistics = self.read(torch.zeros(shape, device=target.device), target)
        # Without a sum over processes: a worker of a data loader has none.
        counted = self.counted_classes(statistics.target_sum > 0, statistics.valid_count)
        distances = self.distances_of(target_mask(statistics.pixels), self._scope(statistics, counted), statistics)
        return distances.reshape(*distances.shape[:2], *statistics.pixels.spatial)

    def distances_of(self, mask: Tensor, scope: Tensor, statistics: Statistics) -> Tensor:
        """The signed distances of a mask, in the dtype of the probabilities."""
        distances = signed_distance(mask, scope, statistics.pixels.spatial, self.spacing)
        return distances.to(statistics.probabilities.dtype)

    def _counted(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        """Which classes count, and their numbers of valid pixels: (N, C) if per image, else (1, C)."""
        present, valid_count = self._over_group(torch.stack([statistics.target_sum, statistics.valid_count]))
        return self.counted_classes(present > 0, valid_count), valid_count

    def _over_group(self, sums: Tensor) -> Tensor:
        """Sums over images, (…, N, C), as they are if per image, else over the batch."""
        return sums if self.per_image else sum_if(self.syncs, sums.sum(-2, keepdim=True))

    def _scope(self, statistics: Statistics, counted: Tensor) -> Tensor:
        valid = statistics.pixels.valid
        return (valid.unsqueeze(1) if self.task == "multiclass" else valid) & counted.unsqueeze(-1)

    def _checked(self, distances: Tensor, statistics: Statistics) -> Tensor:
        probabilities, spatial = statistics.probabilities, statistics.pixels.spatial
        expected = (*probabilities.shape[:2], *spatial)
        if self.task == "binary" and distances.shape == (len(probabilities), *spatial):
            distances = distances.unsqueeze(1)
        if distances.shape != expected or not distances.is_floating_point():
            raise ValueError(
                f"distances are {distances.dtype} of shape {tuple(distances.shape)}; expected what target_distances "
                f"returns for this target and {expected[1]} classes: floating point of shape {expected}."
            )
        return distances.detach().reshape(probabilities.shape).to(probabilities)


def shared_distance_loss(loss: nn.Module) -> DistanceLoss | None:
    """The loss, of those within a loss, whose `target_distances` all of them can use; None if none takes distances.

    Raises:
        ValueError: they differ in spacing or in the list of classes that count.
    """
    readers = [part for part in loss.modules() if isinstance(part, DistanceLoss)]
    # A dict, which keeps the order. Of absent classes there are no distances, so present classes are all.
    read = {(term.spacing, term.classes if isinstance(term.classes, tuple) else "all"): None for term in readers}
    if len(read) > 1:
        listed = " and ".join(f"spacing={spacing}, classes={classes}" for spacing, classes in read)
        raise ValueError(
            f"the terms need different distances ({listed}): give them equal options, or let each compute its own."
        )
    return readers[0] if readers else None


def target_mask(pixels: Pixels) -> Tensor:
    """Where the label is the class, bool, (N, C, S); at void pixels any value."""
    labels = pixels.labels
    assert labels is not None  # soft targets are refused when they are read
    if pixels.task != "multiclass":
        return labels == 1
    return labels.unsqueeze(1) == torch.arange(pixels.num_classes, device=labels.device)[:, None]
