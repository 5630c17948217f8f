"""The pictures of the READMEs are those that `python -m tests.pictures` makes."""

import re
from pathlib import Path

import matplotlib.image
import pytest

from tests import pictures
from tests.readmes import READMES

ROOT = pictures.ROOT


def test_every_picture_of_a_readme_is_made_by_the_command_and_is_there() -> None:
    shown = {
        (readme.parent / link).resolve().relative_to(ROOT).as_posix()
        for readme in READMES
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme.read_text(encoding="utf-8"))
    }
    assert shown == {place for place, _ in pictures.PICTURES.values()}
    for place in shown:
        assert matplotlib.image.imread(ROOT / place).shape[1] > 500


def test_the_picture_of_gradients_is_the_one_that_is_committed(tmp_path: Path) -> None:
    pictures.main(["gradients"], tmp_path)
    place = pictures.PICTURES["gradients"][0]
    made, committed = matplotlib.image.imread(tmp_path / place), matplotlib.image.imread(ROOT / place)
    # Fonts and antialiasing differ between versions of matplotlib, not what is drawn.
    assert made.shape == committed.shape
    assert abs(made - committed).mean() < 0.02


def test_an_unknown_picture_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pictures.main(["few_cats"])
    assert "few_cats: choose from predictions, gradients" in capsys.readouterr().err
