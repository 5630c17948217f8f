"""Training on few images: more of each in an epoch, and images without labels beside them."""

from typing import Any

import torch
from torch.utils.data import Dataset


class FewImages(Dataset[Any]):
    """A data set, several times over, each of whose samples has other images beside it.

    Which those are is drawn from torch's random numbers after the sample has been loaded, uniformly and each time anew.

    Args:
        dataset: gives mappings.
        repeats: how often each sample comes.
        unlabeled: gives mappings with an `image`, all else of which is left out.
        per_image: how many of these a sample has, in a list under `unlabeled`; 0 for no such list.
    """

    def __init__(self, dataset: Dataset[Any], *, repeats: int, unlabeled: Dataset[Any], per_image: int) -> None:
        self.dataset = dataset
        self.repeats = repeats
        self.unlabeled = unlabeled
        self.per_image = per_image

    def __len__(self) -> int:
        return len(self.dataset) * self.repeats  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index % len(self.dataset)]  # type: ignore[arg-type]
        if self.per_image == 0:
            return sample
        drawn = torch.randint(len(self.unlabeled), (self.per_image,)).tolist()  # type: ignore[arg-type]
        return {**sample, "unlabeled": [self.unlabeled[other]["image"] for other in drawn]}


def check_limit(train_limit: int | None) -> None:
    """Refuses a limit that leaves no training image.

    Raises:
        ValueError: it does.
    """
    if train_limit is not None and train_limit < 1:
        raise ValueError(f"data.train_limit={train_limit} leaves no training image: give 1 or more, or null for all.")


def check_enough(train_limit: int, images: int) -> None:
    """Refuses a limit that there are fewer images than.

    Raises:
        ValueError: there are.
    """
    if train_limit > images:
        raise ValueError(
            f"data.train_limit={train_limit}, but there are {images} training images: give at most {images}, "
            "or null for all."
        )
