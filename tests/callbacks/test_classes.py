"""Callbacks ask module and data module for class names and palette."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_seg.callbacks.classes import class_names_for, palette_for
from lightning_seg.data import default_palette


def trainer(**datamodule: Any) -> Any:
    return SimpleNamespace(datamodule=SimpleNamespace(**datamodule) if datamodule else None)


@pytest.mark.parametrize(
    ("given", "of_module", "of_data", "expected"),
    [
        ("ab", "cd", "ef", "ab"),
        (None, "cd", "ef", "cd"),
        (None, "cd", None, "cd"),
        (None, None, "ef", "ef"),
        (None, "cde", "fg", "fg"),  # a module that predicts more than masks hold
        ("a", "cd", "ef", "a"),
    ],
)
def test_names_are_those_given_of_the_module_or_of_the_data(
    given: str | None, of_module: str | None, of_data: str | None, expected: str
) -> None:
    module: Any = SimpleNamespace(**({} if of_module is None else {"class_names": tuple(of_module)}))
    data = {} if of_data is None else {"class_names": list(of_data)}
    assert class_names_for(trainer(**data), module, given and list(given)) == list(expected)


def test_names_that_nobody_has_are_asked_for() -> None:
    module: Any = SimpleNamespace()
    with pytest.raises(ValueError, match="neither SimpleNamespace nor its data module has class_names"):
        class_names_for(trainer(), module, None)


def test_colors_are_those_given_of_the_data_or_of_pascal_voc_one_for_each_mask_value() -> None:
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    data = trainer(palette=[red, green, blue])
    assert palette_for(data, ["a", "b"], [blue, [1, 2, 3]]) == [blue, (1, 2, 3)]
    assert palette_for(data, ["a", "b"], None) == [red, green]
    assert palette_for(trainer(), ["a"], None) == default_palette(2)  # of the binary task, with background
    with pytest.raises(ValueError, match="the palette has 3 colors for 2 mask values"):
        palette_for(data, ["a"], [red, green, blue])
    with pytest.raises(ValueError, match="the palette has 3 colors for 4 mask values"):
        palette_for(data, list("abcd"), None)
