import math
import shutil
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import BestCheckpoint, LastCheckpoint, StoredConfig
from lightning_seg.callbacks.best_checkpoint import TestedWeights, kept_checkpoint, why_unscored
from lightning_seg.losses import CrossEntropyLoss


class Scripted(lightning.LightningModule):
    """One weight, which holds the number of the epoch, and validation scores that a test chooses."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.scores = scores

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight.sum() * 0

    def on_train_epoch_start(self) -> None:
        self.weight.data.fill_(self.current_epoch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(
    folder: Path, scores: list[float], *callbacks: lightning.Callback, resume: bool = False, **options: Any
) -> lightning.Trainer:
    torch.manual_seed(0)
    trainer = lightning.Trainer(
        **{"max_epochs": len(scores), "accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0, **options},
        callbacks=[*callbacks, LastCheckpoint(folder / "last.ckpt", None)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader([torch.zeros(1)])
    trainer.fit(Scripted(scores), loader, loader, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True)
    return trainer


def epoch_in(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["state_dict"]["weight"])


def test_it_holds_weights_and_configuration_and_the_last_one_what_a_training_resumes_from(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, monitor="val/score")
    average = EMAWeightAveraging(decay=0.5)
    fit(tmp_path, [0.1, 0.2], best, average, StoredConfig({"module": {"num_classes": 3}}))
    held = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*.ckpt")}
    assert set(held["best"]) == {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "lightning_seg"}
    assert {"optimizer_states", "lr_schedulers", "loops", "callbacks", "averaging_state"} <= set(held["last"])
    assert held["best"]["state_dict"] == held["last"]["state_dict"] != held["last"]["current_model_state"]


@pytest.mark.parametrize("save_top_k", [1, 2, 3, -1])
@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 3)])
def test_best_is_the_best_however_many_are_kept(tmp_path: Path, mode: str, best: int, save_top_k: int) -> None:
    scores = [0.5, 0.875, 0.625, 0.25, 0.75]
    trainer = fit(tmp_path, scores, BestCheckpoint(tmp_path, monitor="val/score", mode=mode, save_top_k=save_top_k))
    kept = kept_checkpoint(trainer, "val/score", tmp_path / "last.ckpt")
    assert kept.path is not None
    assert (epoch_in(tmp_path / "best.ckpt"), epoch_in(kept.path), kept.value) == (best, best, scores[best])
    others = [path for path in tmp_path.glob("best*.ckpt") if path.name != "best.ckpt"]
    assert len(others) == {1: 0, -1: 5}.get(save_top_k, save_top_k)
    assert len({epoch_in(path) for path in others}) == len(others)


def test_what_is_not_finite_is_never_the_best(tmp_path: Path) -> None:
    trainer = fit(tmp_path, [math.nan, 0.25, math.inf], BestCheckpoint(tmp_path, monitor="val/score"))
    kept = kept_checkpoint(trainer, "val/score", tmp_path / "last.ckpt")
    assert (kept.value, epoch_in(tmp_path / "best.ckpt")) == (0.25, 1)


@pytest.mark.parametrize("kind", [BestCheckpoint, ModelCheckpoint])
def test_where_nothing_was_scored_the_last_weights_are_kept(tmp_path: Path, kind: Any) -> None:
    trainer = fit(tmp_path, [math.nan, math.nan], kind(tmp_path, "best", monitor="val/score", mode="max"))
    kept = kept_checkpoint(trainer, "val/score", tmp_path / "last.ckpt")
    assert kept.path == tmp_path / "last.ckpt"
    assert math.isnan(kept.value)
    assert epoch_in(kept.path) == 1
    assert why_unscored(trainer, "val/score").startswith("val/score was nan in each validation, as where the")


def test_of_several_checkpoints_the_one_of_the_monitored_score_counts(tmp_path: Path) -> None:
    every = ModelCheckpoint(tmp_path / "every", "{epoch}", save_top_k=-1)
    other = ModelCheckpoint(tmp_path, "other", monitor="epoch", mode="max")
    best = BestCheckpoint(tmp_path, monitor="val/score")
    trainer = fit(tmp_path, [0.5, 0.75, 0.25], every, other, best)
    kept = kept_checkpoint(trainer, "val/score", tmp_path / "last.ckpt")
    assert (kept.path, kept.monitor, kept.value) == (tmp_path / "best.ckpt", "val/score", 0.75)
    assert kept_checkpoint(trainer, "epoch", tmp_path / "last.ckpt").value == 2


def test_without_one_that_chooses_the_last_weights_and_their_score_count(tmp_path: Path) -> None:
    kept = kept_checkpoint(fit(tmp_path, [0.75, 0.5]), "val/score", tmp_path / "last.ckpt")
    assert (kept.path, kept.value) == (tmp_path / "last.ckpt", 0.5)


@pytest.mark.parametrize(("save_top_k", "fast_dev_run", "last"), [(0, False, True), (1, True, False)])
def test_where_none_is_to_be_kept_the_score_is_that_of_the_last_weights(
    tmp_path: Path, save_top_k: int, fast_dev_run: bool, last: bool
) -> None:
    best = BestCheckpoint(tmp_path, monitor="val/score", save_top_k=save_top_k)
    trainer = fit(tmp_path, [0.75], best, fast_dev_run=fast_dev_run)
    kept = kept_checkpoint(trainer, "val/score", tmp_path / "last.ckpt")
    assert (kept.path, kept.value) == (tmp_path / "last.ckpt" if last else None, 0.75)


def test_a_training_in_a_folder_that_was_moved_knows_its_best(tmp_path: Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    fit(before, [0.75, 0.5], ModelCheckpoint(before, "best", monitor="val/score", mode="max"))
    shutil.move(before, now)
    trainer = fit(now, [0.75, 0.5, 0.25], BestCheckpoint(now, monitor="val/score"), resume=True)
    kept = kept_checkpoint(trainer, "val/score", now / "last.ckpt")
    assert (kept.path, kept.value) == (now / "best.ckpt", 0.75)
    assert epoch_in(now / "best.ckpt") == 0


def test_checkpoints_outside_its_folder_are_not_taken_from_a_stored_state(tmp_path: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other.ckpt"
    (tmp_path / "own").mkdir()
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "own")
    callback = BestCheckpoint(folder, monitor="val/score")
    paths = (other, folder / "../other.ckpt", folder / "link/own.ckpt", folder / "best-1.ckpt")
    named = {str(path): torch.tensor(0.5) for path in paths}
    callback.load_state_dict(
        {
            "dirpath": str(folder),
            "best_k_models": named,
            "best_model_path": str(folder / "../other.ckpt"),
            "kth_best_model_path": str(other),
            "last_model_path": "",
            "best_model_score": torch.tensor(0.5),
            "kth_value": torch.tensor(0.5),
        }
    )
    assert list(callback.best_k_models) == [str(folder / "best-1.ckpt")]
    assert (callback.best_model_path, callback.kth_best_model_path) == ("", "")


def test_scores_of_a_stored_state_are_numbers(tmp_path: Path) -> None:
    callback = BestCheckpoint(tmp_path, monitor="val/score")
    with pytest.raises(ValueError, match="scores of its best epochs that are not numbers"):
        callback.load_state_dict({"dirpath": str(tmp_path), "best_k_models": {f"{tmp_path}/best.ckpt": "a"}})


def test_a_test_is_one_of_the_weights_in_the_file_whatever_callbacks_do(tmp_path: Path) -> None:
    class Swapping(lightning.Callback):
        def on_test_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
            pl_module.backbone.weight.data.add_(1)

    torch.manual_seed(0)
    samples = [{"image": torch.rand(3, 8, 8), "mask": torch.randint(0, 2, (8, 8))} for _ in range(4)]
    loader = DataLoader(samples, batch_size=2)  # type: ignore[arg-type]
    module = SegmentationModule(
        nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2, optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0)
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[BestCheckpoint(tmp_path, monitor="val/iou"), EMAWeightAveraging(decay=0.5), Swapping()],
        **quiet,  # type: ignore[arg-type]
    )
    trainer.fit(module, loader, loader)
    path = tmp_path / "best.ckpt"
    trainer.callbacks.append(TestedWeights(path))  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match=r"changed the weights; the test is one of those in .*best\.ckpt"):
        (tested,) = trainer.test(module, loader, ckpt_path=str(path), weights_only=True, verbose=False)

    module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    (expected,) = lightning.Trainer(accelerator="cpu", **quiet).test(module, loader, verbose=False)  # type: ignore[arg-type]
    assert tested == expected
    score = kept_checkpoint(trainer, "val/iou", tmp_path / "last.ckpt").value
    assert score == pytest.approx(tested["test/iou"], abs=0)
