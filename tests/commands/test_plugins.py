"""What a sweep needs besides the package is an extra, and says so where it is missing."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.plugins import Plugins
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from omegaconf import DictConfig

from lightning_seg.commands.plugins import register_plugins
from lightning_seg.sweeps.search import SearchSweeper

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALL = r'pip install "lightning-seg\[search\]"\.$'


def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def test_optuna_and_joblib_are_an_extra_that_the_tests_have() -> None:
    core, extras = PROJECT["dependencies"], PROJECT["optional-dependencies"]
    assert not [name for name in core if "optuna" in name or "joblib" in name]
    assert [name.partition(">")[0] for name in extras["search"]] == ["optuna", "hydra-joblib-launcher"]
    (ours,) = [name for name in extras["test"] if name.startswith("lightning-seg[")]
    assert {"cluster", "search"} <= set(ours[ours.index("[") + 1 : -1].split(","))


def test_the_options_of_the_launcher_of_processes_are_its_own() -> None:
    assert dict(composed("launcher=joblib").hydra.launcher) == asdict(JobLibLauncherConf())


def test_a_launcher_and_a_search_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    register_plugins()
    known, target = Plugins.instance().class_name_to_class, JobLibLauncherConf._target_
    assert known[target].__name__ == "JoblibLauncher"
    monkeypatch.delitem(known, target)
    register_plugins()
    with pytest.raises(ValueError, match=f"^launcher=joblib needs hydra-joblib-launcher: {INSTALL}"):
        known[target](n_jobs=2)
    search = composed("sweep=small").hydra.sweeper
    options = {name: search[name] for name in search if not name.startswith("_")}
    assert SearchSweeper(**options).n_trials == 4
    monkeypatch.setattr("lightning_seg.sweeps.search.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"^a search needs Optuna: {INSTALL}"):
        SearchSweeper(**options)
