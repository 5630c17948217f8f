"""The eight symmetries of the square, exactly: quarter turns and flips of images, masks and logits."""

from typing import NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """One of them, called with anything whose last two dimensions are rows and columns.

    First the columns are mirrored, if `mirrored`, then all is turned anticlockwise by `turns` times 90 degrees. No
    pixel's value changes. An odd number of turns exchanges height and width.
    """

    turns: int
    mirrored: bool

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor, turned, of the same dtype."""
        return (tensor.flip(-1) if self.mirrored else tensor).rot90(self.turns, (-2, -1))

    @property
    def inverse(self) -> "Symmetry":
        """The symmetry that takes this one back; that of a reflection is itself."""
        return self if self.mirrored else Symmetry(-self.turns % 4, False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is made of an image of this height and width."""
        return (width, height) if self.turns % 2 else (height, width)


# The first changes nothing; those of an even number of turns keep the size of every image.
SYMMETRIES = tuple(Symmetry(turns, mirrored) for turns in range(4) for mirrored in (False, True))
