"""Measures what helps to learn from few images: IoU against their number, with each means of experiment=few_shot.

    python -m tests.benchmarks.few_shot                              # all of it: 192 trainings
    python -m tests.benchmarks.few_shot --datasets membrane --limits 4 8 --seeds 0
    python -m tests.benchmarks.few_shot trainer=gpu data.num_workers=8    # the same on a GPU
    python -m tests.benchmarks.few_shot --steps 20 augment.crop_size=128  # about an eighth of it, for a CPU
    python -m tests.benchmarks.few_shot --summarise                  # only what has been measured

Augmentation by turning, consistency, and regularisation are each on and off, in every combination; the eight
orientations at test time are on and off for each trained network. All trainings have as many optimizer steps, and the
network after the last of them is scored, on the validation images, which nothing was chosen on. The seed is that of the
weights and of the choice of images. A training that was interrupted goes on where it stopped, and what is finished is
not done again, so that the study can be made in parts: by calling it again, or with other data sets, limits and seeds
from several machines that share the output. Tables and a picture are made of all that is there.
"""

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

from lightning_seg.report.statistics import Difference, paired_difference, summary

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[2]
BATCH = 4
ALL = "all"
# What is done where a means of training is off; experiment=few_shot has them all.
OFF = {
    "augmentation": ["augment=light"],
    "consistency": ["module.consistency_weight=0"],
    "regularisation": ["loss.label_smoothing=0", "optimizer.weight_decay=0.01"],
}
MEANS = (*OFF, "orientations")
CAMVID = "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"
DATASETS = {
    "membrane": ["data.num_classes=2", "data.class_names=[membrane,interior]"],
    "camvid": ["data.num_classes=11", f"data.class_names=[{CAMVID}]", "data.ignore_index=11"],
}


@dataclass(frozen=True)
class Training:
    """One training: on `limit` images of a data set (None: all) with the means that are `on`."""

    dataset: str
    limit: int | None
    seed: int
    on: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join([self.dataset, f"{self.limit or ALL}", f"seed{self.seed}", "+".join(self.on) or "plain"])


