"""One loss for the logits of a network at several resolutions."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_seg.losses.loss import not_negative


class DeepSupervisionLoss(nn.Module):
    """The weighted mean of a loss over logits of falling resolution (Lee et al. 2015, https://arxiv.org/abs/1409.5185).

        Σ_k weight_k · loss(logits_k, target_k) / Σ_k weight_k        target_k: the target at the size of logits_k

    A pixel of target_k is the target's pixel nearest to its center, so that labels, void pixels and probabilities stay
    what they are. A single tensor of logits, as networks give in evaluation, is given to the loss as it is; that the
    weights are divided by their sum keeps the values of both comparable. An output of weight 0 is computed all the
    same, and stays in the graph.

    `SegmentationModule` trains several outputs by itself, each with any loss (`auxiliary_weight`). To do it by this
    loss, whose weights sum to one, the network returns the finest and keeps the others:

        class FinestOutput(nn.Module):
            def __init__(self, network):
                super().__init__()
                self.network = network

            def forward(self, image):
                finest, *self.coarse = self.network(image)
                return finest

        class DeeplySupervisedModule(SegmentationModule):
            def compute_loss(self, logits, target):
                return self.loss([logits, *self.backbone.coarse] if self.training else logits, target)

    Of a `CompoundLoss` the terms at the finest resolution are logged, for which it is called last.

    Shapes: logits (N, C, *spatial) from fine to coarse, also in the binary task; the target as the loss takes it for
    the size of the first, or of any other size.
    Void pixels, absent classes and soft targets: as in the loss. Small objects may be absent from coarse targets.

    Args:
        loss: a loss that gives a scalar.
        weights: one number for each output, from fine to coarse. Default: 1, 1/2, 1/4, ... for as many as come, as in
            nnU-Net (Isensee et al. 2021), which then drops the coarsest.

    Raises:
        ValueError: the weights are not numbers of 0 or more with one above, or the loss gives no scalar; when called,
            there are no logits, not as many as weights, or they do not fall in size.
    """

    def __init__(self, loss: nn.Module, weights: Iterable[float] | None = None) -> None:
        super().__init__()
        if getattr(loss, "reduction", "mean") == "none":
            raise ValueError("the loss has reduction='none'; a mean over resolutions needs scalars.")
        self.loss = loss
        self.weights = None if weights is None else [not_negative(weight, "a weight") for weight in weights]
        if self.weights is not None and not any(self.weights):
            raise ValueError(f"weights={self.weights} must not be all 0.")
        for argument in ("task", "ignore_index"):  # for those who check that they are one in all of a training
            if hasattr(loss, argument):
                setattr(self, argument, getattr(loss, argument))

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """The loss, a scalar; dtypes and errors are those of the loss."""
        if isinstance(logits, Tensor):
            value: Tensor = self.loss(logits, target)
            return value
        weights = self._weights_for(logits)
        values = [
            weight * self.loss(output, target_at_size(target, output.shape[2:]))
            for weight, output in reversed(list(zip(weights, logits, strict=True)))
        ]
        total: Tensor = sum(values[1:], start=values[0])
        return total / sum(weights)

    def _weights_for(self, logits: Sequence[Tensor]) -> list[float]:
        sizes = [tuple(output.shape[2:]) for output in logits]
        if not sizes:
            raise ValueError("got no logits; expected one tensor or several, from fine to coarse.")
        if not all(_is_coarser(coarse, fine) for fine, coarse in pairwise(sizes)):
            raise ValueError(f"logits of the sizes {', '.join(map(str, sizes))} do not go from fine to coarse.")
        if self.weights is None:
            return [0.5**level for level in range(len(sizes))]
        if len(self.weights) != len(sizes):
            raise ValueError(f"got {len(sizes)} logits for {len(self.weights)} weights; expected one each.")
        return self.weights


def _is_coarser(size: Sequence[int], other: Sequence[int]) -> bool:
    return len(size) == len(other) and all(length <= longer for length, longer in zip(size, other, strict=True))


def target_at_size(target: Tensor, size: Sequence[int]) -> Tensor:
    """The target (..., *spatial) with `size` as its spatial dimensions, by the nearest pixel; any dtype."""
    for dim, length in enumerate(size, start=target.ndim - len(size)):
        before = target.shape[dim]
        if before != length:
            # The pixel that holds the center, (i + 1/2)·before/length, in integers.
            nearest = (2 * torch.arange(length, device=target.device) + 1) * before // (2 * length)
            target = target.index_select(dim, nearest)
    return target
