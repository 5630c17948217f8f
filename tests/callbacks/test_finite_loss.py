import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import EpochCurves, FiniteLoss, LastCheckpoint, TrainingDiverged
from lightning_seg.data.datamodule import collate
from lightning_seg.losses import CompoundLoss, CrossEntropyDiceLoss, CrossEntropyLoss, DiceLoss
from tests.process_group import run_on_ranks

IMAGES = 6  # of a training epoch, in batches of two


class Images(torch.utils.data.Dataset[Any]):
    """Random images, of which some hold a value that is not finite."""

    def __init__(self, broken: dict[int, float]) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 8, 8, generator=generator)
        if index in self.broken:
            image[0, 0, 0] = self.broken[index]
        return {"image": image, "mask": (image[0] > 0.5).long(), "name": f"photo_{index}"}


def loader(broken: dict[int, float]) -> Any:
    return torch.utils.data.DataLoader(Images(broken), 2, collate_fn=collate)


def module(loss: nn.Module | None = None, learning_rate: float = 0.25) -> SegmentationModule:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def optimizer(groups: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.1)

    return SegmentationModule(network, loss or CrossEntropyDiceLoss(), num_classes=2, optimizer=optimizer)


def fit(
    folder: Path,
    broken: dict[int, float],
    trained: SegmentationModule | None = None,
    *,
    action: Any = "stop",
    max_skipped: int = 10,
    **options: Any,
) -> tuple[lightning.Trainer, FiniteLoss]:
    finite = FiniteLoss(folder, action, max_skipped)
    callbacks = [EpochCurves(folder / "curves.csv"), LastCheckpoint(folder / "checkpoints/last.ckpt", 0), finite]
    trainer = lightning.Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "devices": 1, "default_root_dir": folder, **options},
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module() if trained is None else trained, loader(broken), loader({}))
    return trainer, finite


