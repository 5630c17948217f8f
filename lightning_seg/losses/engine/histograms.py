"""Histograms of errors, which threads fill block by block."""

from threading import get_ident

import torch
from torch import Tensor

from lightning_seg.losses.engine.block_threads import block_size, map_blocks
from lightning_seg.losses.engine.dtypes import wide_dtype
from lightning_seg.losses.engine.error_bins import ErrorHistogram
from lightning_seg.losses.engine.interface import Requirements
from lightning_seg.task import may_look


class Histograms:
    """Histograms of errors for each group of images, class, and label, other (0) or own (1), by each thread."""

    def __init__(self, logits: Tensor, requires: Requirements) -> None:
        images, classes, pixels = logits.shape
        self.per_image = requires.errors_per_image
        self._bins, self._pixels = requires.bins, images * pixels
        self._shape = (images if self.per_image else 1, classes, 2)
        self._like = torch.empty(0, dtype=wide_dtype(logits), device=logits.device)
        self._of_thread: dict[int, ErrorHistogram] = {}
        #: How many bits of an error's place in its bin are kept, and where its count begins.
        self.kept = self._bins.kept(self._like.dtype, self._pixels)
        self.shift = self.kept + self._pixels.bit_length()

    def write(self, counts: Tensor, sums: Tensor) -> None:
        """Writes the number of errors in each bin and their sum, (G, C, 2, bins)."""
        parts = self.packed
        counts, sums = counts.view(-1, counts.shape[3]), sums.view(-1, sums.shape[3])
        if not parts:  # there were no pixels
            counts.zero_()
            sums.zero_()
            return

        total, *others = parts
        for other in others:
            total += other
        used = used_bins(total)
        counts[:, used:], sums[:, used:] = 0, 0

        def write_rows(rows: slice) -> None:
            unpacked = self._bins.unpack(total[rows, :used], self._like.dtype, self._pixels)
            counts[rows, :used], sums[rows, :used] = unpacked

        step = max(1, block_size(sums) // max(used, 1))
        map_blocks(write_rows, [slice(row, row + step) for row in range(0, len(counts), step)], counts.device)

    @property
    def packed(self) -> list[Tensor]:
        """What each thread has added up, int64 (rows, bins)."""
        return [histogram.packed.flatten(0, 2) for histogram in self._of_thread.values()]

    def edges(self) -> tuple[Tensor, Tensor]:
        """See `ErrorBins.edges`."""
        index = torch.arange(self._bins.count, device=self._like.device)
        return self._bins.edges(index, self._like.dtype, self._pixels)

    @property
    def _histogram(self) -> ErrorHistogram:
        thread = get_ident()
        if thread not in self._of_thread:
            self._of_thread[thread] = ErrorHistogram(self._bins, self._shape, self._like, self._pixels)
        return self._of_thread[thread]

    def add_softmax(self, images: slice, p: Tensor, labels: Tensor, valid: Tensor | None) -> None:
        """Adds |p_c - [y = c]|; `p`, 0 at void pixels, is overwritten."""
        index = labels.unsqueeze(1)
        own_bins, own = self._histogram.index_and_value(1 - p.gather(1, index))
        if valid is not None:
            own.mul_(valid.unsqueeze(1))
        bins, values = self._histogram.index_and_value(p)
        values.scatter_(1, index, 0)
        if valid is not None:
            values.mul_(valid.unsqueeze(1))
        packed = self.rows(images)
        self._scatter(packed[:, :, 0], bins, values)
        in_row = own_bins.add_(index * (2 * packed.shape[3]) + packed.shape[3])
        self._scatter(packed.flatten(1).unsqueeze(1), in_row, own)

    def add(self, images: slice, errors: Tensor, own: Tensor, counted: Tensor | None) -> None:
        """Adds errors (n, C, L), overwritten, of pixels whose label is the channel's own (1) or another (0).

        `counted`, bool (n, C, L) or (n, L), says which are; None counts all.
        """
        index, values = self._histogram.index_and_value(errors, own)
        if counted is not None:
            values.mul_(counted if counted.ndim == 3 else counted.unsqueeze(1))
        self._scatter(self.rows(images).flatten(2), index, values)

    def rows(self, images: slice) -> Tensor:
        """What this thread adds to, packed, int64: (n, C, 2, bins), or (1, C, 2, bins) if images are joined."""
        return self._histogram.packed[images] if self.per_image else self._histogram.packed

    def _scatter(self, rows: Tensor, bins: Tensor, values: Tensor) -> None:
        """Adds (n, C, L) to (n, C, bins), or to (1, C, bins)."""
        if len(rows) == len(bins):
            rows.scatter_add_(2, bins, values)
        else:
            rows.scatter_add_(2, *(part.transpose(0, 1).flatten(1).unsqueeze(0) for part in (bins, values)))


def used_bins(counts: Tensor) -> int:
    """How many bins of (rows, bins) there are up to the last with an error in it; all on a device that would wait.

    Of margins, whose bins reach far, few are used, and what is computed of each costs more than looking.
    """
    if len(counts) == 0 or not may_look(counts):
        return counts.shape[1]
    used = counts.amax(0).nonzero()
    return int(used[-1]) + 1 if len(used) else 0
