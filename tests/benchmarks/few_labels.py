"""Measures what helps to learn from few images: IoU against their number, with each technique of experiment=few_labels.

    python -m tests.benchmarks.few_labels --jobs 2 data.num_workers=0     # all: 120 trainings, an hour of two cores
    python -m tests.benchmarks.few_labels --datasets membrane --limits 4 8 --seeds 0
    python -m tests.benchmarks.few_labels --steps 200 trainer=gpu augment.crop_size=256 backbone.encoder_name=resnet34
    python -m tests.benchmarks.few_labels --summarize                     # only what has been measured

Augmentation by turning, consistency, and regularization are on by themselves, all off, and all on; the eight
orientations at test time are on and off for each trained network. All trainings have as many optimizer steps, and the
network after the last of them is scored, on validation images (of CamVid's sequence every third), which nothing was
chosen on. The seed is that of the weights and of the choice of images. A training that was interrupted resumes where it
stopped, and what is finished is not done again, so that the study can be made in parts: by calling it again, or with
other data sets, limits and seeds from several machines that share the output. Tables and a picture are made of all that
is there.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

from lightning_seg.report.statistics import Difference, paired_difference, summary
from tests.benchmarks.trainings import ROOT, Command, run_all, study_parser

matplotlib.use("Agg")
from matplotlib import pyplot

BATCH = 4
ALL = "all"
# What is done where a technique of training is off; experiment=few_labels has them all.
OFF = {
    "augmentation": ["augment=light"],
    "consistency": ["module.consistency_weight=0"],
    "regularization": ["loss.label_smoothing=0", "optimizer.weight_decay=0.01"],
}
TECHNIQUES = (*OFF, "orientations")
COMPARED = {**{f"{name} alone": (name,) for name in TECHNIQUES}, "all four": TECHNIQUES}
CAMVID = "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"
# Networks that a CPU trains from scratch: membranes need little context and every pixel, streets the reverse.
DATASETS = {
    "membrane": [
        *("data.num_classes=2", "data.class_names=[membrane,interior]", "optimizer.lr=0.01"),
        *("backbone=unet_small", "+backbone.encoder_depth=3", "backbone.decoder_channels=[32,16,8]"),
    ],
    "camvid": [
        *("data.num_classes=11", f"data.class_names=[{CAMVID}]", "data.ignore_index=11", "optimizer.lr=0.003"),
        *("backbone=fpn", "+backbone.decoder_pyramid_channels=64", "+backbone.decoder_segmentation_channels=64"),
    ],
}
# One in so many validation images is scored: neighbors in CamVid's sequence are a second apart.
SCORED = {"membrane": 1, "camvid": 3}


@dataclass(frozen=True)
class Training:
    """One training: on `limit` images of a data set (None: all) with the techniques that are `on`."""

    dataset: str
    limit: int | None
    seed: int
    on: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join([self.dataset, f"{self.limit or ALL}", f"seed{self.seed}", "+".join(self.on) or "plain"])


@dataclass(frozen=True)
class Score:
    """The mean IoU of a training, tested with or without the eight orientations, then one of `on`."""

    dataset: str
    limit: int | None
    seed: int
    on: tuple[str, ...]
    iou: float


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = study_parser("few_labels", str(__doc__), seeds=[0, 1, 2], epochs=10)
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="holds membrane/ and camvid/"
    )
    parser.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--limits", nargs="+", type=_limit, default=[4, 8, 16, None], metavar="N", help="or all")
    parser.add_argument("--steps", type=int, default=10, help=f"of {BATCH} images, an epoch")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, then prints and writes what there is."""
    options = parse(arguments)
    wanted = list(trainings(options.datasets, options.limits, options.seeds))
    if not options.summarize:
        for dataset in options.datasets:
            link_images(options.data / dataset, options.output / "data" / dataset, SCORED[dataset])
        run_all([commands(training, options) for training in wanted], options.jobs, options.output / "trainings.log")
    found = [score for training in wanted for score in scores(training, options.output)]
    if not found:
        sys.exit(f"{options.output} holds no finished training of those asked for.")
    write_scores(options.output / "scores.csv", found)
    for dataset in dict.fromkeys(score.dataset for score in found):
        own = [score for score in found if score.dataset == dataset]
        print_tables(dataset, own)
        draw(options.output / f"{dataset}.png", dataset, own)


