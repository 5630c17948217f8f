"""What of the current folder may be imported: what is asked for, as the folder may come from a stranger."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_seg.commands.own_packages import (
    find_own_packages,
    named_in_composed,
    named_in_config,
    named_in_words,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with modules, of which none is installed but yaml."""
    for name in ("mine.py", "wandb_of_a_stranger.py", "yaml.py", "hydra_plugins_of_a_stranger/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "research").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(
    "word",
    [
        *("backbone._target_=mine.Net", "+callbacks.x={_target_:mine.Thing}", "+callbacks.x={_target_: 'mine.Thing'}"),
        *("hydra.searchpath=[pkg://research.conf]", "hydra.searchpath=[pkg://mine]", '++loss._target_="mine.Loss"'),
    ],
)
def test_what_words_of_the_command_line_name_is_found(folder: Path, word: str) -> None:
    find_own_packages(named_in_words(["data=folder", word]))
    assert sys.path[-1] == str(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": {"_target_": "mine.Net"}},
        {"callbacks": {"a": None, "b": [{"c": {"_target_": "research.parts.Thing"}}]}},
        {"loss": {"f": {"_target_": "hydra.utils.get_method", "path": "mine.function"}}},
    ],
)
def test_what_a_configuration_builds_is_found(folder: Path, config: object) -> None:
    find_own_packages(named_in_config(config))
    assert sys.path[-1] == str(folder)


@pytest.mark.parametrize("other", ["a", "${nothing}"])
def test_what_a_composed_configuration_takes_from_elsewhere_is_found(folder: Path, other: str) -> None:
    parts = {
        "package": "mine",
        "loss": {"_target_": "${package}.Loss"},
        "other": other,
        "net": {"_target_": "mine.Net"},
    }
    names = named_in_composed(OmegaConf.create(parts))
    assert names == (["mine.Loss", "mine.Net"] if other == "a" else ["${package}.Loss", "mine.Net"])
    find_own_packages(names)
    assert sys.path[-1] == str(folder)


@pytest.mark.parametrize(
    "word",
    ["data.root=mine", "data.splits.train=mine.txt", "run=mine", "loss._target_=yaml.Loader", "mine=1", "_target_="],
)
def test_nothing_else_in_the_folder_can_be_imported(folder: Path, word: str) -> None:
    find_own_packages(named_in_words([word]))
    find_own_packages(
        named_in_config({"data": {"_target_": "yaml.Loader", "root": "mine.txt"}, "x": ["mine.y", None, 3]})
    )
    assert str(folder) not in sys.path
