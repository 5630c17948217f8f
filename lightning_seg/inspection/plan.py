"""What a data set asks for, in the words of the configuration."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from lightning_seg.inspection.step import StepUsage
from lightning_seg.inspection.summary import SplitSummary

STRIDE = 32  # of which crops are multiples, as most encoders ask for
LARGEST_CROP = 512
LARGEST_BATCH = 16
STEPS_PER_EPOCH = 8  # at least
RARE = 0.01  # share of the pixels
_HEADER = """\
# @package _global_
# Made by lightning-seg-inspect. To train by it: lightning-seg-train --config-dir {folder} experiment={name}
"""


class Choice(NamedTuple):
    """A key of the configuration (or a group, then the name of its file), its value, and why."""

    key: str
    value: Any
    reason: str

    @property
    def text(self) -> str:
        """The value as a configuration file has it."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


def plan_choices(
    train: SplitSummary,
    *,
    given: Collection[str],
    measure: Callable[[tuple[int, int]], StepUsage],
    memory: int | None,
    cores: int,
    seconds_per_read: float,
    is_pretrained: bool,
    task: str,
    has_crop: bool,
) -> list[Choice]:
    """What to train with, as far as it was not given.

    Args:
        train: the training images.
        given: keys and groups of the command line.
        measure: what a step takes with images of a height and width.
        memory: bytes for a training; None if that is not known.
        cores: of this machine.
        seconds_per_read: of one training image, augmented.
        is_pretrained: whether the network's encoder is, whose normalization is then kept.
        task: multiclass, multilabel or binary.
        has_crop: whether the augmentation can crop.
    """
    choices: list[Choice] = []
    size, batch_size, usage, sized = _size_and_batch(train, measure, memory)
    if has_crop and "augment.crop_size" not in given and "augment" not in given:
        choices.append(Choice("augment.crop_size", None if sized == "" else list(size), sized or _one_size(size)))
    if "data.batch_size" not in given:
        images = f"{train.images} training images" if batch_size < LARGEST_BATCH else "a usual size"
        choices.append(
            Choice(
                "data.batch_size",
                batch_size,
                f"an image takes {_mega(usage.per_image)} in a step of the network, measured, and "
                f"{_mega(memory) if memory else 'an unknown amount'} are free; {images}",
            )
        )
    if "data.num_workers" not in given:
        workers = min(cores, math.ceil(seconds_per_read / max(usage.seconds_per_image, 1e-9)))
        choices.append(
            Choice(
                "data.num_workers",
                workers,
                f"reading an image takes {_milli(seconds_per_read)}, training on it "
                f"{_milli(usage.seconds_per_image)}, and there are {cores} cores",
            )
        )
    if "loss" not in given and task != "binary":
        choices.append(_loss(train, task))
    if not {"data.mean", "data.std"} & set(given) and train.mean:
        choices += _normalization(train, is_pretrained)
    return choices


def plan_file(
    choices: Sequence[Choice], groups: Mapping[str, str], values: Mapping[str, Any], place: tuple[str, str]
) -> str:
    """The choices as a file of the group `experiment`.

    Args:
        choices: as `plan_choices` gives them.
        groups: file of each group that was chosen on the command line.
        values: of each key that was given there.
        place: the folder that `--config-dir` is to get, and the name of the file.
    """
    chosen = {choice.key: choice for choice in choices if "." not in choice.key}
    lines = [_HEADER.format(folder=place[0], name=place[1]) + "defaults:"]
    lines += [f"  - override /{group}: {name} # as given" for group, name in groups.items()]
    lines += [f"  - override /{one.key}: {one.value} # {one.reason}" for one in chosen.values()]
    if len(lines) == 1:
        lines[0] = lines[0].removesuffix("defaults:").rstrip()
    nested: dict[str, Any] = {}
    for key, value in values.items():
        _put(nested, key, (value, "as given"))
    for choice in choices:
        if "." in choice.key:
            _put(nested, choice.key, (choice.value, choice.reason))
    return "\n".join([*lines, "", *_yaml(nested, 0)]) + "\n"


def _size_and_batch(
    train: SplitSummary, measure: Callable[[tuple[int, int]], StepUsage], memory: int | None
) -> tuple[tuple[int, int], int, StepUsage, str]:
    """Size that is trained on, images of a step, what a step takes, and why there is a crop; "" if there is none."""
    sizes = list(train.sizes.elements())
    height, width = (sorted(size[axis] for size in sizes)[len(sizes) // 2] for axis in (0, 1))
    if len(train.sizes) == 1 and max(height, width) <= LARGEST_CROP:
        size, reason = (height, width), ""
    else:
        size = (_multiple(min(height, LARGEST_CROP)), _multiple(min(width, LARGEST_CROP)))
        differ = "images differ in size" if len(train.sizes) > 1 else f"images are {height} × {width}"
        reason = f"{differ}; the median one, at most {LARGEST_CROP}, in multiples of {STRIDE}"
    wanted = max(2, min(LARGEST_BATCH, _power_of_two(train.images // STEPS_PER_EPOCH)))
    while True:
        usage = measure(size)
        fitting = wanted if memory is None else (int(0.6 * memory) - usage.fixed) // usage.per_image
        if fitting >= 2 or max(size) <= 2 * STRIDE:
            return size, max(1, min(wanted, _power_of_two(fitting))), usage, reason
        larger = 0 if size[0] >= size[1] else 1
        size = (_multiple(size[0] // 2), size[1]) if larger == 0 else (size[0], _multiple(size[1] // 2))
        reason = "as large as two of them fit into memory"


def _one_size(size: tuple[int, int]) -> str:
    return f"all images are {size[0]} × {size[1]}, and whole ones fit"


def _loss(train: SplitSummary, task: str) -> Choice:
    rare = [value.name for value in train.values if 0 < value.share < RARE]
    if rare and task == "multilabel":  # Lovász-Softmax is of one label a pixel
        reason = f"{', '.join(rare)} have less than {100 * RARE:g} % of the pixels, and Dice counts all classes alike"
        return Choice("loss", "ce_dice", reason)
    if rare:
        return Choice(
            "loss", "ce_lovasz", f"{', '.join(rare)} have less than {100 * RARE:g} % of the pixels, and IoU counts them"
        )
    return Choice("loss", "ce_dice", f"no class has less than {100 * RARE:g} % of the pixels")


def _normalization(train: SplitSummary, is_pretrained: bool) -> list[Choice]:
    if is_pretrained or len(train.mean) != 3:
        return []
    mean, std = ([float(f"{value:.3g}") for value in values] for values in (train.mean, train.std))
    if min(std) <= 0:
        return []
    reason = "of the training images; the network has no pretrained weights that expect others"
    return [Choice("data.mean", mean, reason), Choice("data.std", std, reason)]


def _put(nested: dict[str, Any], key: str, leaf: tuple[Any, str]) -> None:
    *path, name = key.split(".")
    for part in path:
        nested = nested.setdefault(part, {})
    nested[name] = leaf


def _yaml(node: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for name, value in node.items():
        if isinstance(value, dict):
            lines += [f"{'  ' * depth}{name}:", *_yaml(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{name}: {json.dumps(value[0], ensure_ascii=False)} # {value[1]}")
    return lines


def _power_of_two(number: int) -> int:
    return 1 << max(0, number.bit_length() - 1) if number > 0 else 0


def _multiple(length: int) -> int:
    return max(STRIDE, length // STRIDE * STRIDE)


def _milli(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms" if seconds < 0.01 else f"{1e3 * seconds:,.0f} ms"


def _mega(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
