"""What SegmentationModule and the Trainer add to a bare training loop with the same network, loss and data.

    python -m tests.benchmarks.module
    python -m tests.benchmarks.module --batch 8 --size 512 --device cuda --steps 50

In each round both train the same network from the same weights on the same batches, in random order, the module with
its metrics. The first step of each is left out, as the loop would have it; the end of the epoch, where the scores are
computed, counts. "whole fit" adds the Trainer's own start and end, which a training pays once.
"""

import argparse
import copy
import logging
import random
import statistics
import time
import warnings
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_seg import SegmentationModule
from lightning_seg.losses import CrossEntropyDiceLoss
from tests.benchmarks.losses import ROOT

VOID = 255
TARGET = 1.05


class Clock(lightning.Callback):
    """When the second step began, and when training was over."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start = self.end = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            self.start = now(self.device)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.end = now(self.device)


@dataclass(frozen=True)
class Round:
    """Seconds for each step of the bare loop, of the fit, and of the fit from its call to its return."""

    bare: float
    fit: float
    whole: float


def now(device: str) -> float:
    """The time, when the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def network(classes: int) -> nn.Module:
    """The small U-Net of the configuration."""
    configuration = OmegaConf.load(ROOT / "conf" / "backbone" / "unet_small.yaml")
    configuration.classes = classes
    built: nn.Module = instantiate(configuration)
    return built


def loss() -> nn.Module:
    return CrossEntropyDiceLoss(ignore_index=VOID)


def data(options: argparse.Namespace) -> DataLoader[Any]:
    """As many images as the steps need, random, a few pixels void."""
    images = []
    for _ in range(options.batch * options.steps):
        mask = torch.randint(options.classes, (options.size, options.size))
        mask[: options.size // 16] = VOID
        images.append((torch.rand(3, options.size, options.size), mask))
    return DataLoader(images, batch_size=options.batch)  # type: ignore[arg-type]


def bare(network: nn.Module, loader: DataLoader[Any], device: str) -> float:
    """Seconds for each step but the first, of the loop that one would write by hand."""
    network.to(device).train()
    criterion = loss().to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    start = 0.0
    for index, (image, mask) in enumerate(loader):
        if index == 1:
            start = now(device)
        value: Tensor = criterion(network(image.to(device)), mask.to(device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return (now(device) - start) / (len(loader) - 1)


def fit(network: nn.Module, loader: DataLoader[Any], device: str, classes: int) -> tuple[float, float]:
    """Seconds for each step but the first, and for each step of the whole call."""
    module = SegmentationModule(network, loss(), num_classes=classes, ignore_index=VOID)
    clock = Clock(device)
    trainer = lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    begun = now(device)
    trainer.fit(module, loader)
    whole = now(device) - begun
    return (clock.end - clock.start) / (len(loader) - 1), whole / len(loader)


def measure(options: argparse.Namespace) -> list[Round]:
    """The rounds, after one that is not counted."""
    torch.manual_seed(0)
    loader, initial = data(options), network(options.classes)
    order, rounds = random.Random(0), []
    for _ in range(options.rounds + 1):
        seconds: dict[str, tuple[float, float]] = {}
        for name in order.sample(("bare", "fit"), 2):
            trained = copy.deepcopy(initial)
            if name == "bare":
                seconds[name] = (bare(trained, loader, options.device), 0.0)
            else:
                seconds[name] = fit(trained, loader, options.device, options.classes)
        rounds.append(Round(seconds["bare"][0], *seconds["fit"]))
    return rounds[1:]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.module",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of each training")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="of the square images")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error(f"--steps {options.steps}: the first step is left out, so give 2 or more")
    return options


def main() -> None:
    """Measures and prints."""
    options = parse()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rounds = measure(options)
    table = Table(
        title=f"batch {options.batch} of {options.size} × {options.size}, {options.classes} classes, "
        f"{options.threads} threads, {options.device}, {options.steps} steps, {options.rounds} rounds",
        title_justify="left",
    )
    for heading in ("", "ms a step", "median ratio to the bare loop", "least", "most"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, times in (
        ("bare loop", [round.bare for round in rounds]),
        ("Trainer.fit", [round.fit for round in rounds]),
        ("whole fit", [round.whole for round in rounds]),
    ):
        ratios = [seconds / round.bare for seconds, round in zip(times, rounds, strict=True)]
        figures = (statistics.median(ratios), min(ratios), max(ratios))
        table.add_row(name, f"{1000 * statistics.median(times):.1f}", *(f"{figure:.3f}" for figure in figures))
    console = Console(width=120)
    console.print(table)
    median = statistics.median(round.fit / round.bare for round in rounds)
    console.print(f"Trainer.fit at most {TARGET}: {'met' if median <= TARGET else 'not met'}, {median:.3f}")


if __name__ == "__main__":
    main()
