"""Looks at a data set once, and writes the page and the plan."""

import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from rich.progress import track
from rich.table import Table
from torch.utils.data import Dataset

from lightning_seg.callbacks.evenly_spaced import evenly_spaced_indices
from lightning_seg.checkpoint import load_module
from lightning_seg.data.inspection import value_names
from lightning_seg.files import atomic_write
from lightning_seg.inspection.duplicates import Duplicate, find_duplicates
from lightning_seg.inspection.facts import ImageFacts, Unreadable, read_facts, without_augmentation
from lightning_seg.inspection.page import Figure, Inspected, inspection_page, shown_number
from lightning_seg.inspection.pictures import image_picture, overlay_picture
from lightning_seg.inspection.plan import Choice, plan_choices, plan_file
from lightning_seg.inspection.step import StepUsage, free_memory, step_usage
from lightning_seg.inspection.summary import SplitSummary, problems, summarize
from lightning_seg.launch.derived import insert_class_weights, insert_names
from lightning_seg.launch.processes import available_cores
from lightning_seg.metrics import MeanIoU
from lightning_seg.text import number_of, print_table, printable, say

PAGE = "index.html"
PLAN = "experiment/plan.yaml"
_DUPLICATES = 12  # pairs that are shown
_WORST = 10
_READ = 16  # images that are read to know how long that takes
_PROBLEMS = 20  # lines on the terminal


