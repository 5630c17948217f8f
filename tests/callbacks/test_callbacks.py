import csv
import math
from itertools import pairwise

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import EpochCurves, PredictionPictures, StoredConfig
from lightning_seg.callbacks.evenly_spaced import evenly_spaced_indices
from lightning_seg.losses import CrossEntropyLoss

PALETTE = [(0, 0, 0), (200, 10, 20)]


class Tiny(lightning.LightningModule):
    task = "multiclass"

    def __init__(self):
        super().__init__()
        self.network = nn.Conv2d(3, 2, 1)
        self.forwards = 0

    def unpack(self, batch):
        return batch

    def forward(self, image, size=None):
        self.forwards += len(image)
        return self.network(image)

    def predict_logits(self, image, size=None):
        return self(image, size)

    def predict_labels(self, logits):
        return logits.argmax(1)

    def training_step(self, batch, index):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_epoch_end(self):
        self.log("train/iou", 100.0 + self.current_epoch)
        if self.current_epoch == 1:
            self.log("train/late", math.nan)

    def validation_step(self, batch, index):
        self.log("val/iou", float(self.current_epoch))

    def test_step(self, batch, index):
        pass

    def configure_optimizers(self):
        groups = [{"params": [self.network.weight], "lr": 0.01}, {"params": [self.network.bias], "lr": 0.5}]
        optimizer = torch.optim.SGD(groups)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def loader(count=4, size=(4, 6), batch_size=2):
    torch.manual_seed(0)
    data = [(torch.rand(3, *size), torch.randint(0, 2, size)) for _ in range(count)]
    return DataLoader(data, batch_size=batch_size)


def trainer(folder, *callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    options = quiet | {"enable_checkpointing": keeps, "default_root_dir": folder, "log_every_n_steps": 1} | options
    return lightning.Trainer(callbacks=list(callbacks), **options)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(path, name):
    return [row[name] for row in rows(path)]


def test_curves_hold_every_scalar_of_every_epoch_and_nothing_stale(tmp_path):
    path = tmp_path / "run" / "curves.csv"
    trainer(tmp_path, EpochCurves(path), max_epochs=4, check_val_every_n_epoch=2).fit(Tiny(), loader(), loader())
    assert list(rows(path)[0])[:3] == ["epoch", "step", "learning_rate"]
    assert column(path, "epoch") == ["0", "1", "2", "3"]
    assert column(path, "step") == ["2", "4", "6", "8"]
    assert column(path, "learning_rate") == ["0.5", "0.25", "0.125", "0.0625"]
    assert column(path, "train/iou") == ["100.0", "101.0", "102.0", "103.0"]
    assert column(path, "val/iou") == ["", "1.0", "", "3.0"]
    assert column(path, "train/late") == ["", "nan", "", ""]
    assert all(float(value) > 0 for value in column(path, "train/loss"))
    assert "train/loss_step" not in rows(path)[0]
    assert [file.name for file in path.parent.iterdir()] == ["curves.csv"]


def test_a_resumed_training_keeps_earlier_rows_and_replaces_those_it_repeats(tmp_path):
    path = tmp_path / "curves.csv"
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    trainer(tmp_path, EpochCurves(path), keep, max_epochs=3).fit(Tiny(), loader(), loader())
    before = rows(path)
    before[2]["val/iou"] = "wrong"
    resumed = trainer(tmp_path, EpochCurves(path), max_epochs=4)
    resumed.fit(Tiny(), loader(), loader(), ckpt_path=tmp_path / "epoch=1.ckpt", weights_only=True)
    assert column(path, "epoch") == ["0", "1", "2", "3"]
    assert rows(path)[:2] == before[:2]
    assert column(path, "val/iou") == ["0.0", "1.0", "2.0", "3.0"]


def test_a_new_training_moves_the_curves_of_another_aside(tmp_path):
    path = tmp_path / "curves.csv"
    for _ in range(3):
        trainer(tmp_path, EpochCurves(path), max_epochs=1).fit(Tiny(), loader())
    assert sorted(file.name for file in tmp_path.glob("*.csv")) == ["curves.1.csv", "curves.2.csv", "curves.csv"]


def test_a_checkpoint_holds_the_configuration_as_plain_data(tmp_path):
    config = {"loss": {"_target_": "a.b", "weights": (1, 2.5)}, "root": None, "on": True}
    save = ModelCheckpoint(tmp_path, filename="last")
    trainer(tmp_path, StoredConfig(config), save, max_epochs=1).fit(Tiny(), loader())
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)["lightning_seg"]
    assert content["config"] == {"loss": {"_target_": "a.b", "weights": [1, 2.5]}, "root": None, "on": True}
    assert isinstance(content["version"], str)


