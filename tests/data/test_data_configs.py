from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_seg.data import FolderDataModule, ShapesDataModule

CONF = Path(__file__).parents[2] / "conf"


def composed(data: str, augment: str, **values: Any) -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", [f"data={data}", f"augment={augment}"])
    config.data.update(values)
    return config


def configured(data: str, augment: str, **values: Any) -> Any:
    return instantiate(composed(data, augment, **values).data)


@pytest.mark.parametrize("augment", ["none", "light", "strong", "d4"])
def test_shapes_give_batches_with_every_augmentation(augment: str) -> None:
    data = configured("shapes", augment, num_train=4, num_val=1, num_test=1, batch_size=4)
    data.setup()
    assert isinstance(data, ShapesDataModule)
    assert (data.augment is None) == (augment == "none")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 96, 96)
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 2, 3, 4, 5, 255}


def test_shapes_may_be_binary() -> None:
    data = configured("shapes", "light", num_classes=1, class_names=["object"], num_train=4, num_val=1, num_test=1)
    data.setup()
    assert set(next(iter(data.val_dataloader()))["mask"].unique().tolist()) == {0, 1, 255}


def test_folder_takes_its_values_from_its_file(tmp_path: Path) -> None:
    data = configured("folder", "light", root=str(tmp_path), num_classes=2, color_table=[[0, 0, 0], [255, 255, 255]])
    assert isinstance(data, FolderDataModule)
    assert (data.seed, data.color_table) == (0, [[0, 0, 0], [255, 255, 255]])


def test_strong_augmentation_asks_for_an_ignore_index(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"set data\.ignore_index"):
        configured("folder", "strong", root=str(tmp_path), num_classes=2)


def test_any_torchvision_transform_may_take_the_place(tmp_path: Path) -> None:
    transforms = [{"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 1.0}]
    config = composed("shapes", "none", num_train=1, num_val=1, num_test=1)
    config.data.augment = {"_target_": "torchvision.transforms.v2.Compose", "transforms": transforms}
    data = instantiate(config.data)
    data.setup()
    flipped = data.train_set[0]
    data.train_set.augment = None
    assert flipped["mask"].equal(data.train_set[0]["mask"].flip(-1))


@pytest.mark.parametrize("data", ["folder", "shapes"])
def test_keys_that_all_data_share_stand_in_one_file(data: str) -> None:
    shared = set(OmegaConf.load(CONF / "data/shared.yaml"))
    assert shared.isdisjoint(OmegaConf.load(CONF / f"data/{data}.yaml"))
    assert shared <= set(composed(data, "light").data)


def test_a_folder_must_be_given() -> None:
    with pytest.raises(Exception, match=r"data\.root is not given.*data\.root=FOLDER"):
        configured("folder", "light", num_classes=2)
