"""Makes the pictures of the READMEs.

python -m tests.pictures              # all of them; that of predictions takes a training, minutes on a CPU
python -m tests.pictures gradients    # one of them
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from lightning_seg.losses import (
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    HausdorffDistanceLoss,
    LovaszHingeLoss,
    OhemCrossEntropyLoss,
    TverskyLoss,
)

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {
    "cross-entropy": CrossEntropyLoss(task="binary"),
    "focal, γ = 2": FocalLoss(task="binary"),
    "hard pixels (OHEM)": OhemCrossEntropyLoss(task="binary", min_kept=100),
    "Dice": DiceLoss(task="binary"),
    "Tversky, β = 0.7": TverskyLoss(task="binary", alpha=0.3, beta=0.7),
    "Lovász hinge": LovaszHingeLoss(),
    "boundary": BoundaryLoss(task="binary"),
    "Hausdorff": HausdorffDistanceLoss(task="binary"),
}


def predictions(path: Path) -> None:
    """Of what README's first command leaves: test images of the embedded data set as the trained network sees them."""
    with tempfile.TemporaryDirectory() as runs:
        code = "from lightning_seg.commands.train import main; main()"
        subprocess.run([sys.executable, "-c", code, "trainer=cpu", f"runs={runs}", "run=default"], check=True)
        shutil.copyfile(Path(runs) / "default" / "predictions.png", path)


def gradients(path: Path) -> None:
    """The gradient of losses where a disc was found, shifted, a dot was missed, and a disc was invented."""
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")

    def disc(row: float, column: float, radius: float) -> Tensor:
        return radius - ((rows - row) ** 2 + (columns - column) ** 2).sqrt()

    target = ((disc(40, 36, 22) > 0) | (disc(76, 76, 4) > 0)).long().unsqueeze(0)
    logits = torch.maximum(disc(44, 42, 22), disc(18, 80, 7)).mul(0.5).clamp(-4, 4).unsqueeze(0).requires_grad_()
    figure, axes = pyplot.subplots(2, 5, figsize=(10, 4.3), layout="constrained")
    axes[0, 0].imshow(target[0], cmap="gray")
    axes[1, 0].imshow(logits.detach()[0].sigmoid(), cmap="gray", vmin=0, vmax=1)
    for axis, loss in zip(axes[:, 1:].flatten(), SHOWN.values(), strict=True):
        (gradient,) = torch.autograd.grad(loss(logits, target), logits)
        bound = gradient.abs().max()
        axis.imshow(-gradient[0], cmap="RdBu_r", vmin=-bound, vmax=bound)
        axis.contour(target[0], levels=[0.5], colors="k", linewidths=0.7)
    titles = ["target", *list(SHOWN)[:4], "prediction", *list(SHOWN)[4:]]
    for axis, title in zip(axes.flatten(), titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


PICTURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "predictions": ("notebooks/predictions.png", predictions),
    "gradients": ("lightning_seg/losses/gradients.png", gradients),
}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; all if none is given")
    names = parser.parse_args(arguments).names or list(PICTURES)
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        parser.error(f"no picture is named {', '.join(unknown)}: choose from {', '.join(PICTURES)}.")
    for name in names:
        place, make = PICTURES[name]
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        print(path)


if __name__ == "__main__":
    main()
