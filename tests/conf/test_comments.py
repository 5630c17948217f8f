"""Every file of conf/ says what it is, and every option what it does."""

import re
from pathlib import Path

import pytest

from tests.conf_readme import MACHINE

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(str(path.relative_to(CONF)) for path in {*CONF.rglob("*.yaml")} - {MACHINE})


def test_all_groups_are_looked_at() -> None:
    assert {Path(name).parts[0] for name in FILES if "/" in name} == {p.name for p in CONF.iterdir() if p.is_dir()} - {
        "__pycache__"
    }


@pytest.mark.parametrize("name", FILES)
def test_every_option_has_a_comment_and_every_file_a_heading(name: str) -> None:
    lines = (CONF / name).read_text(encoding="utf-8").splitlines()
    heading = next(line for line in lines if not line.startswith("# @package"))
    assert heading.startswith("# ")
    options = [line for line in lines if re.match(r"\s*[^\s#-][^#]*:(\s|$)", line)]
    assert [line for line in options if " # " not in line and not line.startswith("defaults:")] == []
