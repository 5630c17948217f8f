"""What the wheel holds."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_room_is_in_the_wheel_once() -> None:
    rooms = [path.parent.relative_to(ROOT) for path in (ROOT / "lightning_seg").rglob("__init__.py")]
    assert sorted(SETUPTOOLS["packages"]) == sorted([".".join(room.parts) for room in rooms] + ["lightning_seg.conf"])


def test_the_readmes_that_docstrings_include_and_their_pictures_are_in_the_wheel() -> None:
    data = SETUPTOOLS["package-data"]
    assert data["*"] == ["README.md"]
    for picture in (ROOT / "lightning_seg").rglob("*.png"):
        package = ".".join(picture.parent.relative_to(ROOT).parts)
        assert picture.name in data[package]
