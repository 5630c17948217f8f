"""What the wheel holds."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_room_is_in_the_wheel_once() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    rooms = [path.parent.relative_to(ROOT) for path in (ROOT / "lightning_seg").rglob("__init__.py")]
    assert sorted(listed) == sorted([".".join(room.parts) for room in rooms] + ["lightning_seg.conf"])
