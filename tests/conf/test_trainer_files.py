"""Trainers and loggers are chosen by name."""

from pathlib import Path

import lightning
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig

TRAINERS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "trainer").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_is_built_where_its_devices_are_replaced(name: str, tmp_path: Path) -> None:
    config = composed(
        f"trainer={name}",
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        "trainer.strategy=auto",
        f"folder={tmp_path}",
    )
    trainer = instantiate(config.trainer, logger=False)
    assert isinstance(trainer, lightning.Trainer)
    assert (trainer.max_steps, trainer.limit_train_batches, trainer.limit_test_batches) == (-1, 1.0, 1.0)
    assert (trainer.val_check_interval, trainer.overfit_batches, trainer.fast_dev_run) == (1.0, 0.0, False)


def test_what_people_set_needs_no_plus() -> None:
    trainer = composed(
        "trainer.limit_train_batches=0.5",
        "trainer.max_steps=100",
        "trainer.max_time=00:01:00:00",
        "trainer.val_check_interval=0.25",
        "trainer.profiler=simple",
    ).trainer
    assert (trainer.limit_train_batches, trainer.max_steps, trainer.max_time) == (0.5, 100, "00:01:00:00")


def test_a_csv_logger_writes_into_the_run(tmp_path: Path) -> None:
    logger = instantiate(composed("logger=csv", f"folder={tmp_path}").logger)
    assert isinstance(logger, CSVLogger)
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.save()
    assert (tmp_path / "csv" / "metrics.csv").exists()


def test_mlflow_composes_without_being_installed() -> None:
    assert composed("logger=mlflow").logger._target_ == "lightning.pytorch.loggers.MLFlowLogger"
