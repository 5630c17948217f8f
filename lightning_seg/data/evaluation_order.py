"""Which images of an evaluation on several processes count."""

from typing import Any

from torch.utils.data import DataLoader, DistributedSampler


class UnpaddedImages:
    """Counts the images of data loaders, and finds those that a sampler repeats only to make all processes even.

    Lightning gives evaluation a DistributedSampler, which repeats the first images of the data set at the end of the
    last processes. The forward pass needs them, since all processes must take as many steps; the scores do not.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def reset(self) -> None:
        """Starts an epoch."""
        self._seen.clear()

    def count(self, images: int, loaders: Any, index: int = 0) -> int:
        """How many of the next images count: the first so many.

        Args:
            images: how many come next.
            loaders: a data loader, or a sequence of them.
            index: which of them the images come from.
        """
        seen = self._seen.get(index, 0)
        self._seen[index] = seen + images
        loader = loaders[index] if isinstance(loaders, list | tuple) else loaders
        sampler = loader.sampler if isinstance(loader, DataLoader) else None
        if not isinstance(sampler, DistributedSampler) or sampler.shuffle:
            return images
        own = len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))  # type: ignore[arg-type]
        return max(0, min(images, own - seen))