@pytest.mark.parametrize("value", [object(), torch.ones(1), {1: 2}, torch.float32, b"bytes"])
def test_a_configuration_that_is_not_data_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"config\.data\[1\]"):
        StoredConfig({"data": [1, value]})


def test_pictures_show_test_images_from_all_over_the_split_and_predict_only_these_again(tmp_path):
    path, module = tmp_path / "new" / "predictions.png", Tiny()
    shades = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8]
    data = [(torch.full((3, 4, 6), shade), torch.zeros(4, 6, dtype=torch.int64)) for shade in shades]
    for _ in range(2):
        module.forwards = 0
        trainer(tmp_path, PredictionPictures(path, PALETTE, ["ground", "tree"], count=3)).test(
            module, DataLoader(data, batch_size=2), verbose=False
        )
        assert module.forwards == 3
    with Image.open(path) as picture:
        # An image of 4 x 6 is drawn 53 times as large.
        assert picture.width == 8 + 4 * (6 * 53 + 8)
        shown = [picture.getpixel((40, 24 + 40 + row * (4 * 53 + 8)))[0] for row in range(3)]
    assert shown == [round(255 * shades[index]) for index in (1, 4, 6)]
    assert [file.name for file in path.parent.iterdir()] == ["predictions.png"]


@pytest.mark.parametrize("count", [1, 2, 6, 7, 100])
def test_evenly_spaced_images_are_different_and_leave_no_long_gap(count):
    indices = evenly_spaced_indices(50, count)
    gaps = [after - before for before, after in pairwise([-1, *indices, 50])]
    assert len(indices) == min(count, 50)
    assert min(gaps) >= 1
    assert max(gaps) <= math.ceil(50 / len(indices)) + 1


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.rand(3, 4, 6), torch.zeros(4, 6, dtype=torch.int64)


UNSHOWN = {
    "a stream": (Stream(), "a Stream is not a map-style data set with a length"),
    "two targets a pixel": (
        [(torch.rand(3, 4, 6), torch.zeros(2, 4, 6, dtype=torch.int64))],
        r"the targets (1, 2, 4, 6) are not labels (1, 4, 6)",
    ),
}


@pytest.mark.parametrize("kind", UNSHOWN)
def test_what_pictures_cannot_show_is_said_and_ends_no_test(tmp_path, caplog, kind):
    data, reason = UNSHOWN[kind]
    path = tmp_path / "predictions.png"
    with caplog.at_level("WARNING", "lightning_seg"):
        trainer(tmp_path, PredictionPictures(path, PALETTE, ["a", "b"])).test(Tiny(), DataLoader(data), verbose=False)
    assert f"{path} is not written: {reason}." in caplog.messages
    assert not path.exists()


def test_pictures_take_the_first_image_of_each_batch_of_a_data_set_of_batches(tmp_path):
    data = [(torch.rand(2, 3, 4, 6), torch.zeros(2, 4, 6, dtype=torch.int64))]
    path = tmp_path / "predictions.png"
    trainer(tmp_path, PredictionPictures(path, PALETTE, ["a", "b"])).test(
        Tiny(), DataLoader(data, batch_size=None), verbose=False
    )
    assert path.exists()


def test_pictures_take_images_of_different_sizes_and_fewer_than_asked(tmp_path):
    data = [(torch.rand(3, 4, size), torch.zeros(4, size, dtype=torch.int64)) for size in (3, 9)]
    path = tmp_path / "predictions.png"
    trainer(tmp_path, PredictionPictures(path, PALETTE, ["a", "b"])).test(
        Tiny(), DataLoader(data, batch_size=1), verbose=False
    )
    assert path.exists()


def test_pictures_draw_several_labels_a_pixel(tmp_path):
    network, loss = nn.Conv2d(3, 2, 1), CrossEntropyLoss(task="multilabel")
    module = SegmentationModule(network, loss, num_classes=2, task="multilabel")
    path = tmp_path / "predictions.png"
    data = DataLoader([(torch.rand(3, 4, 6), torch.randint(2, (2, 4, 6)))])
    trainer(tmp_path, PredictionPictures(path)).test(module, data, verbose=False)
    with Image.open(path) as picture:
        assert picture.width == 8 + 4 * (6 * 53 + 8)


def test_pictures_refuse_a_count_that_shows_nothing(tmp_path):
    with pytest.raises(ValueError, match="count=0"):
        PredictionPictures(tmp_path / "predictions.png", PALETTE, ["a", "b"], count=0)
