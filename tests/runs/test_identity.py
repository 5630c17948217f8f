from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_seg.runs.contents import write_result
from lightning_seg.runs.folder import changes, finished_result, keep_changes, open_run, run_name
from lightning_seg.runs.identity import changed_machine, is_machine, is_place
from tests.report.conftest import composed


def begin(tmp_path: Path, *overrides: str) -> tuple[Path, bool]:
    config = composed(f"runs={tmp_path}", "run=one", *overrides)
    return open_run(config, list(overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "trainer.precision=bf16-mixed",
        "trainer.gradient_clip_val=0.5",
        "trainer.deterministic=true",
        "trainer.accumulate_grad_batches=2",
        "trainer.max_epochs=3",
        "+module.loss.gamma=2",
        "+module={loss:{gamma:2}}",
        "trainer.check_val_every_n_epoch=2",
        "+trainer.limit_train_batches=2",
        "+trainer.limit_val_batches=2",
        "+trainer.val_check_interval=2",
        "callbacks.checkpoint.mode=min",
        "monitor=val/dice",
        "+callbacks.early_stopping={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/iou}",
        "loss=dice",
        "seed=1",
    ],
)
def test_a_run_does_not_resume_with_what_changes_its_result(tmp_path: Path, override: str) -> None:
    begin(tmp_path)
    before = (tmp_path / "one/config.yaml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"was started with .*run=ANOTHER starts a new one"):
        begin(tmp_path, "resume=auto", override)
    assert (tmp_path / "one/config.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [("trainer.devices=3", "trainer.devices", 3), ("trainer.accelerator=cpu", "trainer.accelerator", "cpu")],
)
def test_another_machine_is_said_and_kept(tmp_path: Path, override: str, key: str, value: object) -> None:
    folder, _ = begin(tmp_path)
    run_id = OmegaConf.load(folder / "config.yaml").run_id
    config = composed(f"runs={tmp_path}", "run=one", "resume=auto", override)
    assert open_run(config, [override]) == (folder, True)
    assert changes(folder, config, [override]) == {key: ("auto", value)}
    keep_changes(folder, config)
    kept = OmegaConf.load(folder / "config.yaml")
    assert OmegaConf.select(kept, key) == value
    assert kept.run_id == run_id


def test_places_change_without_a_word(tmp_path: Path) -> None:
    folder, _ = begin(tmp_path)
    overrides = ["data.num_workers=3", "callbacks.pictures=null"]
    assert changes(folder, composed(*overrides), overrides) == {}


def test_a_key_that_came_after_a_run_was_started_is_said_and_no_other_run(tmp_path: Path) -> None:
    folder, _ = begin(tmp_path)
    begun = OmegaConf.load(folder / "config.yaml")
    del begun.module.tile
    del begun.data.seed
    OmegaConf.save(begun, folder / "config.yaml")
    config = composed()
    assert changes(folder, config, []) == {
        "module.tile": (None, config["module"]["tile"]),
        "data.seed": (None, config["data"]["seed"]),
    }
    with pytest.raises(ValueError, match=r"was started with module.tile=None, and now module.tile=512"):
        changes(folder, composed("module.tile=512"), ["module.tile=512"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begun", "now", "longer"),
    [
        ("trainer.max_epochs=3", "trainer.max_epochs=5", {"trainer.max_epochs": (3, 5)}),
        ("trainer.max_steps=3", "trainer.max_steps=-1", {"trainer.max_steps": (3, -1)}),
        ("trainer.max_epochs=5", "trainer.max_epochs=3", None),
        ("trainer.max_epochs=-1", "trainer.max_epochs=3", None),
    ],
)
def test_a_training_may_be_made_longer_and_not_shorter(
    tmp_path: Path, begun: str, now: str, longer: dict[str, tuple[int, int]] | None
) -> None:
    folder, _ = begin(tmp_path, begun)
    write_result(folder, {"best": 0.5, "test": {"test/iou": 0.5}})
    config = composed(now)
    if longer is None:
        with pytest.raises(ValueError, match=r"was started with trainer\.max"):
            finished_result(folder, config, [now])
        return
    assert finished_result(folder, composed(begun), [begun]) is not None
    assert finished_result(folder, config, [now]) is None
    assert changes(folder, config, [now]) == longer
    keep_changes(folder, config)
    assert not (folder / "result.json").exists()  # it is that of the shorter one
    assert changes(folder, config, [now]) == {}


@pytest.mark.parametrize("key", ["run", "data.num_workers", "callbacks.pictures.count", "callbacks.checkpoint.dirpath"])
def test_places(key: str) -> None:
    assert is_place(key)


@pytest.mark.parametrize("key", ["runner", "data.root", "callbacks.checkpoint.mode", "callbacks.ema.decay", "loss"])
def test_what_is_not_a_place(key: str) -> None:
    assert not is_place(key)


def test_the_machine_is_told_by_whole_names() -> None:
    assert is_machine("trainer.strategy._target_")
    assert is_machine("module.loss.sync_dist")
    assert not is_machine("trainer.devices_of_another_kind")


def test_a_key_that_is_missing_on_one_side_differs() -> None:
    with pytest.raises(ValueError, match=r"a was started with loss.gamma=None, and now loss.gamma=2"):
        changed_machine("a", {"loss": {"alpha": 1}}, {"loss": {"alpha": 1, "gamma": 2}}, ["loss.gamma=2"])


def test_names_tell_what_was_chosen_but_for_places() -> None:
    assert run_name(["run=x", "callbacks.pictures=null", "data.root=y"]) == "default"
    assert run_name(["+logger.api_key=secret", "logger=wandb"]) == "default"
    assert run_name(["data.num_workers=2", "data.root=y"], {"data.num_workers"}) == "data.num_workers=2"
    assert run_name(["data.root=y", "loss=ce"], {"data.root"}) == "data.root=y,loss=ce"
    assert run_name(["loss=dice", "callbacks.checkpoint.mode=min"]) == "callbacks.checkpoint.mode=min,loss=dice"
