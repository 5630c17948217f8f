import csv
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lightning_seg import SegmentationModule, load_module
from lightning_seg.checkpoint import read_checkpoint
from lightning_seg.commands.train import train
from lightning_seg.data import ShapesDataModule
from lightning_seg.launch.resolved import resolved
from lightning_seg.runs.contents import read_result
from lightning_seg.runs.folder import run_name
from tests.console import SCORES_ONLY, SHORT, SMALL, Run
from tests.first_step import loss_of_first_step
from tests.small_encoder import replace

CONF = Path(__file__).parents[2] / "conf"
TRAIN = ("lightning-seg-train", *SHORT, *SMALL)
FOLDER = ("lightning-seg-train", *SHORT, "data=folder", "data.root=my_images", "data.num_classes=3")

BINARY = ["task=binary", "data.num_classes=1", "data.class_names=[object]"]

DETAILS = ("images.csv", "confusion.csv", "confusion.png", "calibration.csv", "calibration.png", "summary.json")


def choices(group: str) -> list[str]:
    """The files of a group but `custom`, which is nothing by itself."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "custom")


def test_a_run_leaves_checkpoint_curves_scores_and_pictures(run: Run, folder: Path) -> None:
    printed = run(*TRAIN, "run=one")
    assert "triangle" in printed
    made = folder / "runs" / "one"
    names = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml",
        "confusion.json",
        *(f"evaluation/{name}" for name in DETAILS),
        "resource_usage.json",
        "curves.csv",
        "predictions.png",
        "result.json",
        "test.csv",
        "validation.npz",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    curves = list(csv.DictReader((made / "curves.csv").open()))
    assert [row["epoch"] for row in curves] == ["0"]
    assert {"train/loss", "train/iou", "val/loss", "val/iou", "val/iou/triangle", "val/dice/dot"} <= curves[0].keys()
    terms = [float(curves[0][f"train/loss/{term}"]) for term in ("cross_entropy", "dice")]
    assert float(curves[0]["train/loss"]) == pytest.approx(sum(terms), rel=1e-5)
    assert [path.name for path in folder.iterdir() if path.name not in ("runs", "my_images")] == []


def test_a_callback_set_to_null_is_left_out(run: Run, folder: Path) -> None:
    run(*TRAIN, "run=one", "callbacks.pictures=null", "callbacks.progress=null")
    assert (folder / "runs/one/result.json").is_file()
    assert not (folder / "runs/one/predictions.png").exists()


@pytest.mark.slow
def test_one_seed_gives_one_result(run: Run, folder: Path, one: Path) -> None:
    run(*TRAIN, "run=two", *SCORES_ONLY)
    run(*TRAIN, "run=three", "seed=1", *SCORES_ONLY)
    two, three = (folder.joinpath("runs", name, "test.csv").read_text() for name in ("two", "three"))
    assert (one / "test.csv").read_text() == two
    assert two != three


@pytest.mark.slow
def test_nothing_that_exists_is_written_over(run: Run, fails: Run, folder: Path, one: Path) -> None:
    before = (one / "curves.csv").stat().st_mtime_ns
    assert "resume=auto" in fails(*TRAIN, "run=one")
    assert "loss" in fails(*TRAIN, "run=one", "resume=auto", "loss=dice")
    assert (one / "curves.csv").stat().st_mtime_ns == before

    for _ in range(2):
        run(*TRAIN, "callbacks=last", "test=false", "trainer.max_steps=1")
    unnamed = sorted(path.name for path in (folder / "runs").iterdir() if path.name != "one")
    assert len(unnamed) == 2
    assert unnamed[1] == f"{unnamed[0]}-2"


@pytest.mark.slow
def test_resuming_starts_where_the_run_stopped(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*TRAIN, *SCORES_ONLY, "trainer.max_epochs=3", "run=one", "resume=auto")
    step = SegmentationModule.training_step
    trained: list[int] = []

    def failing(self: SegmentationModule, batch: object, batch_idx: int) -> torch.Tensor:
        trained.append(self.current_epoch)
        if self.current_epoch == 2 and len(trained) < 6:
            raise KeyError("the machine went away")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", failing)
    with pytest.raises(KeyError):
        run(*arguments)
    run(*arguments)
    assert trained == [0, 0, 1, 1, 2, 2, 2]
    curves = list(csv.DictReader((folder / "runs/one/curves.csv").open()))
    assert [row["epoch"] for row in curves] == ["0", "1", "2"]
    assert "has finished" in run(*arguments)
    assert len(trained) == 7


@pytest.mark.slow
def test_the_value_returned_is_the_best_not_the_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "resnet18")
    logged = iter([0.1, 0.7, 0.3])  # the sanity check does not log
    log = SegmentationModule.log

    def scripted(self: SegmentationModule, name: str, value: object, **options: object) -> None:
        log(self, name, next(logged) if name == "val/iou" and not self.trainer.sanity_checking else value, **options)

    monkeypatch.setattr(SegmentationModule, "log", scripted)
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", [*SMALL, *SHORT, *SCORES_ONLY, "trainer.max_epochs=3", f"folder={folder}/runs/x"])
    (folder / "runs/x").mkdir(parents=True)
    OmegaConf.save(config, folder / "runs/x/config.yaml", resolve=True)
    assert train(resolved(config)) == pytest.approx(0.7)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["class_weights", "loss.class_weights", "loss.terms.dice.class_weights"])
def test_class_weights_are_estimated_once_and_kept_in_the_checkpoint(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    loss = "focal_dice" if "terms" in key else "ce_dice"
    weighted = (*TRAIN, *SCORES_ONLY, "run=one", f"loss={loss}", f"{key}=median_frequency")
    run(*weighted)
    monkeypatch.setattr(ShapesDataModule, "class_weights", None)
    module = load_module(folder / "runs/one/checkpoints/best.ckpt")
    weights = module.loss.terms["dice"].class_weights
    assert len(weights) == 6
    assert weights.mean().item() == pytest.approx(1)
    assert weights.argmax() == 5  # dots are the rarest
    assert "terms" not in key or module.loss.terms["focal"].class_weights is None
    run("lightning-seg-evaluate", "checkpoint=runs/one/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    assert "has finished" in run(*weighted, "resume=auto")


@pytest.mark.slow
def test_evaluating_a_checkpoint_gives_the_loss_of_its_epoch(run: Run, folder: Path) -> None:
    monitored = "callbacks.checkpoint.monitor=epoch"
    run(*TRAIN, *SCORES_ONLY, "run=one", "loss=ce_then_lovasz", "trainer.max_epochs=3", monitored)
    assert read_checkpoint(folder / "runs/one/checkpoints/best.ckpt")["epoch"] == 2
    tested = read_result(folder / "runs/one")["test"]["test/loss"]  # type: ignore[index]
    printed = run("lightning-seg-evaluate", "checkpoint=runs/one/checkpoints/best.ckpt", "trainer.accelerator=cpu")
    assert f"loss {tested:.4f}" in printed


@pytest.mark.parametrize("trainer", ["ddp", "ddp_sim"])
def test_training_on_several_processes_joins_their_batches_in_the_loss(trainer: str) -> None:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", [f"trainer={trainer}", "trainer.devices=4", "loss=focal_dice"])
        own = compose("train", [f"trainer={trainer}", "sync_dist=false"])
        alone = compose("train", [])
    assert (config.trainer.devices, config.trainer.strategy, config.trainer.max_epochs) == (4, "ddp", 10)
    assert not set(config.keys()) - set(alone.keys())
    assert [term.sync_dist for term in config.module.loss.terms.values()] == [True, True]
    assert (own.module.loss.sync_dist, alone.module.loss.sync_dist) == (False, False)


@pytest.mark.slow
def test_two_processes_log_the_terms_of_their_loss(run: Run, folder: Path) -> None:
    loss = ("loss=focal_dice", "loss.weights={focal:1,dice:0}")
    two = ("trainer=ddp_sim", "trainer.devices=2", "data.batch_size=2", "callbacks=curves", "test=false")
    run(*TRAIN, "run=two", *loss, *two)
    (two,) = csv.DictReader((folder / "runs/two/curves.csv").open())
    assert float(two["train/loss"]) == pytest.approx(float(two["train/loss/focal"]), rel=1e-5)
    assert 0 < float(two["train/loss/dice"]) < 1


@pytest.mark.slow
def test_a_run_may_resume_with_another_trainer(run: Run, one: Path) -> None:
    assert "has finished" in run(*TRAIN, "run=one", "resume=auto", "trainer=ddp_sim")


@pytest.mark.parametrize("debug", choices("debug"))
def test_debugging_choices_run(run: Run, folder: Path, debug: str) -> None:
    run(*TRAIN[:2], *SMALL, f"debug={debug}", "trainer.max_epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["backbone", "optimizer", "scheduler", "augment"])
def test_every_choice_of_a_group_trains(group: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses: in tests/losses/test_loss_configs.py, which composes their configurations."""
    for encoder in ("resnet18", "resnet34"):
        replace(monkeypatch, encoder)
    for choice in choices(group):
        overrides = [f"{group}={choice}", *SMALL]
        if choice == "monai":
            overrides.append("backbone.filters=[4,8,8,8,8]")
        if choice in ("unet_3d", "volumes"):
            overrides += ["backbone=unet_3d", "augment=volumes", "data.dimensions=3", "data.image_size=16"]
        with initialize_config_module("lightning_seg.conf", version_base="1.3"):
            composed = compose("train", [*overrides, f"folder={folder}"])
        assert torch.isfinite(loss_of_first_step(composed)), choice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss=diceloss"], r"ce_dice.*lovasz"),
        (["backbone=unett"], r"unet.*unet_small"),
        (["data=foldr"], r"folder.*shapes"),
        (["trainer=gpu"], r"(?i)gpu"),
        (["backbone.classes=9"], r"9 channels.*num_classes=6"),
        (["backbone.encoder_name=resnet1"], r"resnet1.*resnet18"),
        (["loss.smooooth=1"], r"smooooth"),
        (["+loss.smooooth=1"], r"CrossEntropyDiceLoss.*smooooth"),
        (["data.ignore_index=3"], r"ignore_index=3.*triangle.*both scored and ignored"),
        (["class_weights=inverse"], r"class_weights=inverse is neither.*inverse_frequency, median_freq.*effective"),
        (["loss=dice", "loss.class_weights=no"], r"class_weights=no is neither"),
        (["class_weights=[1,2]"], r"class_weights has 2 numbers, and there are 6 classes: give one for each"),
        ([*BINARY, "class_weights=median_frequency"], r"median_frequency balances classes .* binary task has one"),
        (
            [*BINARY, "class_weights=[1]"],
            r"class_weights balance classes against each other, and the binary task has one",
        ),
        (["loss=dice_boundary", "trainer.max_epochs=-1"], r"last_epoch=-1"),
        (["resume=yes"], r"resume=.*never or auto"),
        (["run=a/b"], r"plain name"),
    ],
)
def test_a_wrong_choice_gets_one_clear_line_and_leaves_no_run(
    fails: Run, folder: Path, overrides: list[str], expected: str
) -> None:
    line = fails(*TRAIN, *overrides, *(["trainer.accelerator=gpu"] if "trainer=gpu" in overrides else []))
    assert re.search(expected, line), line
    assert not list((folder / "runs").glob("[!.]*"))


