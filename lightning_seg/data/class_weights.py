"""Class weights for losses, estimated from how many pixels each class has in the training masks.

Each function takes the pixels of each class in each image, `(images, classes)`, void pixels left out, and gives one
number for each class, the rarer the class the larger. The mean of the numbers over the classes that occur is 1, so that
a weighted loss is about as large as one without weights. A class that occurs in no image has weight 0, since nothing
can be estimated, or learned, for it.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def inverse_frequency(pixels: Tensor) -> Tensor:
    """Weights in proportion to 1 / n_c, with n_c the pixels of class c: every class weighs the same as a whole."""
    return _normalized(1 / pixels.double().sum(0))


def median_frequency(pixels: Tensor) -> Tensor:
    """Weights in proportion to median(f) / f_c (Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2).

    f_c is the share of class c among the valid pixels of those images in which it occurs, so that a class is not taken
    for rare because few images show it. The median, a factor that all classes have in common, cancels.
    """
    pixels = pixels.double()
    pixels_of_its_images = ((pixels > 0) * pixels.sum(1, keepdim=True)).sum(0)
    return _normalized(pixels_of_its_images / pixels.sum(0))


def effective_number(pixels: Tensor, beta: float | None = None) -> Tensor:
    """Weights in proportion to (1 - β) / (1 - β^n_c), with n_c the pixels of class c (Cui et al. 2019, equation 4).

    It lies between no weights (β = 0) and the inverse frequency (β toward 1): beyond 1 / (1 - β) pixels, more of them
    count for nothing new (https://arxiv.org/abs/1901.05555).

    Args:
        pixels: of each class in each image.
        beta: β, from 0 and below 1. Default: (N - 1) / N with N the mean number of pixels of a class that occurs. The
            paper's 0.9 to 0.9999 are meant for images, and give classes of a million pixels all the same weight.

    Raises:
        ValueError: beta is out of range.
    """
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"beta={beta} must be at least 0 and less than 1.")
    counts = pixels.double().sum(0)
    mean_count = counts.sum() / (counts > 0).sum()
    log_beta = torch.log1p(-1 / mean_count) if beta is None else torch.tensor(beta, dtype=torch.float64).log()
    return _normalized(1 / -torch.expm1(counts * log_beta))


def image_rarity(pixels: Tensor) -> Tensor:
    """How often each image is to be drawn, float64 `(images,)` of mean 1: in proportion to max_c 1 / n_c.

    n_c is the number of images that have class c, and the maximum is over the classes of the image, so that of each
    class as many images are drawn as of the others, as far as classes occur apart. An image of void alone counts as
    the most usual one.
    """
    present = pixels > 0
    images_of = present.sum(0).double()
    rarity = torch.where(present, 1 / images_of, 0.0).amax(1)
    rarity = torch.where(rarity > 0, rarity, 1 / images_of.max())
    return rarity / rarity.mean()


ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {
    estimate.__name__: estimate for estimate in (inverse_frequency, median_frequency, effective_number)
}


def _normalized(weights: Tensor) -> Tensor:
    """`weights` with mean 1, where those of absent classes, divided by 0, become 0."""
    weights = weights.masked_fill(~weights.isfinite(), 0.0)
    return weights * (weights > 0).sum() / weights.sum()
