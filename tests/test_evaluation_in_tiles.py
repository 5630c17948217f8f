"""An image in tiles is scored tile by tile, with the scores that it has as a whole."""

import json
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from lightning_seg.callbacks import EvaluationDetails
from lightning_seg.csv_files import read_csv
from lightning_seg.data import FolderDataModule
from lightning_seg.data.datamodule import collate
from lightning_seg.losses import BoundaryLoss, CrossEntropyLoss, DiceLoss
from lightning_seg.metrics import ImageMeanIoU, MeanIoU
from lightning_seg.module import SegmentationModule
from tests.console import write_folder
from tests.small_module import VOID, Network, trainer

TILE = {"tile": 16, "margin": 2}
CLASSES = {"multiclass": 3, "binary": 1, "multilabel": 2}


class Largest(TorchDispatchMode):
    """The most elements that a new tensor has had, by its type."""

    def __init__(self):
        super().__init__()
        self.elements = {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        inputs = {one.untyped_storage()._cdata for one in tree_leaves((arguments, options)) if torch.is_tensor(one)}
        for one in tree_leaves(result):
            if torch.is_tensor(one) and one.untyped_storage()._cdata not in inputs:
                self.elements[one.dtype] = max(one.numel(), self.elements.get(one.dtype, 0))
        return result


def images(task, size, count=3):
    torch.manual_seed(0)
    shape = (CLASSES[task], *size) if task == "multilabel" else size
    masks = [torch.randint(0, max(2, CLASSES[task]) if task == "multiclass" else 2, shape) for _ in range(count)]
    for index, mask in enumerate(masks):
        mask[..., : 2 * index, :] = VOID
    return [
        {"image": torch.rand(3, *size), "mask": mask.to(torch.uint8), "name": str(index)}
        for index, mask in enumerate(masks)
    ]


def module_of(task, loss=None, cls=SegmentationModule, **options):
    torch.manual_seed(0)
    classes = CLASSES[task]
    loss = CrossEntropyLoss(task=task, ignore_index=VOID) if loss is None else loss
    return cls(Network(classes=classes), loss, num_classes=classes, task=task, ignore_index=VOID, **options)


class Whole(SegmentationModule):
    """Puts the logits of tiles together before they are scored."""

    def predict_logits(self, image, size=None):
        return super().predict_logits(image, size)


def scored(module, rows, folder, *, run="test"):
    details = [] if folder is None else [EvaluationDetails(folder, boundaries=True, draws=5)]
    runner = trainer(callbacks=details)
    return getattr(runner, run)(module, DataLoader(rows, batch_size=2), verbose=False)[0]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("multiclass", {"background": 0}),
        ("multiclass", {"tiling": "smooth", "test_time_augmentation": "flip"}),
        ("binary", {"threshold": 0.45}),
        ("multilabel", {}),
    ],
)
def test_scores_and_details_are_those_of_whole_logits(tmp_path, task, options):
    rows = images(task, (37, 50))
    found = scored(module_of(task, **TILE, **options), rows, tmp_path / "tiles")
    expected = scored(module_of(task, cls=Whole, **TILE, **options), rows, tmp_path / "whole")
    assert found.pop("test/loss") == pytest.approx(expected.pop("test/loss"), rel=1e-6)
    assert found == expected
    for name in ("images.csv", "boundaries.csv", *(["confusion.csv"] if task != "multilabel" else [])):
        assert read_csv(tmp_path / "tiles" / name) == read_csv(tmp_path / "whole" / name)
    one, other = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("tiles", "whole"))
    assert one.pop("expected_calibration_error") == pytest.approx(other.pop("expected_calibration_error"))
    assert one == other


@pytest.mark.parametrize("boundaries", [False, True])
def test_of_an_image_in_bytes_nothing_but_labels_of_one_byte_is_held_beside_it(tmp_path, boundaries):
    module, size = module_of("multiclass", tile=80, margin=2).eval(), (360, 400)
    details = EvaluationDetails(tmp_path, boundaries=boundaries)
    module._is_reach_known = True  # which a larger image than a tile is tried for
    runner = trainer(callbacks=[details])
    row = images("multiclass", size, 1)[0]
    row["image"] = (255 * row["image"]).to(torch.uint8)
    largest = Largest()

    class Watched(SegmentationModule):
        takes_integers = True  # as its step is the usual one

        def test_step(self, batch, batch_idx, dataloader_idx=0):
            with largest:
                super().test_step(batch, batch_idx)

    module.__class__ = Watched
    runner.test(module, DataLoader([row], collate_fn=partial(collate, small_masks=True, small_above=80)), verbose=False)
    of_a_tile = 4 * 80 * 80  # as many channels as the network has within
    small = (torch.uint8, torch.bool)
    assert largest.elements[torch.float32] <= of_a_tile
    assert max(count for kind, count in largest.elements.items() if kind not in small) <= of_a_tile
    assert max(largest.elements.get(kind, 0) for kind in small) <= (size[0] * size[1] if boundaries else of_a_tile)


