"""Mean scores of all classes but the background, whose size often hides the others."""

from typing import Any

from torch import Tensor

from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from lightning_seg.metrics.ratios import Ratio, average_ratio


class MeanWithoutBackground(ConfusionMatrixMetric):
    """The mean over classes of a ratio, over the whole data set, without one class.

    Args:
        ratio: of counts, for example that of IoU.
        background: the class that is left out.
        kwargs: see `ConfusionMatrixMetric`.

    Raises:
        ValueError: the task is not multiclass, or there is no such class.
    """

    def __init__(self, *, ratio: Ratio, background: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.task != "multiclass" or not 0 <= background < self.num_classes or self.num_classes < 2:
            raise ValueError(
                f"background={background} is not one of the {self.num_classes} classes of a multiclass task: "
                "leave it out (module.background=null)."
            )
        self.ratio = ratio
        self.background = background

    def compute(self) -> Tensor:
        """The mean, a float32 scalar; NaN where no other class has a score."""
        kept = [index for index in range(self.num_classes) if index != self.background]
        numerator, denominator = self.ratio(self.confusion_matrix, self.task, self.ignore_index)
        return average_ratio(numerator[..., kept], denominator[..., kept], "macro")