@pytest.mark.slow
def test_wrong_data_gets_one_clear_line(fails: Run, folder: Path) -> None:
    assert "data.root" in fails("lightning-seg-train", "data=folder", "data.num_classes=3")
    assert "255" in fails(*FOLDER)
    assert "nowhere" in fails(*FOLDER[:-2], "data.root=nowhere", "data.num_classes=3")
    (folder / "my_images/train/masks/1.png").unlink()
    assert "1.jpg" in fails(*FOLDER, "data.ignore_index=255")


@pytest.mark.slow
def test_the_error_of_another_process_is_one_line_too(fails: Run, folder: Path) -> None:
    assert "num_classes=7" in fails(*TRAIN, "trainer=ddp_sim", "trainer.devices=2", "data.num_classes=7")


def test_full_errors_are_shown_when_asked_for(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="plain name"):
        run(*TRAIN, "run=a/b")


def test_run_names_are_readable_stable_and_different() -> None:
    assert run_name([]) == "default"
    assert run_name(["seed=1", "loss=dice", "run=x", "resume=auto"]) == "loss=dice,seed=1"
    assert run_name(["loss=dice", "seed=1"]) == run_name(["seed=1", "loss=dice"])
    strange = {run_name(["a=[1,2]"]), run_name(["a={1,2}"]), run_name(["a=(1,2)"])}
    assert len(strange) == 3
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789=,._-") for name in strange)