def test_a_loss_that_is_no_function_of_sums_is_the_mean_over_tiles_which_is_exact_of_a_mean_over_pixels():
    rows = images("multiclass", (37, 50))
    foreign = nn.CrossEntropyLoss(ignore_index=VOID)
    with pytest.warns(UserWarning, match="test/loss is the mean over tiles: CrossEntropyLoss is not a function of"):
        found = scored(module_of("multiclass", foreign, **TILE), rows, None)
    expected = scored(module_of("multiclass", **TILE), rows, None)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "loss", [DiceLoss(ignore_index=VOID, per_image=True), BoundaryLoss(ignore_index=VOID)], ids=["per image", "map"]
)
def test_scores_do_not_need_the_loss_of_a_whole_image(loss):
    rows = images("multiclass", (33, 49))
    with pytest.warns(UserWarning, match="loss is the mean over tiles"):
        found = scored(module_of("multiclass", loss, **TILE), rows, None, run="validate")
    expected = scored(module_of("multiclass", **TILE), rows, None, run="validate")
    expected.pop("val/loss")
    assert math.isfinite(found.pop("val/loss"))
    assert found == expected


def test_a_score_of_images_gets_them_whole_and_says_so():
    class WithImageScore(SegmentationModule):
        def build_metrics(self):
            spec = {"num_classes": self.num_classes, "ignore_index": self.ignore_index}
            return MetricCollection({"iou": MeanIoU(**spec), "image_iou": ImageMeanIoU(**spec)})

    rows = images("multiclass", (37, 50))
    with pytest.warns(UserWarning, match="logits are kept whole for ImageMeanIoU, in 4 bytes a pixel and class"):
        found = scored(module_of("multiclass", cls=WithImageScore, **TILE), rows, None)
    expected = scored(module_of("multiclass", cls=WithImageScore), rows, None)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["test/image_iou"] != pytest.approx(found["test/iou"], rel=1e-4)


def test_the_loss_of_each_stage_is_said_to_be_one_over_tiles_unless_logits_are_whole(recwarn):
    class WithImageScore(SegmentationModule):
        def build_metrics(self):
            return MetricCollection({"image_iou": ImageMeanIoU(num_classes=3, ignore_index=VOID)})

    rows, foreign = images("multiclass", (37, 50)), nn.CrossEntropyLoss(ignore_index=VOID)
    module = module_of("multiclass", foreign, **TILE)
    for run in ("validate", "test"):
        scored(module, rows, None, run=run)
    scored(module_of("multiclass", foreign, WithImageScore, **TILE), rows, None)
    said = [str(one.message) for one in recwarn if "images are cut into tiles" in str(one.message)]
    starts = ["val/loss is the mean over", "test/loss is the mean over", "their logits are kept whole"]
    assert [start in line for start, line in zip(starts, said, strict=True)] == [True] * 3


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("run", ["test", "validate"])
@pytest.mark.parametrize("cls", [SegmentationModule, Whole])
def test_images_that_stay_as_they_lie_in_their_files_score_as_floats(kind, run, cls):
    rows, top = images("multiclass", (37, 50)), torch.iinfo(kind).max
    small = [{**row, "image": (top * row["image"]).int().to(kind)} for row in rows]
    of_floats = [{**row, "image": row["image"].float() / top} for row in small]
    scores = []
    for given, above in ((small, 16), (of_floats, None)):
        loader = DataLoader(given, 2, collate_fn=partial(collate, small_masks=True, small_above=above))
        batch = next(iter(loader))
        assert (batch["image"].dtype == kind) == (above is not None)
        module = module_of("multiclass", cls=cls, **TILE)
        assert module.unpack(batch)[0].dtype == torch.float32
        scores.append(getattr(trainer(), run)(module, loader, verbose=False)[0])
    assert scores[0] == scores[1]


def test_images_that_fit_into_a_tile_or_that_a_module_unpacks_itself_are_floats(tmp_path):
    class Own(SegmentationModule):
        def unpack(self, batch):
            return super().unpack(batch)

    write_folder(tmp_path, {"train": 1, "val": 1, "test": 1}, size=(40, 30))
    data = FolderDataModule(tmp_path, 3, ignore_index=255, val_fraction=0.3, test_fraction=0.3, seed=0, batch_size=1)
    for cls, tile, kind in (
        (SegmentationModule, 32, torch.uint8),
        (SegmentationModule, [32, 48], torch.float32),
        (SegmentationModule, None, torch.float32),
        (Own, 32, torch.float32),
    ):
        runner = trainer()
        runner.test(module_of("multiclass", cls=cls, tile=tile, margin=tile and 2), data, verbose=False)
        assert next(iter(runner.test_dataloaders))["image"].dtype == kind