def inspect_data(config: dict[str, Any], folder: Path, groups: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Reads a data set once, prints what it holds, and writes `index.html` and `experiment/plan.yaml`.

    Args:
        config: what `conf/inspect.yaml` composes to, resolved.
        folder: for both.
        groups: files of the groups that were chosen on the command line.
        values: of the keys that were given there.

    Raises:
        ValueError: the data module does not offer its sets, no image can be read, or masks are not of the
            task's kind.
    """
    datamodule = _data_module(config)
    names = value_names(datamodule.num_values, datamodule.class_names)
    sets: dict[str, Any] = {"train": datamodule.train_set, "val": datamodule.val_set, "test": datamodule.test_set}
    splits: dict[str, list[ImageFacts]] = {}
    unreadable: dict[str, list[Unreadable]] = {}
    for split, dataset in sets.items():
        workers = min(available_cores(), max(1, len(dataset) // 32))
        facts, wrong = read_facts(
            dataset, datamodule.num_values, workers, f"reading {split}", multilabel=config["task"] == "multilabel"
        )
        if (
            split == "test"
            and facts
            and [one.image_digest for one in facts] == [one.image_digest for one in splits["val"]]
        ):
            continue  # without a test split the validation images are tested on
        splits[split], unreadable[split] = facts, wrong
    summaries = {split: summarize(facts, names) for split, facts in splits.items()}
    if not summaries["train"].images:
        raise ValueError(f"no training image can be read; the first: {unreadable['train'][0].reason}")
    duplicates = find_duplicates(splits)
    found_problems = problems(summaries, unreadable, duplicates)
    _print_table(summaries, names)
    for problem in found_problems[:_PROBLEMS]:
        say(f"- {problem}")
    if len(found_problems) > _PROBLEMS:
        say(f"- and {len(found_problems) - _PROBLEMS} more on the page")

    choices = _plan(config, datamodule, summaries["train"], {*groups, *values})
    text = plan_file(choices, groups, values, (str(folder), Path(PLAN).stem))
    for choice in choices:
        say(f"plan: {choice.key}={choice.text} ({choice.reason})")
    page = inspection_page(
        Inspected(
            title=f"Inspection of {_name_of(datamodule)}",
            summary=", ".join(number_of(one.images, f"{split} image") for split, one in summaries.items()),
            summaries=summaries,
            problems=found_problems,
            duplicates=_duplicate_figures(duplicates[:_DUPLICATES], splits, sets),
            duplicate_count=len(duplicates),
            samples={
                split: _samples(sets[split], facts, config["samples"], datamodule.palette)
                for split, facts in splits.items()
            },
            augmented=_augmented(sets["train"], splits["train"], config["samples"], datamodule.palette, config["seed"]),
            worst=_worst(config, sets, splits, datamodule.palette) if config["checkpoint"] else [],
            plan=choices,
            plan_text=text,
            colors=datamodule.palette,
            multilabel=config["task"] == "multilabel",
        )
    )
    for file, content in ((folder / PAGE, page), (folder / PLAN, text)):
        with atomic_write(file, overwrite=config["overwrite"]) as temporary:
            temporary.write_text(content, encoding="utf-8")
    count = len(found_problems)
    say(
        f"{folder / PAGE}: {count or 'no'} {'problem' if count == 1 else 'problems'}; to train by the plan: "
        f"lightning-seg-train --config-dir {folder} experiment={Path(PLAN).stem}"
    )


def _data_module(config: dict[str, Any]) -> Any:
    data = dict(config["data"])
    if str(data["_target_"]).endswith(".VolumesDataModule") or data.get("dimensions") == 3:
        raise ValueError("lightning-seg-inspect is for 2-D images; volumes and masks are checked as a training starts.")
    if "check_masks" in data:
        data["check_masks"] = False  # every mask is read here, and the wrong ones are named
    datamodule = instantiate(data)
    lacking = [
        name
        for name in ("train_set", "val_set", "test_set", "num_values", "class_names", "palette")
        if not hasattr(datamodule, name)
    ]
    if lacking:
        raise ValueError(
            f"{type(datamodule).__name__} has no {lacking[0]}: only data modules derived from "
            "lightning_seg.data.SegmentationDataModule can be inspected."
        )
    datamodule.prepare_data()
    datamodule.setup("fit")
    datamodule.setup("test")
    return datamodule


def _name_of(datamodule: Any) -> str:
    """The name of the data's folder, without where it lies."""
    root = getattr(datamodule, "root", None)
    return Path(root).name if isinstance(root, str | Path) else type(datamodule).__name__


def _plan(config: dict[str, Any], datamodule: Any, train: SplitSummary, given: set[str]) -> list[Choice]:
    insert_class_weights(config, lambda estimate: [1.0] * datamodule.num_classes)  # which take as much memory
    insert_names(config, datamodule)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = instantiate(config["module"]).to(device).train()

    def measure(size: tuple[int, int]) -> StepUsage:
        image = torch.rand(len(train.mean) or 3, *size, device=device)
        if config["task"] == "multilabel":
            mask = torch.randint(2, (datamodule.num_values, *size), device=device)
        else:
            mask = torch.randint(datamodule.num_values, size, device=device)
        return step_usage(module, module.compute_loss, image, mask)

    augment = config["augment"] or {}
    return plan_choices(
        train,
        given=given,
        measure=measure,
        memory=free_memory(device),
        cores=available_cores(),
        seconds_per_read=_seconds_per_read(datamodule.train_set),
        is_pretrained=any(
            value for name, value in config["backbone"].items() if "weights" in name or name == "pretrained"
        ),
        task=config["task"],
        has_crop="crop_size" in augment,
    )


def _seconds_per_read(dataset: Any) -> float:
    indices = evenly_spaced_indices(len(dataset), _READ)
    start, read = perf_counter(), 0
    for index in indices:
        try:
            dataset[index]
        except (OSError, ValueError):  # named before
            continue
        read += 1
    return (perf_counter() - start) / max(1, read)


def _print_table(summaries: Mapping[str, SplitSummary], names: Sequence[str]) -> None:
    table = Table(title="share of pixels, in so many images; objects of the training images")
    table.add_column("class")
    for split in summaries:
        table.add_column(split, justify="right")
    for heading in ("objects", "area", "thickness"):
        table.add_column(heading, justify="right")
    for index, name in enumerate(names):
        cells = [f"{100 * one.values[index].share:.3f} % in {one.values[index].images}" for one in summaries.values()]
        trained = summaries["train"].values[index]
        numbers = (trained.objects, trained.area, trained.thickness)
        table.add_row(printable(name), *cells, *(shown_number(number) for number in numbers))
    table.add_section()
    table.add_row("void", *(f"{100 * one.void_share:.3f} %" for one in summaries.values()))
    print_table(table)
    say(", ".join(number_of(one.images, f"{split} image") for split, one in summaries.items()))


def _samples(dataset: Any, facts: Sequence[ImageFacts], count: int, palette: Sequence[Sequence[int]]) -> list[Figure]:
    plain = without_augmentation(dataset)
    return [
        Figure([image_picture(sample["image"]), overlay_picture(sample["image"], sample["mask"], palette)], name)
        for name, sample in _read(plain, facts, evenly_spaced_indices(len(facts), count))
    ]


def _augmented(
    dataset: Any, facts: Sequence[ImageFacts], count: int, palette: Sequence[Sequence[int]], seed: int
) -> list[Figure]:
    if getattr(dataset, "augment", None) is None:
        return []
    indices = evenly_spaced_indices(len(facts), count)
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        shown = zip(
            _read(without_augmentation(dataset), facts, indices),
            _read(dataset, facts, indices),
            _read(dataset, facts, indices),
            strict=True,
        )
        figures = [
            Figure([overlay_picture(sample["image"], sample["mask"], palette) for _, sample in same], same[0][0])
            for same in shown
        ]
    random.setstate(before[0])
    np.random.set_state(before[1])
    return figures


def _duplicate_figures(
    duplicates: Sequence[Duplicate], splits: Mapping[str, Sequence[ImageFacts]], sets: Mapping[str, Any]
) -> list[Figure]:
    shown = []
    for pair in duplicates:
        pictures = []
        for place in pair[:2]:
            index = next(index for index, one in enumerate(splits[place.split]) if one.name == place.name)
            (_, sample), *_ = _read(without_augmentation(sets[place.split]), splits[place.split], [index])
            pictures.append(image_picture(sample["image"]))
        kind = "equal" if pair.exact else "look the same"
        masks = ", with different masks" if pair.other_masks else ""
        names = " and ".join("/".join(place) for place in pair[:2])
        shown.append(Figure(pictures, f"{names}: {kind}{masks}"))
    return shown


def _read(dataset: Any, facts: Sequence[ImageFacts], indices: Sequence[int]) -> list[tuple[str, Any]]:
    """Name and sample of some of the images that could be read."""
    return [(facts[index].name, dataset[facts[index].position]) for index in indices]


def _worst(
    config: Mapping[str, Any],
    sets: Mapping[str, Dataset[Any]],
    splits: Mapping[str, Sequence[ImageFacts]],
    palette: Sequence[Sequence[int]],
) -> list[Figure]:
    module = load_module(config["checkpoint"], trusted=config["trusted"])
    if module.task != config["task"]:
        raise ValueError(
            f"checkpoint={config['checkpoint']} was trained with task={module.task}, and the data is inspected with "
            f"task={config['task']}: give both the same."
        )
    score_of = MeanIoU(task=module.task, num_classes=module.num_classes, ignore_index=module.ignore_index)
    scored = []
    with torch.inference_mode():
        for facts in track(splits["val"], "predicting val", transient=True, disable=not sys.stdout.isatty()):
            (_, sample), *_ = _read(sets["val"], [facts], [0])
            target = sample["mask"][None]
            labels = module.predict_labels(module.predict_logits(sample["image"][None], target.shape[-2:]))
            score = float(score_of(labels, target).nan_to_num(1.0))  # nothing to find, and nothing found
            scored.append((score, facts, labels[0]))
    scored.sort(key=lambda one: (one[0], one[1].name))
    figures = []
    for score, facts, labels in scored[:_WORST]:
        (_, sample), *_ = _read(sets["val"], [facts], [0])
        pictures = [
            image_picture(sample["image"]),
            overlay_picture(sample["image"], sample["mask"], palette),
            overlay_picture(sample["image"], labels, palette),
        ]
        figures.append(Figure(pictures, f"{facts.name}: IoU {100 * score:.2f} %"))
    return figures
