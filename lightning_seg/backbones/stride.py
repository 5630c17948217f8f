"""Images of any size for networks that need multiples of their stride."""

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.backbones.logits import logits_at_size


class PadToStride(nn.Module):
    """A network for images of any size.

    The image is padded at its right and bottom by repeating its border to the next multiple of `stride`, and the
    logits are cropped back.

    Args:
        backbone: the network, for images `(N, C, H, W)` whose sides are multiples of `stride`.
        stride: the product of the network's downsampling factors, in pixels.
    """

    def __init__(self, backbone: nn.Module, stride: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, classes, H, W)` of an image `(N, C, H, W)` with any `H` and `W`."""
        height, width = image.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        if below or right:
            image = F.pad(image, (0, right, 0, below), mode="replicate")
        return logits_at_size(self.backbone(image), image.shape[2:])[..., :height, :width]
