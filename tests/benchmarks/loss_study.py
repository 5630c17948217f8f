"""Compares ten losses on CamVid under equal conditions: those of experiment=loss_study.

    python -m tests.benchmarks.loss_study --jobs 2 data.num_workers=0         # an hour of two cores
    python -m tests.benchmarks.loss_study --epochs 100 trainer=gpu data.scale=1 augment.crop_size=[288,384]
    python -m tests.benchmarks.loss_study --summarize                         # only what has been measured

First each loss is trained with one seed for a third of the length at each of four learning rates, and at a higher one
if the highest is best; the rate with the best IoU is chosen. With it each is trained for the whole length, with other
seeds; these trainings are what is compared. Last, a few steps of each with nothing beside them measure time and memory:
leave the machine alone then. A training that was interrupted resumes where it stopped, and what is finished is not done
again, so that the study can be made in parts, by calling it again. `lightning-seg-report OUTPUT/losses` shows the
trainings; their scores are in OUTPUT/scores.csv.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.report.runs import read_run
from tests.benchmarks.trainings import ROOT, Command, run_all, study_parser

LOSSES = ("ce", "weighted_ce", "dice", "jaccard", "focal", "tversky", "lovasz", "ce_dice", "ce_lovasz", "ohem")
RATES = ("0.001", "0.003", "0.01", "0.03")
HIGHER_RATE = "0.1"  # for losses whose IoU is best at the highest of these
CHOOSING_SEED = 0
# The parts of the study, each a folder of runs named LOSS-RATE-SEED.
CHOICE, COMPARISON, USAGE = "learning_rates", "losses", "usage"
COST_STEPS = 20


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = study_parser("loss_study", str(__doc__), seeds=[1, 2, 3], epochs=9)
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data" / "camvid", help="holds train/ and val/ of CamVid"
    )
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, then writes what there is."""
    options = parse(arguments)
    if not options.summarize:
        choose_rates(options)
        compare(options)
        measure_usage(options)
    rows = scores(options.output)
    if not rows:
        sys.exit(f"{options.output} holds no finished training.")
    with (options.output / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} trainings are in {options.output / 'scores.csv'}")


def choose_rates(options: argparse.Namespace) -> None:
    """The short trainings, at every learning rate."""
    short = f"trainer.max_epochs={max(1, options.epochs // 3)}"
    log = options.output / f"{CHOICE}.log"

    def short_training(loss: str, rate: str) -> Sequence[Command]:
        return training(options, CHOICE, loss, rate, CHOOSING_SEED, short)

    run_all([short_training(loss, rate) for rate in RATES for loss in options.losses], options.jobs, log)
    chosen = chosen_rates(options.output)
    higher = [loss for loss in options.losses if float(chosen[loss]) >= float(RATES[-1])]
    run_all([short_training(loss, HIGHER_RATE) for loss in higher], options.jobs, log)


def compare(options: argparse.Namespace) -> None:
    """The whole trainings, each loss at its learning rate; one seed after the other, so that a part is a study too."""
    rates = chosen_rates(options.output)
    long = f"trainer.max_epochs={options.epochs}"
    trainings = [
        training(options, COMPARISON, loss, rates[loss], seed, long)
        for seed in options.seeds
        for loss in options.losses
    ]
    run_all(trainings, options.jobs, options.output / f"{COMPARISON}.log")


def measure_usage(options: argparse.Namespace) -> None:
    """A few steps of each loss, alone."""
    rates = chosen_rates(options.output)
    limits = [f"++trainer.limit_{split}_batches=1" for split in ("val", "test")]
    short = ["trainer.max_epochs=1", f"++trainer.limit_train_batches={COST_STEPS}", *limits]
    trainings = [
        training(options, USAGE, loss, rates[loss], seed, *short) for seed in options.seeds for loss in options.losses
    ]
    run_all(trainings, 1, options.output / f"{USAGE}.log")


def training(
    options: argparse.Namespace, part: str, loss: str, rate: str, seed: int, *overrides: str
) -> Sequence[Command]:
    """One training, if it has not finished."""
    runs = options.output / part
    name = f"{loss}-{rate}-{seed}"
    if (runs / name / "result.json").is_file():
        return []
    arguments = ["experiment=loss_study", f"data.root={options.data}", f"runs={runs}", f"run={name}", "resume=auto"]
    chosen = [f"loss={loss}", f"optimizer.lr={rate}", f"seed={seed}"]
    return [Command("train", [*arguments, *chosen, *options.overrides, *overrides])]


def chosen_rates(output: Path) -> dict[str, str]:
    """The learning rate of each loss at which the short training's IoU is highest."""
    best: dict[str, tuple[float, str]] = {}
    for row in scores(output):
        if row["part"] == CHOICE:
            candidate = (float(row["iou"]), row["rate"])
            best[row["loss"]] = max(best.get(row["loss"], candidate), candidate)
    return {loss: rate for loss, (_, rate) in best.items()}


def scores(output: Path) -> list[dict[str, str]]:
    """A row for each finished training: mean IoU, the IoU of each class, seconds per step, and peak memory in bytes."""
    rows = []
    for part in (CHOICE, COMPARISON, USAGE):
        for folder in sorted((output / part).glob("*-*-*")):
            run = read_run(folder)
            if run.status == "finished":
                loss, rate, seed = folder.name.split("-")
                ious = {"iou": run.scores["test/iou"]}
                ious |= {f"iou/{name}": run.scores[f"test/iou/{name}"] for name in run.class_names}
                usage = {name: run.usage[name] for name in ("seconds_per_step", "peak_memory_bytes")}
                numbers = {name: f"{value:.5g}" for name, value in (ious | usage).items()}
                rows.append({"part": part, "loss": loss, "rate": rate, "seed": seed, **numbers})
    return rows


if __name__ == "__main__":
    main()
