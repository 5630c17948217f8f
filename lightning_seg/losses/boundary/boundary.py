"""Boundary loss."""

from torch import Tensor

from lightning_seg.losses.boundary.distance_loss import DistanceLoss
from lightning_seg.losses.engine.statistics import Statistics


class BoundaryLoss(DistanceLoss):
    """How far from the target's outline probability lies (Kervadec et al. 2019, https://arxiv.org/abs/1812.07032).

        mean of p_c·φ_c        φ_c: the signed distance to the outline of class c, negative inside, positive outside

    over the valid pixels of the batch, or of each image, and then over the classes; p is the softmax or sigmoid of the
    logits. It is linear in p: probability is charged its distance outside its class and credited it inside, so a
    perfect prediction has the least value that the target allows, which is negative. It says little about a class that
    is small or not found yet; the authors add it to a region loss, with a weight that rises.

    Distances are in pixels, or in the unit of `spacing`, from the center of a pixel to that of the nearest pixel of the
    other side: -1 and +1 at the two sides of an outline (see `signed_distance`). The authors' program adds 1 inside,
    which gives pixels at the outline, and all of a structure one or two pixels wide, no reason to be found.

    Shapes: logits (N, C, *spatial), target labels (N, *spatial) if multiclass, else 0 and 1 in the logits' shape; the
    result is a scalar.
    Void pixels add nothing and belong to no side; distances go straight across them, so they are not as if cut out. A
    batch of them alone gives 0.
    Absent classes in an image have no outline: φ = 0 there, so that they add nothing, and so has a class that fills
    the image. They count in the mean with classes="all"; with "present" those absent from the batch do not.
    Soft targets are refused.
    Cost: two distance transforms on the CPU for each image and class that is present, about 25 ms on one core at
    512 × 512 and 200 ms at 96 × 96 × 96, spread over torch.get_num_threads() threads; where that is too slow, leave out
    the background by `classes`, or let the processes that load the images compute them (`distances=True` of the data
    module), or any other by `target_distances`, and call it with a target that carries them, see `with_distances`.

    Args:
        spacing: the distance of neighbors in each spatial dimension, for voxels that are not cubes; None is 1 in all.
        classes: all, present, or a list of the class indices that count.
        task: multiclass, multilabel or binary.
        ignore_index: the label of void pixels.
        class_weights: one number for each class, a weight in the mean; not in the binary task.
        per_image: average over images rather than over the pixels of the batch.
        sync_dist: over all processes.

    Raises:
        TypeError: the target is soft.
        ValueError: spacing does not fit, or as `Loss` says.
    """

    def pixel_losses(self, statistics: Statistics, mask: Tensor, scope: Tensor, distances: Tensor) -> Tensor:
        """p·φ of each pixel and class."""
        return statistics.probabilities.where(scope, 0) * distances.where(scope, 0)