def trainings(datasets: Sequence[str], limits: Sequence[int | None], seeds: Sequence[int]) -> Iterator[Training]:
    """All of them, one seed after the other, so that the first part is a small study of its own."""
    for seed, dataset, limit in product(seeds, datasets, limits):
        for on in [(), *((name,) for name in OFF), tuple(OFF)]:
            yield Training(dataset, limit, seed, on)


def link_images(source: Path, root: Path, scored: int) -> None:
    """A folder with the training images of another, and one in `scored` of its validation images."""
    for split, every in (("train", 1), ("val", scored)):
        for kind in ("images", "masks"):
            folder = root / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted((source / split / kind).iterdir())[::every]:
                if not (folder / path.name).exists():
                    (folder / path.name).symlink_to(path.resolve())


def commands(training: Training, options: argparse.Namespace) -> list[Command]:
    """What has not been done yet of a training and its test with the eight orientations."""
    run = options.output / training.name
    root = options.output / "data" / training.dataset
    images = training.limit or len(list((root / "train" / "images").iterdir()))
    train = [
        *(f"run={training.name}", f"runs={options.output}", "resume=auto", "callbacks=no_pictures", "trainer=cpu"),
        *("experiment=few_labels", "data=folder", f"data.root={root}", "data.scale=0.5", "data.check_masks=false"),
        *DATASETS[training.dataset],
        *("backbone.encoder_name=tu-mobilenetv3_small_100", "augment.crop_size=128"),
        *(f"seed={training.seed}", f"data.seed={training.seed}", f"data.train_limit={training.limit or 'null'}"),
        *(f"data.batch_size={BATCH}", f"data.train_repeats={math.ceil(options.steps * BATCH / images)}"),
        *(f"trainer.max_epochs={options.epochs}", f"+trainer.limit_train_batches={options.steps}"),
        # One validation, after the last step, of one image, so that no step is chosen for its score.
        *(f"trainer.check_val_every_n_epoch={options.epochs}", "+trainer.limit_val_batches=1"),
        "module.test_time_augmentation=false",
        *(override for name, overrides in OFF.items() if name not in training.on for override in overrides),
        *options.overrides,
    ]
    checkpoint, output = run / "checkpoints" / "best.ckpt", run / "orientations.csv"
    test = [f"checkpoint={checkpoint}", "test_time_augmentation=true", f"output={output}"]
    left = [] if (run / "result.json").is_file() else [Command("train", train)]
    return left if output.is_file() else [*left, Command("evaluate", test)]


def scores(training: Training, output: Path) -> Iterator[Score]:
    """Both scores of a training; none if it has not finished."""
    run = output / training.name
    files = {"test.csv": training.on, "orientations.csv": (*training.on, "orientations")}
    if (run / "result.json").is_file() and all((run / name).is_file() for name in files):
        for name, on in files.items():
            with (run / name).open(newline="") as file:
                (iou,) = [float(row["iou"]) for row in csv.DictReader(file) if row["class"] == "mean"]
            yield Score(training.dataset, training.limit, training.seed, on, iou)


