"""The order of the training images and their random changes, as functions of seed, epoch and image alone.

Nothing of it is a state that a checkpoint would have to hold: epoch and batch, which the trainer counts, say where a
training resumes. Neither the number of worker processes nor which of them loads an image changes anything.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class TrainingOrder(DistributedSampler[Any]):
    """Gives `(epoch, index)` of each image once an epoch, shuffled; with several processes, each its share of them.

    The first images of an epoch come twice if that makes the shares even. `set_epoch` says which epoch the next
    iteration is, else it is the one after the last.

    Args:
        dataset: what the indices are of.
        num_replicas: processes.
        rank: this process among them.
        seed: of the order, the same in each process.
        weights: how often each image is drawn, on average, `(len(dataset),)`. Default: each comes once.

    `skip` is called as an iteration begins to be read, and says how many of this process's images to leave out; it may
    be replaced.
    """

    def __init__(
        self, dataset: Dataset[Any], *, num_replicas: int, rank: int, seed: int, weights: torch.Tensor | None = None
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        self.weights = weights
        self.skip: Callable[[], int] = lambda: 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        self.epoch += 1
        generator = torch.Generator()
        generator.manual_seed(int(_words(self.seed, epoch).view(np.uint64)[0]))
        count = len(self.dataset)  # type: ignore[arg-type]
        if self.weights is None:
            order = torch.randperm(count, generator=generator).tolist()
        else:
            order = torch.multinomial(self.weights, count, replacement=True, generator=generator).tolist()
        own = islice(cycle(order), self.rank, self.total_size, self.num_replicas)
        return ((epoch, index) for index in islice(own, self.skip(), None))


class SeededSamples(Dataset[Any]):
    """A data set whose random numbers, of torch, numpy and Python, depend on seed, epoch and index alone.

    It is indexed by `(epoch, index)`, or by an index, which is one of epoch 0. The random numbers of the process that
    loads a sample continue as if none had been drawn.

    Args:
        dataset: indexed by index.
        seed: 0 or more.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int] | int) -> Any:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        with _random_numbers_of(_words(self.seed, epoch, index)):
            return self.dataset[index]


class TrainingLoader(DataLoader[Any]):
    """A DataLoader that starts to load with the first batch asked for, not before.

    Lightning makes the first iterator before it knows where a resumed training starts, and worker processes would load
    the beginning of the first epoch.
    """

    def __iter__(self) -> Any:
        yield from super().__iter__()


@contextmanager
def _random_numbers_of(words: np.ndarray) -> Iterator[None]:
    """Seeds all generators of the CPU, and afterwards gives them their state back."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    # Not torch.manual_seed, which would also seed the GPU that the training runs on.
    torch.default_generator.manual_seed(int(words.view(np.uint64)[0]))
    random.seed(words.tobytes())
    np.random.seed(words)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _words(*numbers: int) -> np.ndarray:
    """Four uint32 that depend on all the numbers, so that neighboring seeds and epochs have nothing in common."""
    return np.random.SeedSequence(numbers).generate_state(4)
