"""What tiles change of a whole pass, by network and tiling: `python -m tests.benchmarks.tiling`."""

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_seg.backbones import segmentation_model
from lightning_seg.inference.tiling import tiled_logits
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule

SIZE, TILE, MARGIN = 512, 192, 32
STEPS = 40


def scene(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """A noisy image `(1, 3, size, size)` of three classes, and its labels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, size // 16, size // 16, generator=generator)
    field = F.interpolate(coarse, (size, size), mode="bicubic")[:, 0]
    labels = (field > 0.4).long() + (field > 0.6).long()
    image = torch.stack([field, 1 - field, (labels == 1).float()], 1) + 0.3 * torch.randn(
        1, 3, size, size, generator=generator
    )
    return image.clamp(0, 1), labels


def trained(network: nn.Module) -> SegmentationModule:
    """A module that has learned a little of the scenes."""
    module = SegmentationModule(network, CrossEntropyLoss(), num_classes=3).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for step in range(STEPS):
        image, labels = (torch.cat(part) for part in zip(*(scene(96, 2 * step + i) for i in range(2)), strict=True))
        loss = module.compute_loss(module(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


def jump(error: Tensor, logits: Tensor) -> float:
    """The largest mean step of the error between two columns, in steps of the whole pass between neighbors."""
    return float(error.diff(dim=-1).abs().mean((0, 1, 2)).max() / logits.diff(dim=-1).abs().mean())


def with_instance_norms(network: nn.Module) -> nn.Module:
    """The network with instance norms in place of its batch norms."""
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(part, name, nn.InstanceNorm2d(child.num_features, affine=True))
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "U-Net, ResNet-18": lambda: segmentation_model("Unet", encoder_name="resnet18", **_SMALL),
    "SegFormer, MiT-B0": lambda: segmentation_model("Segformer", encoder_name="mit_b0", **_OPTIONS),
    "U-Net, EfficientNet-B0 (squeeze-and-excitation)": lambda: segmentation_model(
        "Unet", encoder_name="efficientnet-b0", **_SMALL
    ),
    "U-Net, ResNet-18 with instance norms": lambda: with_instance_norms(
        smp.create_model("Unet", encoder_name="resnet18", **_SMALL)
    ),
}
_OPTIONS = {"encoder_weights": None, "in_channels": 3, "classes": 3}
_SMALL = {**_OPTIONS, "decoder_channels": (64, 48, 32, 24, 16)}


def main() -> None:
    """Prints the table."""
    print(f"Images of {SIZE}×{SIZE} pixels, tiles of {TILE} with margins of {MARGIN}.\n")
    print("| network | labels that differ, `crop` | `smooth` | jump at seams, `crop` | `smooth` |")
    print("| --- | --- | --- | --- | --- |")
    image, _ = scene(SIZE, -1)
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        module = trained(build())
        tiles = {"tile": TILE, "margin": MARGIN, "stride": module.tile_stride}
        with torch.inference_mode():
            whole = module(image)
            differ, jumps = [], []
            for tiling in ("crop", "smooth"):
                logits = tiled_logits(module, image, image.shape[2:], **tiles, tiling=tiling)  # type: ignore[arg-type]
                differ.append(100 * float((logits.argmax(1) != whole.argmax(1)).float().mean()))
                jumps.append(jump(logits - whole, whole))
        print(f"| {name} | {differ[0]:.3f} % | {differ[1]:.3f} % | {jumps[0]:.3f} | {jumps[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