def is_finite(weights: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_the_first_loss_that_is_not_finite_stops_the_training_with_all_that_helps(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged) as raised:
        fit(tmp_path, {3: torch.nan})
    line = str(raised.value)
    assert "the loss is nan in step 1 (epoch 0, batch 1), by its term" in line
    assert "with the images photo_2, photo_3 and the learning rate 0.25." in line
    assert "Not finite themselves: photo_3." in line
    assert "What usually helps: a lower optimizer.lr" in line
    assert "gradient_clip_val=1" in line
    assert "\n" not in line

    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 1
    assert is_finite(last["state_dict"])
    kept = torch.load(tmp_path / "diverged.pt", weights_only=True)
    assert (kept["step"], kept["epoch"], kept["batch_index"]) == (1, 0, 1)
    assert kept["batch"]["name"] == ["photo_2", "photo_3"]
    assert torch.equal(kept["batch"]["image"][0], Images({})[2]["image"])
    mark = json.loads((tmp_path / "diverged.json").read_text())
    assert mark == {"step": 1, "epoch": 0, "reason": line}


class Spoiled(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.square().sum() * torch.inf


def test_the_terms_that_are_not_finite_are_named(tmp_path: Path) -> None:
    loss = CompoundLoss(terms={"dice": DiceLoss(), "spoiled": Spoiled()}, weights={"dice": 1, "spoiled": 1})
    with pytest.raises(TrainingDiverged, match=r"the loss is inf in step 0 .*, by its term spoiled, with"):
        fit(tmp_path, {}, module(loss))
    with pytest.raises(TrainingDiverged, match=r"by its term Spoiled, with"):
        fit(tmp_path, {}, module(Spoiled()))
    assert not (tmp_path / "checkpoints/last.ckpt").exists()


def test_a_new_start_removes_the_marks_of_the_last_end(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged):
        fit(tmp_path, {0: torch.nan})
    fit(tmp_path, {})
    assert not list(tmp_path.glob("diverged*"))


class RootOfNothing(CrossEntropyLoss):
    """0 more, with a gradient that is not finite."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target) + (logits - logits).square().sum().sqrt()


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"weights are not finite after step 0, though its loss was: the grad"):
        fit(tmp_path, {}, module(RootOfNothing()))
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_step_that_is_left_out_leaves_no_trace(tmp_path: Path, capsys: Any, value: float) -> None:
    trained, without = module(), module()
    trainer, finite = fit(tmp_path / "skip", {4: value}, trained, action="skip", max_skipped=1)
    assert finite.skipped == 1
    printed = capsys.readouterr().out
    assert "with the images photo_4, photo_5 and" in printed
    assert "the step is left out (1 of at most 1)" in printed
    assert "1 training steps were left out" in printed
    # The broken batch is the last one, so a training of two steps is the same.
    other, _ = fit(tmp_path / "without", {}, without, max_steps=2)
    for name, weight in trained.state_dict().items():
        if "num_batches_tracked" not in name:
            assert torch.equal(weight, without.state_dict()[name]), name
    for name in ("train/loss", "train/iou"):
        assert torch.equal(trainer.callback_metrics[name], other.callback_metrics[name]), name


def test_a_gradient_that_is_not_finite_is_left_out_too(tmp_path: Path, capsys: Any) -> None:
    before = module().state_dict()
    trained = module(RootOfNothing())
    fit(tmp_path, {}, trained, action="skip")
    assert "the gradient of step 0 is not finite: the step is left out" in capsys.readouterr().out
    assert torch.equal(trained.state_dict()["backbone.0.weight"], before["backbone.0.weight"])


def test_all_gradients_that_were_accumulated_are_left_out_with_one(tmp_path: Path) -> None:
    before = module().state_dict()
    trained = module()
    _, finite = fit(tmp_path, {0: torch.nan}, trained, action="skip", accumulate_grad_batches=3)
    assert finite.skipped == 1
    assert torch.equal(trained.state_dict()["backbone.0.weight"], before["backbone.0.weight"])
    assert is_finite(trained.state_dict())


def test_no_more_steps_are_left_out_than_permitted(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"photo_2, .* and max_skipped_steps=1 were left out before\. .* kept"):
        fit(tmp_path, {0: torch.nan, 2: torch.nan}, action="skip", max_skipped=1)


def test_a_module_that_does_not_ask_stops(tmp_path: Path) -> None:
    class Own(SegmentationModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.compute_loss(self(batch["image"]), batch["mask"])

    own = Own(nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2)
    with pytest.raises(TrainingDiverged, match="the loss is nan in step 0"):
        fit(tmp_path, {0: torch.nan}, own, action="skip")


@pytest.mark.parametrize("arguments", [("continue",), ("stop", 0), ("skip", 1.5), ("skip", True)])
def test_arguments_are_checked(tmp_path: Path, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"on_nonfinite=continue is not one|max_skipped_steps=.* is not a number"):
        FiniteLoss(tmp_path, *arguments)


@pytest.mark.parametrize("run", ["validate", "test"])
def test_no_score_is_computed_from_logits_that_are_nan(run: str) -> None:
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(FloatingPointError, match=r"logits of 1 of 3 \w+ batches are NaN, first those of photo_2, phot"):
        getattr(trainer, run)(module(), loader({3: torch.nan}), verbose=False)
    assert not [name for name in trainer.callback_metrics if "iou" in name]


@pytest.mark.parametrize("std", [[1.0, 0.0, 1.0], [0.2, -0.1, 0.2], [1.0, torch.nan, 1.0]])
def test_a_standard_deviation_of_zero_is_refused(std: list[float]) -> None:
    with pytest.raises(ValueError, match=r"std=.* must be above 0 \(data.std\)"):
        SegmentationModule(nn.Identity(), CrossEntropyLoss(), num_classes=2, mean=[0.0] * 3, std=std)


def diverge_on_rank_one(rank: int, world_size: int, folder: Path) -> str:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    settings = {"accumulate_grad_batches": 1, "gradient_clip_val": 1.0, "precision": "32-true", "optimizers": []}
    place = {"global_step": 4, "current_epoch": 2, "is_global_zero": rank == 0, "global_rank": rank}
    trainer: Any = SimpleNamespace(strategy=strategy, world_size=world_size, **settings, **place)
    finite = FiniteLoss(folder)
    finite.on_train_batch_start(trainer, module(), {"name": [f"photo_{rank}"]}, 1)
    try:
        finite.on_before_backward(trainer, module(), torch.tensor([1.0, torch.nan][rank]))
    except TrainingDiverged as error:
        return str(error)
    return "went on"


@pytest.mark.slow
def test_all_processes_stop_at_the_step_of_one_and_name_its_images(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir()
    lines = run_on_ranks(partial(diverge_on_rank_one, folder=tmp_path), 2, tmp_path / "ranks")
    assert lines[0] == lines[1]
    assert "the loss is nan in step 4 (epoch 2, batch 1)" in lines[0]
    assert "with the images photo_1 and" in lines[0]
    assert torch.load(tmp_path / "diverged.pt", weights_only=True)["batch"] == {"name": ["photo_1"]}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_does_not_wait_for_its_loss_to_be_looked_at(tmp_path: Path) -> None:
    finite = FiniteLoss(tmp_path)
    step = torch.full((), 1.0, device="cuda")
    trainer = lightning.Trainer(accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    finite.setup(trainer, module(), "fit")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in range(3):
            finite.on_train_batch_start(trainer, module(), {"name": [str(index)]}, index)
            finite.on_before_backward(trainer, module(), step / (1 - index // 2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(TrainingDiverged, match=r"the loss is inf .* the images 2 and"):
        finite.on_validation_start(trainer, module())
