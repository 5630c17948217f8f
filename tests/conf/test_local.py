"""What belongs to a machine is read where it is, and nowhere else."""

import tomllib
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from lightning_seg.runs.identity import is_place
from tests.console import Run

ROOT = Path(__file__).parents[2]


def composed(*overrides: str) -> DictConfig:
    import lightning_seg.launch.slurm  # noqa: F401  # the resolvers of launcher=slurm

    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@pytest.fixture
def machine(tmp_path: Path) -> str:
    """A folder with the example, filled in."""
    example = OmegaConf.load(ROOT / "conf/local/example.yaml")
    assert all(value is None for value in example.values())
    example.update(data_root=str(tmp_path), partition="short", account="mine")
    (tmp_path / "local").mkdir()
    OmegaConf.save(example, tmp_path / "local/default.yaml")
    return f"hydra.searchpath=[file://{tmp_path}]"


def test_data_partition_and_account_come_from_the_machine(machine: str, tmp_path: Path) -> None:
    config = composed(machine, "data=folder", "launcher=slurm")
    launcher = config.hydra.launcher
    assert (config.data.root, launcher.partition, launcher.account) == (str(tmp_path), "short", "mine")


def test_the_command_line_has_the_last_word(machine: str, tmp_path: Path) -> None:
    config = composed(
        machine, "data=folder", "launcher=slurm", "data.root=${local.data_root}/camvid", "hydra.launcher.partition=long"
    )
    assert (config.data.root, config.hydra.launcher.partition) == (f"{tmp_path}/camvid", "long")


@pytest.mark.skipif((ROOT / "conf/local/default.yaml").exists(), reason="this machine has a file of its own")
def test_without_a_file_nothing_is_assumed() -> None:
    config = composed("data=folder", "launcher=slurm")
    assert "local" not in config
    assert (config.data.root, config.hydra.launcher.partition, config.hydra.launcher.account) == (None, None, None)


def test_the_file_is_ignored_by_git_left_out_of_the_wheel_and_not_what_a_run_is() -> None:
    assert "/conf/local/default.yaml" in (ROOT / ".gitignore").read_text().splitlines()
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert setup["exclude-package-data"] == {"lightning_seg.conf": ["local/default.yaml"]}
    assert is_place("local.data_root")


def test_the_command_reads_it(fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/local").mkdir(parents=True)
    (tmp_path / "mine/local/default.yaml").write_text("data_root: /of/this/machine\npartition: null\naccount: null\n")
    arguments = ["--config-dir", "mine", "data=folder", "data.num_classes=3"]
    assert "data.root=/of/this/machine is not a directory" in fails("lightning-seg-train", *arguments)
