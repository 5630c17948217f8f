"""Weights of a sum's terms that change from epoch to epoch."""

from collections.abc import Callable

from lightning_seg.losses.loss import not_negative

WeightSchedule = Callable[[int], float]


class LinearWeight:
    """A weight that goes from `start` to `end` in a straight line over epochs, and is constant before and after.

        start + (end - start) · (epoch - first_epoch) / (last_epoch - first_epoch)

    Args:
        start: the weight up to `first_epoch`, 0 or more.
        end: the weight from `last_epoch` on, 0 or more.
        first_epoch: the last epoch with `start`, counted from 0.
        last_epoch: the first epoch with `end`. If it is `first_epoch`, the weight jumps there.

    Raises:
        ValueError: a weight is negative, or the epochs are not two numbers in order.
    """

    def __init__(self, *, start: float, end: float, first_epoch: int, last_epoch: int) -> None:
        self.start = not_negative(start, "start")
        self.end = not_negative(end, "end")
        epochs = (first_epoch, last_epoch)
        if any(isinstance(epoch, bool) or not isinstance(epoch, int) for epoch in epochs) or (
            not 0 <= first_epoch <= last_epoch
        ):
            raise ValueError(
                f"first_epoch={first_epoch!r} and last_epoch={last_epoch!r} must be integers, 0 or more, the "
                "smaller one first."
            )
        self.first_epoch = first_epoch
        self.last_epoch = last_epoch

    def __call__(self, epoch: int) -> float:
        """The weight in an epoch, counted from 0."""
        if epoch >= self.last_epoch:
            return self.end
        if epoch <= self.first_epoch:
            return self.start
        share = (epoch - self.first_epoch) / (self.last_epoch - self.first_epoch)
        return self.start + share * (self.end - self.start)
