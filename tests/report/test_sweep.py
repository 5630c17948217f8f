from typing import Any

import pytest

from lightning_seg.report.sweep import group_runs, repeat_of, swept_parameters
from lightning_seg.runs.identity import flattened
from tests.report.conftest import composed


def found(*configs: dict[str, Any]) -> dict[str, tuple[str | None, ...]]:
    return {parameter.label: parameter.values for parameter in swept_parameters(configs)}


def test_a_parameter_is_swept_where_runs_differ_and_named_once() -> None:
    runs = [composed(f"optimizer.lr={rate}") for rate in (0.1, 0.2)]
    assert found(*runs) == {"lr": ("0.1", "0.2")}


def test_interpolated_copies_are_not_parameters_of_their_own() -> None:
    runs = [
        composed(f"data.ignore_index={index}", f"sync_dist={on}") for index, on in ((255, "true"), ("null", "false"))
    ]
    assert found(*runs) == {"sync_dist": ("true", "false"), "ignore_index": ("255", "null")}


def test_another_loss_is_one_parameter_named_by_what_it_is_made_of() -> None:
    runs = [composed(f"loss={loss}") for loss in ("ce", "dice", "focal_dice", "lovasz")]
    assert found(*runs) == {"loss": ("CrossEntropy", "Dice", "Compound(Focal, Dice)", "LovaszSoftmax")}


def test_what_is_swept_within_one_loss_is_a_parameter_that_others_lack() -> None:
    runs = [composed("loss=ce"), composed("loss=focal", "loss.gamma=1"), composed("loss=focal", "loss.gamma=3")]
    assert found(*runs) == {"loss": ("CrossEntropy", "Focal", "Focal"), "gamma": (None, "1", "3")}


def test_what_changes_together_is_one_parameter_with_the_others_beside_it() -> None:
    (parameter,) = swept_parameters([composed("augment=light"), composed("augment=strong")])
    assert parameter.key.startswith("augment.")
    assert {key.split(".")[0] for key in parameter.with_it} == {"augment"}
    assert parameter.with_it["augment.rotation"][0] == "0"


def test_no_augmentation_is_called_none() -> None:
    assert found(composed("augment=light"), composed("augment=none"))["augment"] == ("training_augmentation", "none")


def test_callbacks_are_named_by_those_that_change_a_training() -> None:
    runs = [composed(f"callbacks={chosen}") for chosen in ("default", "[default,ema]", "early_stopping", "none")]
    assert found(*runs)["callbacks"] == ("BestCheckpoint", "BestCheckpoint, AveragedWeights", "EarlyStopping", "none")


def test_names_that_two_parameters_share_are_written_out() -> None:
    runs = [composed(f"loss.smooth={smooth}", f"+augment.smooth={other}") for smooth, other in ((1.0, 3), (0.5, 4))]
    assert found(*runs) == {"augment.smooth": ("3", "4"), "loss.smooth": ("1.0", "0.5")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "run=a",
        "runs=elsewhere",
        "resume=auto",
        "data.num_workers=3",
        "callbacks.pictures.count=1",
        "logger=tensorboard",
        "seed=1",
        "+data.fold=1",
    ],
)
def test_places_seeds_and_folds_make_no_other_configuration(override: str) -> None:
    assert swept_parameters([composed(), composed(override)]) == []


def test_the_same_data_in_another_place_is_the_same_but_other_data_is_not() -> None:
    folder = ("data=folder", "data.num_classes=3")
    one, two, other = (composed(*folder, f"data.root={root}") for root in ("/a/camvid", "/b/c/camvid", "/a/ade"))
    assert swept_parameters([one, two]) == []
    assert found(one, two, other) == {"root": ("camvid", "camvid", "ade")}


def test_a_seed_of_the_data_that_follows_the_seed_is_not_a_parameter() -> None:
    runs = [composed(f"seed={seed}", "data.seed=${seed}") for seed in (0, 1)]
    assert swept_parameters(runs) == []


@pytest.mark.slow
def test_runs_that_agree_in_all_parameters_agree_in_their_configurations() -> None:
    choices = [
        ["loss=ce"],
        ["loss=ce_dice"],
        ["loss=ce_dice", "loss.smooth=0.5"],
        ["loss=focal_dice"],
        ["loss=focal_dice", "loss.weights.focal=2"],
        ["loss=focal_dice", "loss.weights.focal=2", "+loss.weights.dice_more=1"],
        ["augment=strong"],
        ["augment=none", "trainer=ddp_sim"],
        ["backbone=unet"],
        ["optimizer=sgd", "optimizer.lr=0.3"],
        ["augment.rotation=7"],
    ]
    runs = [composed(*choice, f"seed={seed}") for choice in choices for seed in (0, 1)]
    groups = group_runs(swept_parameters(runs), len(runs))
    assert groups == [[index, index + 1] for index in range(0, len(runs), 2)]


def test_flattening_keeps_lists_and_empty_mappings_as_values() -> None:
    assert flattened({"a": {"b": [1, {"c": 2}], "d": {}}, "e": None}) == {"a.b": [1, {"c": 2}], "a.d": {}, "e": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "callbacks.checkpoint.mode=min",
        "+callbacks.early_stopping={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/iou}",
        "+callbacks.ema={_target_:lightning.pytorch.callbacks.EMAWeightAveraging}",
        "trainer.precision=bf16-mixed",
        "trainer.devices=2",
    ],
)
def test_what_changes_the_result_makes_another_configuration(override: str) -> None:
    assert swept_parameters([composed(), composed(override)])


@pytest.mark.parametrize(
    ("config", "repeat"),
    [
        ({"seed": 3, "data": {"fold": 2}}, "3, fold 2"),
        ({"seed": 3, "data": {"fold": None}}, 3),
        ({"seed": 3, "data": {}}, 3),
        ({"seed": "from SEED"}, "from SEED"),
    ],
)
def test_runs_repeat_others_with_another_seed_or_fold(config: dict[str, Any], repeat: int | str) -> None:
    assert repeat_of(config) == repeat
