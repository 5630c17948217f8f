"""Training for predictions that are equivariant to rotations and flips, on unlabeled images too."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_seg.d4 import SYMMETRIES
from lightning_seg.losses.compound.weight_schedule import WeightSchedule
from lightning_seg.losses.loss import not_negative
from lightning_seg.module import SegmentationModule


class ConsistencyModule(SegmentationModule):
    """A `SegmentationModule` that is also trained for predictions that are equivariant to rotations and flips.

        loss(f(x), y) + weight · mean_{n,i} Σ_c (p_c(g u) - g p_c(u))²

    with p the probabilities, g one of the seven symmetries of the square other than the identity, drawn for each batch,
    and u the batch's images together with those that it has under `unlabeled`; i runs over pixels. Every pixel counts,
    void ones too, since no label is used. The transformed prediction g p(u) is a target, through which no gradient
    flows. Both sides have the network in training mode, so that the effect of dropout is part of the term, and
    the running statistics of batch normalization see all images in both positions.

    It is the transformation-consistent term of Li et al. 2020 (https://arxiv.org/abs/1903.00348), with rotations by
    exact quarter turns and flips, after which no pixel is interpolated or lost, and with the network itself as its own
    teacher. It costs a further pass forward and back on all images, and one forward.

    `train/loss` remains the loss of the labeled images, comparable with `val/loss`; `train/loss/consistency` is the
    term before its weight. With the weight 0 it is neither computed nor logged, nor are unlabeled images loaded.

    Images must have at least two spatial dimensions, of which the last two are transformed; they need not be equal if
    the network takes images of any size.

    Args:
        backbone: see `SegmentationModule`, as `loss` and all other options.
        loss: see there.
        consistency_weight: 0 or more, or a function from the epoch, counted from 0, to one, such as `LinearWeight`.

    Raises:
        ValueError: as `SegmentationModule`, or the weight is out of range.
    """

    def __init__(
        self, backbone: nn.Module, loss: nn.Module, *, consistency_weight: float | WeightSchedule, **options: Any
    ) -> None:
        super().__init__(backbone, loss, **options)
        self.consistency_schedule = consistency_weight if callable(consistency_weight) else None
        self.consistency_weight = not_negative(
            consistency_weight(0) if callable(consistency_weight) else consistency_weight, "consistency_weight"
        )

    @property
    def requires_unlabeled(self) -> bool:
        """Whether batches need images without labels: unless the weight is always 0."""
        return self.consistency_schedule is not None or self.consistency_weight > 0

    def set_epoch(self, epoch: int) -> None:
        """See `SegmentationModule`; also sets the weight of the consistency term."""
        super().set_epoch(epoch)
        if self.consistency_schedule is not None:
            weight = self.consistency_schedule(epoch)
            self.consistency_weight = not_negative(weight, f"consistency_weight({epoch})")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch, with the consistency term."""
        # First, so that autocast keeps the weights that it casts with their gradient.
        loss = super().training_step(batch, batch_idx)
        if not self.requires_unlabeled:
            return loss
        image, _ = self.unpack(batch)
        for name in ("unlabeled", "unlabelled"):  # the latter of 0.1.0
            if isinstance(batch, Mapping) and name in batch:
                image = torch.cat([image, batch[name]])
        inconsistency = self.inconsistency(image)
        self.loss_terms["consistency"] = inconsistency.detach()
        total = loss + self.consistency_weight * inconsistency
        if self._is_left_out(total):
            return total
        self.log(
            "train/loss/consistency",
            inconsistency.detach(),
            on_step=False,
            on_epoch=True,
            batch_size=len(image),
            sync_dist=True,
        )
        return total

    def inconsistency(self, image: Tensor) -> Tensor:
        """The consistency term of images `(N, channels, *spatial)`.

        The symmetry is drawn with the CPU's random number generator.

        Returns:
            A scalar, float32 or float64.
        """
        symmetry = SYMMETRIES[int(torch.randint(1, len(SYMMETRIES), ()))]
        transformed = self._float_probabilities(symmetry(image))
        with torch.no_grad():
            target = symmetry(self._float_probabilities(image))
        return (transformed - target).square().sum(dim=1).mean()

    def _float_probabilities(self, image: Tensor) -> Tensor:
        logits: Tensor = self(image)
        return self.probabilities(logits.to(torch.promote_types(logits.dtype, torch.float32)))
