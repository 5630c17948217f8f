from collections import Counter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from lightning_seg.inspection.plan import Choice, plan_choices, plan_file
from lightning_seg.inspection.step import StepUsage
from lightning_seg.inspection.summary import SplitSummary, ValueSummary

MIB = 2**20


def summary(*sizes: tuple[int, int], share: float = 0.2, images: int | None = None) -> SplitSummary:
    values = [ValueSummary("road", 100, 1 - share, 9, 9, 9.0, 9.0), ValueSummary("pole", 10, share, 9, 9, 9.0, 9.0)]
    counted = Counter(sizes)
    return SplitSummary(images or len(sizes), 0.0, [], counted, Counter(), [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], values)


def choices(train: SplitSummary, *given: str, per_pixel: float = 1000.0, memory: int | None = 2**34, **options):
    def measure(size: tuple[int, int]) -> StepUsage:
        return StepUsage(50 * MIB, int(per_pixel * size[0] * size[1]), 0.1)

    arguments = {"cores": 4, "seconds_per_read": 0.15, "is_pretrained": False, "task": "multiclass", "has_crop": True}
    found = plan_choices(train, given=given, measure=measure, memory=memory, **{**arguments, **options})
    return {choice.key: choice.value for choice in found}


@pytest.mark.parametrize(
    ("sizes", "crop"),
    [
        ([(180, 240)] * 200, None),
        ([(360, 480)] * 100 + [(300, 500)] * 100, [352, 480]),
        ([(1024, 2048)] * 200, [512, 512]),
        ([(20, 40)] * 2 + [(21, 41)] * 3, [32, 32]),
    ],
)
def test_the_crop_is_the_median_image_up_to_a_size(sizes, crop):
    assert choices(summary(*sizes))["augment.crop_size"] == crop


def test_the_crop_becomes_smaller_until_two_fit_into_memory():
    found = choices(summary(*[(1024, 2048)] * 200), memory=512 * MIB)
    height, width = found["augment.crop_size"]
    assert 2 * 1000 * height * width + 50 * MIB <= 0.6 * 512 * MIB
    assert height * width >= 256 * 256 // 2
    assert found["data.batch_size"] >= 2


@pytest.mark.parametrize(
    ("images", "memory", "batch_size"),
    [(400, 2**40, 16), (40, 2**40, 4), (3, 2**40, 2), (400, 700 * MIB, 8), (400, None, 16)],
)
def test_the_batch_is_what_fits_and_leaves_some_steps_in_an_epoch(images: int, memory: int | None, batch_size: int):
    assert choices(summary((180, 240), images=images), memory=memory)["data.batch_size"] == batch_size


def test_as_many_processes_load_images_as_keep_up_with_the_network():
    train = summary((64, 64))
    assert choices(train, seconds_per_read=0.001)["data.num_workers"] == 1
    assert choices(train, seconds_per_read=0.25)["data.num_workers"] == 3
    assert choices(train, seconds_per_read=9.0)["data.num_workers"] == 4


def test_rare_classes_ask_for_a_loss_that_counts_them():
    assert choices(summary((64, 64), share=0.2))["loss"] == "ce_dice"
    assert choices(summary((64, 64), share=0.002))["loss"] == "ce_lovasz"
    assert "loss" not in choices(summary((64, 64)), task="binary")


def test_several_labels_a_pixel_ask_for_what_suits_them():
    found = choices(summary((64, 64), share=0.002), task="multilabel")
    assert found["loss"] == "ce_dice"


def test_a_pretrained_network_keeps_the_normalization_that_it_knows():
    assert choices(summary((64, 64)))["data.mean"] == [0.1, 0.2, 0.3]
    assert "data.mean" not in choices(summary((64, 64)), is_pretrained=True)


def test_what_was_given_is_not_chosen():
    given = ("augment.crop_size", "data.batch_size", "data.num_workers", "loss", "data.mean")
    assert choices(summary((64, 64)), *given) == {}
    assert "augment.crop_size" not in choices(summary((64, 64)), "augment")
    assert "augment.crop_size" not in choices(summary((64, 64)), has_crop=False)


def test_a_plan_is_a_file_of_the_group_experiment(tmp_path: Path):
    planned = [
        Choice("loss", "ce_lovasz", "pole: has # few pixels"),
        Choice("augment.crop_size", [96, 128], "why not"),
        Choice("data.batch_size", 4, "it fits"),
    ]
    values = {"data.root": 'a "folder": #1', "data.num_classes": 2, "data.class_names": ["Straße", "no"]}
    (tmp_path / "experiment").mkdir()
    text = plan_file(planned, {"data": "folder"}, values, (str(tmp_path), "plan"))
    (tmp_path / "experiment" / "plan.yaml").write_text(text, encoding="utf-8")
    GlobalHydra.instance().clear()
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        composed = compose(
            "train", ["experiment=plan", f"hydra.searchpath=[file://{tmp_path}]"], return_hydra_config=True
        )
    assert composed.hydra.runtime.choices["loss"] == "ce_lovasz"
    assert (composed.data.root, composed.data.num_classes) == ('a "folder": #1', 2)
    assert composed.data.class_names == ["Straße", "no"]
    assert (composed.augment.crop_size, composed.data.batch_size) == ([96, 128], 4)
    assert "batch_size: 4 # it fits" in text