@dataclass(frozen=True)
class Score:
    """The mean IoU of a training, tested with or without the eight orientations, which are among the means then."""

    dataset: str
    limit: int | None
    seed: int
    on: tuple[str, ...]
    iou: float


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.few_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="holds membrane/ and camvid/"
    )
    parser.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--limits", nargs="+", type=_limit, default=[4, 8, 16, None], metavar="N", help="or all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help=f"of {BATCH} images, an epoch")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "few_shot", metavar="FOLDER")
    parser.add_argument("--summarise", action="store_true", help="train nothing")
    parser.add_argument("overrides", nargs="*", help="of lightning-seg-train, for every training")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, then prints and writes what there is."""
    options = parse(arguments)
    wanted = list(trainings(options.datasets, options.limits, options.seeds))
    if not options.summarise:
        for number, training in enumerate(wanted, start=1):
            print(f"{number} of {len(wanted)}: {training.name}", flush=True)
            train(training, options)
    found = [score for training in wanted for score in scores(training, options.output)]
    if not found:
        sys.exit(f"{options.output} holds no finished training of those asked for.")
    write_scores(options.output / "scores.csv", found)
    for dataset in dict.fromkeys(score.dataset for score in found):
        own = [score for score in found if score.dataset == dataset]
        print_tables(dataset, own)
        draw(options.output / f"{dataset}.png", dataset, own)


def trainings(datasets: Sequence[str], limits: Sequence[int | None], seeds: Sequence[int]) -> Iterator[Training]:
    """All combinations, one seed after the other, so that the first part is a small study of its own."""
    combinations = list(product((False, True), repeat=len(OFF)))
    for seed, dataset, limit, switches in product(seeds, datasets, limits, combinations):
        yield Training(dataset, limit, seed, tuple(name for name, on in zip(OFF, switches, strict=True) if on))


def train(training: Training, options: argparse.Namespace) -> None:
    """Trains and tests, from where it stopped, if it has not finished."""
    run = options.output / training.name
    root = options.data / training.dataset
    images = training.limit or len(list((root / "train" / "images").iterdir()))
    if not (run / "result.json").is_file():
        _call(
            "train",
            *(f"run={training.name}", f"runs={options.output}", "resume=auto", "callbacks=no_pictures", "trainer=cpu"),
            *("experiment=few_shot", "data=folder", f"data.root={root}", "data.scale=0.5", *DATASETS[training.dataset]),
            *(f"seed={training.seed}", f"data.seed={training.seed}", f"data.train_limit={training.limit or 'null'}"),
            *(f"data.batch_size={BATCH}", f"data.train_repeats={math.ceil(options.steps * BATCH / images)}"),
            *(f"trainer.max_epochs={options.epochs}", f"+trainer.limit_train_batches={options.steps}"),
            # One validation, after the last step, so that no step is chosen for its score.
            f"trainer.check_val_every_n_epoch={options.epochs}",
            "module.test_time_augmentation=false",
            *(override for name, overrides in OFF.items() if name not in training.on for override in overrides),
            *options.overrides,
        )
    if not (run / "orientations.csv").is_file():
        partial = run / "orientations.partial.csv"
        partial.unlink(missing_ok=True)
        checkpoint = run / "checkpoints" / "best.ckpt"
        _call("evaluate", f"checkpoint={checkpoint}", "test_time_augmentation=true", f"output={partial}")
        partial.replace(run / "orientations.csv")


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
        writer.writerow(["dataset", "images", "seed", *MEANS, "iou"])
        for one in found:
            switches = [int(name in one.on) for name in MEANS]
            writer.writerow([one.dataset, one.limit or ALL, one.seed, *switches, one.iou])


def effect(found: Sequence[Score], limit: int | None, name: str) -> Difference | None:
    """How much higher IoU is with a means than without, the mean over all combinations of the others, over seeds."""
    means: dict[bool, dict[int | None, float]] = {}
    for on in (True, False):
        by_seed: dict[int, list[float]] = {}
        for one in found:
            if one.limit == limit and (name in one.on) == on:
                by_seed.setdefault(one.seed, []).append(one.iou)
        # A seed counts where all its combinations are there.
        means[on] = {seed: sum(ious) / len(ious) for seed, ious in by_seed.items() if len(ious) == 2 ** len(OFF)}
    return paired_difference(means[True], means[False])


def print_tables(dataset: str, found: Sequence[Score]) -> None:
    """IoU of every combination, and the effect of every means."""
    limits = _limits(found)
    table = Table(title=f"{dataset}: mean IoU, %, and its deviation over seeds, by training images")
    for column in ("means", *(str(limit or ALL) for limit in limits)):
        table.add_column(column)
    for on in sorted({one.on for one in found}, key=lambda names: (len(names), names)):
        cells = [_cell([one.iou for one in found if (one.on, one.limit) == (on, limit)]) for limit in limits]
        table.add_row(" + ".join(on) or "none", *cells)
    effects = Table(title=f"{dataset}: what a means adds to mean IoU, %, with its 95% confidence interval over seeds")
    for column in ("means", *(str(limit or ALL) for limit in limits)):
        effects.add_column(column)
    for name in MEANS:
        effects.add_row(name, *(_effect_cell(effect(found, limit, name)) for limit in limits))
    console = Console(width=140)
    console.print(table)
    console.print(effects)


def draw(path: Path, dataset: str, found: Sequence[Score]) -> None:
    """IoU against the number of images: none, each means alone and all; and the effect of each."""
    limits = _limits(found)
    places = range(len(limits))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for label, on in {"none": (), **{f"{name} alone": (name,) for name in MEANS}, "all four": MEANS}.items():
        by_limit = [[one.iou for one in found if (one.on, one.limit) == (on, limit)] for limit in limits]
        drawn = [(place, summary(ious)) for place, ious in zip(places, by_limit, strict=True)]
        points = [(place, one.mean, one.deviation or 0.0) for place, one in drawn if one is not None]
        style = "o-" if label in ("none", "all four") else "o:"
        if points:
            left.errorbar(*zip(*points, strict=True), fmt=style, label=label, capsize=3, markersize=4)
    left.set(ylabel="mean IoU", title=f"{dataset}: mean and deviation over seeds")
    for index, name in enumerate(MEANS):
        effects = [(place, effect(found, limit, name)) for place, limit in zip(places, limits, strict=True)]
        measured = [
            (place + 0.12 * (index - 1.5), one.mean, 0.0 if one.high is None else one.high - one.mean)
            for place, one in effects
            if one is not None
        ]
        if measured:
            right.errorbar(*zip(*measured, strict=True), fmt="o", label=name, capsize=3, markersize=4)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(ylabel="difference in mean IoU", title="what each means adds, with 95% confidence")
    for axes in (left, right):
        axes.set_xticks(list(places), [str(limit or ALL) for limit in limits])
        axes.set_xlabel("training images with masks")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _call(command: str, *arguments: str) -> None:
    code = f"from lightning_seg.commands.{command} import main; main()"
    finished = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"lightning-seg-{command} {' '.join(arguments)} failed:\n{finished.stderr[-2000:]}")


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
