"""Histograms of errors e ≥ 0: for each bin the number of errors in it and their sum.

A bin is a run of equal leading bits of the floating-point number 1 + e. Below e = 1 all bins have the width 2⁻ᵐ, with m
the mantissa bits that are kept, and in each octave of 1 + e above they are twice as wide. The bits that follow say
where in its bin an error lies; a count and the sum of these places share one integer. Integers add up to the same in
any order and on any number of processes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_seg.losses.engine.dtypes import sum_dtype


@dataclass(frozen=True)
class ErrorBins:
    """The bins of errors.

    Args:
        mantissa_bits: m; there are 2ᵐ bins in each octave of 1 + e.
        octaves: errors up to 2^octaves - 1 are told apart, and larger ones count as that.
    """

    mantissa_bits: int
    octaves: int

    @property
    def count(self) -> int:
        """The number of bins; the last holds the largest error alone."""
        return (self.octaves << self.mantissa_bits) + 1

    def cut(self, dtype: torch.dtype) -> int:
        """How many bits of a float32 or float64 say where in its bin an error lies."""
        return (23 if dtype == torch.float32 else 52) - self.mantissa_bits

    def kept(self, dtype: torch.dtype, pixels: int) -> int:
        """How many of these bits can be summed over so many pixels beside their count, in 63 bits."""
        return max(0, min(self.cut(dtype), 63 - 2 * pixels.bit_length()))

    def positions(self, errors: Tensor, label: Tensor | None = None) -> Tensor:
        """Where errors lie on the axis of bins, in integers of their size: the bin, then the place in it.

        Args:
            errors: float32 or float64, 0 or more; overwritten.
            label: 0 or 1 in the errors' dtype and shape: the bins of label 1 follow those of label 0.
        """
        integer, one = (torch.int32, 0x3F800000) if errors.dtype == torch.float32 else (torch.int64, 1023 << 52)
        positions = errors.clamp_(max=2.0**self.octaves - 1).add_(1).view(integer).sub_(one)
        if label is not None:
            positions += (label * (self.count << self.cut(errors.dtype))).to(integer)
        return positions

    def index(self, positions: Tensor, dtype: torch.dtype, labels: int = 1) -> Tensor:
        """The bins of positions of so many labels, int64; NaN, too, has one."""
        return (positions >> self.cut(dtype)).clamp_(0, labels * self.count - 1).long()

    def unpack(self, packed: Tensor, dtype: torch.dtype, pixels: int) -> tuple[Tensor, Tensor]:
        """The number of errors in each bin, int64, and their sum, `sum_dtype`, of what `ErrorHistogram` adds up.

        The last bins may be left out of `packed`.
        """
        shift = self.kept(dtype, pixels) + pixels.bit_length()
        counts = packed >> shift
        lower, step = self.edges(torch.arange(packed.shape[-1], device=packed.device), dtype, pixels)
        places = (packed & ((1 << shift) - 1)).to(lower.dtype)
        return counts, torch.addcmul(counts * lower, places, step)

    def edges(self, index: Tensor, dtype: torch.dtype, pixels: int) -> tuple[Tensor, Tensor]:
        """The error at which each bin begins, and by how much one place in it is more, `sum_dtype`; see `unpack`."""
        kept = self.kept(dtype, pixels)
        octave = (index >> self.mantissa_bits).to(sum_dtype(index))
        width = torch.exp2(octave - self.mantissa_bits)
        lower = torch.exp2(octave) - 1 + (index & ((1 << self.mantissa_bits) - 1)) * width
        # Of a place that was cut off on average half is lost.
        lower += 0.5 * (2.0**-kept - 2.0 ** -self.cut(dtype)) * width
        return lower, width * 2.0**-kept


# Of one minus a probability: 2¹² bins of equal width. See `LovaszSoftmaxLoss` for the accuracy measured.
PROBABILITY_BINS = ErrorBins(mantissa_bits=12, octaves=1)
# Of hinge errors, which have no bound; those of 4095 and more are trained on, but count as 4095 in the value.
MARGIN_BINS = ErrorBins(mantissa_bits=11, octaves=12)


class ErrorHistogram:
    """Adds errors up by bin, in rows.

    Args:
        bins: the bins.
        shape: of the rows.
        like: a tensor of the errors' dtype and device.
        pixels: how many errors will be added to a row at most.
    """

    def __init__(self, bins: ErrorBins, shape: tuple[int, ...], like: Tensor, pixels: int) -> None:
        self.bins = bins
        self.dtype = like.dtype
        self.pixels = pixels
        self.kept = bins.kept(like.dtype, pixels)
        self.packed = torch.zeros(*shape, bins.count, dtype=torch.int64, device=like.device)

    def index_and_value(self, errors: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The bin of each error, and what to add there to `packed`, both int64; see `ErrorBins.positions`."""
        positions = self.bins.positions(errors, label)
        cut = self.bins.cut(self.dtype)
        index = self.bins.index(positions, self.dtype, labels=1 if label is None else 2)
        places = positions.bitwise_and_((1 << cut) - 1).bitwise_right_shift_(cut - self.kept)
        return index, places.long().add_(1 << (self.kept + self.pixels.bit_length()))

    def read(self) -> tuple[Tensor, Tensor]:
        """The number of errors in each bin, int64, and their sum."""
        return self.bins.unpack(self.packed, self.dtype, self.pixels)
