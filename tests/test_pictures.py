"""The pictures of the README are those that `python -m tests.pictures` makes."""

import re
from pathlib import Path

import matplotlib.image
import pytest

from tests import pictures

README = Path(__file__).parents[1] / "README.md"


def test_every_picture_of_the_readme_is_made_by_the_command_and_is_there() -> None:
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())
    assert sorted(shown) == sorted(f"notebooks/{name}.png" for name in pictures.PICTURES)
    for path in shown:
        assert matplotlib.image.imread(README.parent / path).shape[1] > 500


@pytest.mark.parametrize("name", [name for name in pictures.PICTURES if name != "predictions"])
def test_a_picture_of_measurements_is_the_one_that_is_committed(name: str, tmp_path: Path) -> None:
    pictures.main([name], tmp_path)
    made = matplotlib.image.imread(tmp_path / f"{name}.png")
    committed = matplotlib.image.imread(pictures.FOLDER / f"{name}.png")
    # Fonts and antialiasing differ between versions of matplotlib, not what is drawn.
    assert made.shape == committed.shape
    assert abs(made - committed).mean() < 0.02


def test_an_unknown_picture_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pictures.main(["few_cats"])
    assert "few_cats: choose from predictions, few_membrane, few_camvid" in capsys.readouterr().err
