"""What README.md and the READMEs of the rooms say runs."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.console import SCORES_ONLY, SHORT, SMALL, Run
from tests.readmes import CONTRIBUTING, LINES, READMES, ROOT, blocks, without_code
from tests.small_encoder import replace

# Those that start processes in other ways are run in tests/cluster and tests/sweeps.
COMMANDS = [line for line in LINES if line.startswith("lightning-seg-") and " launcher=" not in line]
PYTHON = [(readme, block) for readme in [*READMES, CONTRIBUTING] for block in blocks(readme, "python")]
# The network of the run that is exported, which takes seconds for each of its layers.
ONE_LAYER = [
    *("backbone=custom", "backbone._target_=torch.nn.Conv2d", "backbone.in_channels=3", "backbone.out_channels=3"),
    "backbone.kernel_size=3",
    "backbone.padding=1",
]
# Files that are not a choice by themselves: lists of others, what others have in common, and what is one's own.
LISTS = {"custom", "default", "no_pictures", "none", "shared"}


def in_little_time(arguments: list[str]) -> list[str]:
    """The arguments of a training, with others that let it take a moment."""
    given = {argument.partition("=")[0] for argument in arguments}
    size = [] if {"data=folder", "data=custom", "experiment=plan"} & {*arguments} else SMALL
    length = ["hydra.sweeper.n_trials=2"] if "sweep" in given else []
    if "experiment=few_labels" in arguments:
        length = ["data.train_repeats=2"]
    if "run=mine" in arguments:
        return [*arguments, *SHORT, *ONE_LAYER, "data.num_workers=0"]
    return [*arguments, *SHORT, *size, *length, *([] if "callbacks" in given else SCORES_ONLY)]


def needs_a_run(block: str) -> bool:
    return "runs" in block


@pytest.mark.slow
def test_every_command_of_the_readmes_runs_and_then_the_python_that_needs_their_runs(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, block in PYTHON:
        if match := re.match(r"# (\w+)\.py\n", block):
            (folder / f"{match[1]}.py").write_text(block)
            monkeypatch.delitem(sys.modules, match[1], raising=False)
    replace(monkeypatch, "mobilenet_v2")
    assert len(COMMANDS) >= 15
    for line in COMMANDS:
        command, *arguments = shlex.split(line)
        if command == "lightning-seg-train":
            arguments = in_little_time(arguments)
        if command == "lightning-seg-inspect":
            arguments.append("data.num_workers=0")
        run(command, *arguments)
    assert {path.name for path in (folder / "masks").glob("*.png")} >= {"0.png", "1.png", "2.png", "0_overlay.png"}

    names: dict[Path, dict[str, object]] = {}
    for readme, block in PYTHON:
        if needs_a_run(block):
            exec(block, names.setdefault(readme, {}))
    assert names[ROOT / "README.md"]["labels"].shape == (40, 48)  # type: ignore[attr-defined]
    assert (folder / "comparison.html").is_file()


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=readme.parent.name) for readme, block in PYTHON if not needs_a_run(block)]
)
def test_the_python_of_the_readmes_runs(block: str) -> None:
    exec(block, {"__name__": "readme"})


@pytest.mark.parametrize("readme", [*READMES, CONTRIBUTING, ROOT / "CHANGELOG.md"])
def test_every_link_of_a_readme_leads_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(readme.read_text(encoding="utf-8")))
    local = [link.partition("#")[0] for link in links if not link.startswith(("http", "#"))]
    assert [link for link in local if not (readme.parent / link).exists()] == []


def test_every_room_has_a_readme_which_its_docstring_includes() -> None:
    rooms = {path.parent for path in (ROOT / "lightning_seg").glob("*/__init__.py")}
    listed = {readme.parent for readme in READMES[1:]}
    assert listed == rooms
    for room in listed:
        assert "\n.. include:: README.md\n" in (room / "__init__.py").read_text(encoding="utf-8").split('"""')[1]
        assert f"(lightning_seg/{room.name}/README.md)" in READMES[0].read_text(encoding="utf-8")


def tables() -> list[tuple[Path, str, set[str]]]:
    """Of each table with a column of choices, `group=`: the group and the choices."""
    found = []
    for readme in READMES:
        for table in re.findall(r"(?:^\|.*\n)+", readme.read_text(encoding="utf-8"), re.MULTILINE):
            head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
            for column, cell in enumerate(head):
                if match := re.fullmatch(r"`(\w+)=`", cell):
                    found.append(
                        (readme, match[1], {name for row in rows for name in re.findall("`(.+?)`", row[column])})
                    )
    return found


@pytest.mark.parametrize(
    ("readme", "group", "names"), [pytest.param(*row, id=f"{row[0].parent.name}-{row[1]}") for row in tables()]
)
def test_a_table_of_choices_names_every_file_of_its_group(readme: Path, group: str, names: set[str]) -> None:
    files = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - LISTS
    assert names - {"custom"} == files


def test_contributing_names_every_program_of_the_tests() -> None:
    files = [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests/benchmarks").glob("*.py")]
    programs = {path for path in files if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in programs}
    named = set(re.findall(r"`python -m ([\w.]+)", CONTRIBUTING.read_text(encoding="utf-8")))
    assert named == names - {"tests.benchmarks.worker"}  # which the benchmarks start