def write_scores(path: Path, found: Sequence[Score]) -> None:
    """One line for each score."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "images", "seed", *TECHNIQUES, "iou"])
        for one in found:
            switches = [int(name in one.on) for name in TECHNIQUES]
            writer.writerow([one.dataset, one.limit or ALL, one.seed, *switches, one.iou])


def read_scores(path: Path) -> list[Score]:
    """What `write_scores` wrote."""
    with path.open(newline="") as file:
        return [
            Score(
                row["dataset"],
                _limit(row["images"]),
                int(row["seed"]),
                tuple(name for name in TECHNIQUES if int(row[name])),
                float(row["iou"]),
            )
            for row in csv.DictReader(file)
        ]


def effect(found: Sequence[Score], limit: int | None, on: tuple[str, ...]) -> Difference | None:
    """How much higher IoU is with these techniques than with none, by seed."""

    def by_seed(techniques: tuple[str, ...]) -> dict[int | None, float]:
        return {one.seed: one.iou for one in found if (one.limit, one.on) == (limit, techniques)}

    return paired_difference(by_seed(on), by_seed(()))


def print_tables(dataset: str, found: Sequence[Score]) -> None:
    """IoU by the techniques that are on, and what they add."""
    limits = _limits(found)
    table = Table(title=f"{dataset}: mean IoU, %, and its deviation over seeds, by training images")
    for column in ("technique", *(str(limit or ALL) for limit in limits)):
        table.add_column(column)
    for on in sorted({one.on for one in found}, key=lambda names: (len(names), names)):
        cells = [_cell([one.iou for one in found if (one.on, one.limit) == (on, limit)]) for limit in limits]
        table.add_row(" + ".join(on) or "none", *cells)
    effects = Table(title=f"{dataset}: what is added to mean IoU, %, with its 95% confidence interval over seeds")
    for column in ("technique", *(str(limit or ALL) for limit in limits)):
        effects.add_column(column)
    for name, on in COMPARED.items():
        effects.add_row(name, *(_effect_cell(effect(found, limit, on)) for limit in limits))
    console = Console(width=140)
    console.print(table)
    console.print(effects)


def draw(path: Path, dataset: str, found: Sequence[Score]) -> None:
    """IoU against the number of images with none, each alone and all of the techniques; and what these add."""
    limits = _limits(found)
    places = range(len(limits))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for label, on in {"none": (), **COMPARED}.items():
        by_limit = [[one.iou for one in found if (one.on, one.limit) == (on, limit)] for limit in limits]
        drawn = [(place, summary(ious)) for place, ious in zip(places, by_limit, strict=True)]
        points = [(place, one.mean, one.deviation or 0.0) for place, one in drawn if one is not None]
        style = "o-" if label in ("none", "all four") else "o:"
        if points:
            left.errorbar(*zip(*points, strict=True), fmt=style, label=label, capsize=3, markersize=4)
    left.set(ylabel="mean IoU", title=f"{dataset}: mean and deviation over seeds")
    for index, (name, on) in enumerate(COMPARED.items(), start=1):
        effects = [(place, effect(found, limit, on)) for place, limit in zip(places, limits, strict=True)]
        measured = [
            (place + 0.12 * (index - 3), one.mean, 0.0 if one.high is None else one.high - one.mean)
            for place, one in effects
            if one is not None
        ]
        if measured:
            right.errorbar(
                *zip(*measured, strict=True), fmt="o", color=f"C{index}", label=name, capsize=3, markersize=4
            )
    right.axhline(0, color="gray", linewidth=0.8)
    right.set(ylabel="difference in mean IoU", title="what is added, with 95% confidence")
    for axes in (left, right):
        axes.set_xticks(list(places), [str(limit or ALL) for limit in limits])
        axes.set_xlabel("training images with masks")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _limits(found: Sequence[Score]) -> list[int | None]:
    return sorted({one.limit for one in found}, key=lambda limit: math.inf if limit is None else limit)


def _cell(ious: Sequence[float]) -> str:
    drawn = summary(ious)
    if drawn is None:
        return "–"
    return f"{100 * drawn.mean:.1f}" + ("" if drawn.deviation is None else f" ± {100 * drawn.deviation:.1f}")


def _effect_cell(one: Difference | None) -> str:
    if one is None:
        return "–"
    interval = "" if one.low is None or one.high is None else f" ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
    return f"{100 * one.mean:+.1f}{interval}"


def _limit(text: str) -> int | None:
    return None if text == ALL else int(text)


if __name__ == "__main__":
    main()
