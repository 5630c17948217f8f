"""Generalized Dice loss."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_seg.losses.options import PooledRegionOptions
from lightning_seg.losses.region.dice import dice
from lightning_seg.losses.region.region_loss import RegionLoss, RegionSums


class GeneralizedDiceLoss(RegionLoss):
    """One minus the Dice coefficient of all classes together, small ones with larger weights (Sudre et al. 2017,
    https://arxiv.org/abs/1707.03237).

        1 - (2·Σ_c w_c TP_c + s) / (Σ_c w_c (P_c + T_c) + s)     TP = Σ p·t    P = Σ p    T = Σ t

        w_c = (min_k T_k / T_c)²     the least over the counted classes that are present

    over the valid pixels of the batch, or of each image; p is the softmax or sigmoid of the logits and t is 1 where the
    label is the class. The paper's weights 1/T_c² are the same ones times min_k T_k², which cancels in its ratio and
    here makes s pixels of the rarest class of it. With one class the weight cancels and it is `DiceLoss`.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels enter none of the sums; a batch of them alone gives 0.
    Absent classes count with classes="all": their weight is 1, that of the rarest class that is present, so that false
    positives are penalized. With "present" they are left out of the sums. If no class is present, the loss is that of
    Dice with T = 0; if P = s = 0, too, it is 0.
    Soft targets are refused: the loss is least at hard predictions, not where p equals them.

    Args:
        smooth: s ≥ 0, added once to both sides of the ratio.
        classes: all, present, or a list of the class indices that count.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, by which w_c is multiplied; not in the binary task.
        per_image: average over images rather than take the sums over the batch.
        sync_dist: over all processes.

    Raises:
        ValueError: smooth is out of range, or as `Loss` says.
    """

    def class_losses(self, sums: RegionSums) -> Tensor:
        """One minus the Dice coefficient of the weighted sums."""
        return 1 - dice(sums, self.smooth)

    def __init__(self, **options: Unpack[PooledRegionOptions]) -> None:
        super().__init__(average="micro", **options)

    def pooling_weights(self, sums: RegionSums, counted: Tensor) -> Tensor:
        """The weights w_c of the classes."""
        present = counted & (sums.target > 0)
        rarest = torch.where(present, sums.target, torch.inf).amin(1, keepdim=True)
        return torch.where(present, (rarest / sums.target).square(), 1)
