"""What a training on two processes logs is that of all their images."""

import json
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import ConfusionCounts, EvaluationDetails
from lightning_seg.losses import CompoundLoss, CrossEntropyLoss, DiceLoss
from lightning_seg.metrics import MeanIoU
from tests.process_group import run_on_ranks
from tests.small_module import VOID, build, images
from tests.small_module import trainer as trainer_of_one

COUNT = 5  # Evaluated, on two processes with a repeated one; all but the last are trained on.


def seeded() -> tuple[list[dict[str, Tensor]], SegmentationModule]:
    torch.manual_seed(0)
    terms = {"ce": CrossEntropyLoss(ignore_index=VOID), "dice": DiceLoss(ignore_index=VOID)}
    loss = CompoundLoss(terms=terms, weights={"ce": 1.0, "dice": 2.0})
    return images(COUNT), build(loss=loss, optimizer=partial(torch.optim.SGD, lr=0.0))


def details_in(folder: Path) -> dict[str, Tensor]:
    """The tables of an evaluation's details, as bytes, and the numbers that are its summary."""
    summary = json.loads((folder / "summary.json").read_text())
    numbers = [summary[name] for name in ("images", "expected_calibration_error", "boundary_iou", "surface_dice")]
    numbers += [one[key] for one in summary["intervals"].values() for key in ("value", "low", "high")]
    tables = ("images.csv", "confusion.csv", "boundaries.csv")
    found = {name: torch.tensor(list((folder / name).read_bytes())) for name in tables}
    return {**found, "summary": torch.tensor(numbers, dtype=torch.float64)}


def logged_on_rank(rank: int, world_size: int) -> dict[str, Tensor]:
    """All that a training of an epoch and a test log, and the confusion matrix of the test, with weights that stay."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "GROUP_RANK": "0"}
    os.environ |= {"LOCAL_WORLD_SIZE": str(world_size), "TORCHELASTIC_RUN_ID": "test"}
    rows, module = seeded()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    with TemporaryDirectory() as folder:
        counts = ConfusionCounts(Path(folder) / "confusion.json")
        details = EvaluationDetails(Path(folder) / "details", boundaries=True, draws=20)
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=world_size,
            strategy="ddp",
            max_epochs=1,
            callbacks=[counts, details],
            enable_model_summary=False,
            **quiet,  # type: ignore[arg-type]
        )
        loader = DataLoader(rows, batch_size=1)  # type: ignore[arg-type, var-annotated]
        trainer.fit(module, DataLoader(rows[:-1], batch_size=1), loader)  # type: ignore[arg-type]
        values = dict(trainer.callback_metrics)
        values |= trainer.test(module, loader, verbose=False)[0]
        if rank == 0:
            values["matrix"] = torch.tensor(json.loads(counts.path.read_text())["matrix"])
            values |= details_in(details.folder)
    return {name: torch.as_tensor(value) for name, value in values.items()}


def test_losses_scores_and_counts_are_those_of_all_images_on_every_process(tmp_path: Path) -> None:
    first, second = run_on_ranks(logged_on_rank, 2, tmp_path)
    rows, module = seeded()
    image, mask = (torch.stack([row[name] for row in rows]) for name in ("image", "mask"))
    with torch.no_grad():
        logits = module(image)
        of_all = module.loss(logits, mask)
        losses = {"train/loss": module.loss}
        losses |= {f"train/loss/{name}": term for name, term in module.loss.terms.items()}  # type: ignore[union-attr, operator]
        trained = {
            name: torch.stack([loss(logits[i : i + 1], mask[i : i + 1]) for i in range(COUNT - 1)]).mean()
            for name, loss in losses.items()
        }
    for values in (first, second):
        assert values["val/loss"].item() == pytest.approx(of_all.item(), rel=1e-6)
        assert values["test/loss"].item() == pytest.approx(of_all.item(), rel=1e-6)
        for name, expected in trained.items():
            assert values[name].item() == pytest.approx(expected.item(), rel=1e-5)
    score = MeanIoU(num_classes=3, ignore_index=VOID)
    assert second["test/iou"] == first["test/iou"] == score(logits, mask)
    assert torch.equal(first["matrix"], score.confusion_matrix)

    alone = EvaluationDetails(tmp_path / "alone", boundaries=True, draws=20)
    trainer_of_one(callbacks=[alone]).test(module, DataLoader(rows, batch_size=1), verbose=False)  # type: ignore[arg-type, no-untyped-call]
    for name, expected in details_in(alone.folder).items():
        torch.testing.assert_close(first[name], expected)
