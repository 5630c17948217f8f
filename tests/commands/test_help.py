"""What `--help` says, before anything is imported that takes time: see also `tests/test_imports.py`."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lightning_seg.commands.help import help_text
from lightning_seg.schema.options import CONF


def keys(node: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from keys(value, f"{above}{name}.")
        elif f"{above}{name}" != "defaults":
            yield f"{above}{name}", value


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("name", ["train", "inspect", "evaluate", "predict", "export"])
def test_all_options_of_a_command_are_listed_but_hydras_and_those_that_others_set(name: str) -> None:
    path = CONF / f"{name}.yaml"
    lines = help_text(name).splitlines()
    listed = [line[2:].partition("=")[0] for line in lines if line.startswith("  ") and "=" in line[:60]]
    text = path.read_text(encoding="utf-8").splitlines()
    for key, _ in keys(yaml.safe_load("\n".join(text))):
        *above, last = key.split(".")
        start = f"{'  ' * len(above)}{last}: "
        is_set = any(line.startswith(start) and "# set by" in line for line in text)
        assert (key in listed) == (not key.startswith("hydra.") and not is_set), key
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"lightning-seg-{name}: ")


def test_a_choice_names_what_there_is_and_one_that_is_given_lists_its_options() -> None:
    text = help_text("train", ["loss=focal", "optimizer.lr=0.1", "run=../focal", "--help"])
    choice = text[text.index("  loss=ce_dice") : text.index("  optimizer=adamw")]
    assert {"tversky,", "custom,"} <= set(choice.split())
    own = text[text.index("\nloss=focal:") :]
    assert "  loss.gamma=2.0                the higher, the less the pixels count that are right already; 0 is\n" in own
    assert "\nloss=focal:" not in help_text("train")
