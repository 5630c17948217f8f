"""Evaluation and prediction say the same of an image, tile by tile or whole."""

from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.data import FolderDataModule
from lightning_seg.inference import predict_files
from lightning_seg.losses import CrossEntropyLoss, DiceLoss
from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from tests.console import write_folder

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class FarSighted(nn.Module):
    """Coarse logits, each of which looks at more than a margin around it; notes the sizes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sides: list[int] = []
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 9, padding=4))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.sides += image.shape[2:]
        return self.layers(image)


def module_of(loss: nn.Module | None = None, **options: object) -> SegmentationModule:
    loss = CrossEntropyLoss(ignore_index=255) if loss is None else loss
    module = SegmentationModule(FarSighted(), loss, num_classes=3, ignore_index=255, **options).eval()  # type: ignore[arg-type]
    module._is_reach_known = True  # so that the sizes are of images alone, not of what `warn_of_tiles` tries
    return module


def data_of(root: Path, scale: float) -> FolderDataModule:
    options = {"val_fraction": 0.3, "test_fraction": 0.3, "seed": 0, "batch_size": 1, "scale": scale}
    return FolderDataModule(root, 3, ignore_index=255, eval_batch_size=2, **options)  # type: ignore[arg-type]


def trainer(**options: object) -> lightning.Trainer:
    return lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, **QUIET, **options)  # type: ignore[arg-type]


def counted(masks: list[Path], predictions: Path) -> torch.Tensor:
    """The confusion of mask files with the files that were predicted, pixel by pixel."""
    matrix = np.zeros((3, 3), np.int64)
    for path in masks:
        target, labels = np.asarray(Image.open(path)), np.asarray(Image.open(predictions / path.name))
        np.add.at(matrix, (target[target != 255], labels[target != 255]), 1)
    return torch.from_numpy(matrix)


class Confusion(lightning.Callback):
    """The confusion matrix that the test scores are computed from."""

    def on_test_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        metrics = pl_module.test_metrics.values()  # type: ignore[operator, union-attr]
        self.matrix = next(one for one in metrics if isinstance(one, ConfusionMatrixMetric)).confusion_matrix.clone()


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": 32, "margin": 4},
        {"tile": 32, "margin": 4, "test_time_augmentation": True},
        {"tile": 32, "margin": 4, "test_time_augmentation": {"scales": [0.75, 1.5], "flips": "flip"}},
    ],
)
def test_the_confusion_of_a_test_is_the_one_counted_from_the_predicted_masks(
    tmp_path: Path, scale: float, options: dict[str, object]
) -> None:
    write_folder(tmp_path / "data", {"train": 1, "val": 1, "test": 3}, size=(70, 93))
    module, confusion = module_of(**options), Confusion()
    trainer(callbacks=[confusion]).test(module, data_of(tmp_path / "data", scale), verbose=False)
    if options:
        assert max(module.backbone.sides) == 32  # type: ignore[arg-type]
    predict_files(
        module, tmp_path / "data/test/images", tmp_path / "masks", palette=PALETTE, scale=scale, progress=False
    )
    masks = sorted((tmp_path / "data/test/masks").iterdir())
    assert torch.equal(confusion.matrix, counted(masks, tmp_path / "masks"))


def test_tiles_change_what_a_far_sighted_network_says() -> None:
    image = torch.rand(1, 3, 70, 93)
    whole, tiled = module_of(), module_of(tile=32, margin=4)
    assert not torch.equal(
        whole.predict_labels(whole.predict_logits(image)), tiled.predict_labels(tiled.predict_logits(image))
    )


@pytest.mark.parametrize("loss", [CrossEntropyLoss(ignore_index=255), DiceLoss(ignore_index=255, per_image=True)])
def test_validation_test_and_training_time_validation_see_the_same_tiles(tmp_path: Path, loss: nn.Module) -> None:
    write_folder(tmp_path, {"train": 1, "val": 3, "test": 1}, size=(70, 93))
    module, data = module_of(loss, tile=32, margin=4), data_of(tmp_path, 1.0)
    module.optimizer_factory = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    fit = trainer(num_sanity_val_steps=0)
    fit.fit(module, data)
    module.backbone.sides.clear()  # type: ignore[operator, union-attr]
    alone = trainer().validate(module, data, verbose=False)[0]
    assert {name: fit.callback_metrics[name].item() for name in alone} == pytest.approx(alone, rel=1e-6)
    assert max(module.backbone.sides) == 32  # type: ignore[arg-type]


def test_a_tile_given_to_the_prediction_of_files_is_used_instead_of_the_modules_and_that_is_kept(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path, {"test": 1}, size=(70, 93))
    module = module_of(tile=64, margin=4)
    predict_files(
        module, tmp_path / "test/images", tmp_path / "masks", palette=PALETTE, tile=80, margin=2, progress=False
    )
    assert set(module.backbone.sides) == {70, 80, 93 - 32}  # type: ignore[arg-type]
    assert (module.tile, module.margin) == (64, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 32}, "tile=32 and margin=null must be given together or not at all"),
        ({"margin": 4}, "tile=null and margin=4 must be given together or not at all"),
        ({"tile": 8, "margin": 4}, "tile=8 leaves no center between two margins of 4"),
    ],
)
def test_tiles_that_cannot_be_are_refused_by_the_module_and_by_the_prediction_of_files(
    tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        module_of(**options)
    with pytest.raises(ValueError, match=message):
        predict_files(module_of(), tmp_path, tmp_path / "masks", palette=PALETTE, **options)
