"""The distances that boundary losses need, computed where the images are loaded."""

from copy import deepcopy
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from lightning_seg.losses.boundary.distance_loss import DistanceLoss, shared_distance_loss


class WithDistances(Dataset[Any]):
    """A data set whose samples also have the `distances` of their masks, float32 `(num_classes, *spatial)`.

    Args:
        dataset: gives mappings with a `mask`.
        loss: says which distances, by `target_distances`.
        num_classes: channels of the logits.
    """

    def __init__(self, dataset: Dataset[Any], loss: DistanceLoss, num_classes: int) -> None:
        self.dataset = dataset
        # A copy, because that of the module may be on a GPU, which no other process should touch.
        self.loss = deepcopy(loss).cpu()
        self.num_classes = num_classes

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        return {**sample, "distances": self.loss.target_distances(sample["mask"][None].long(), self.num_classes)[0]}


def with_distances_for(dataset: Dataset[Any], loss: Any, num_classes: int) -> Dataset[Any]:
    """The data set, with the distances that a loss, or the terms of a compound, need; as it is if they need none.

    Raises:
        ValueError: terms need different distances.
    """
    distance_loss = shared_distance_loss(loss) if isinstance(loss, nn.Module) else None
    return dataset if distance_loss is None else WithDistances(dataset, distance_loss, num_classes)
