"""The docstrings are the reference, which pdoc builds."""

import re
import shlex
import tomllib
import warnings
from pathlib import Path

import pdoc

import lightning_seg.losses

ROOT = Path(__file__).parents[1]


def test_the_command_of_the_readme_builds_the_reference_of_the_whole_package_without_a_warning(tmp_path: Path) -> None:
    (command,) = re.findall(r"`python -m pdoc (.*?)`", (ROOT / "README.md").read_text())
    head, names = re.fullmatch(r"(.*)\{(.*)\}", command).groups()  # type: ignore[union-attr]
    arguments = shlex.split(head)
    assert arguments[:4] == ["--docformat", "google", "--output-directory", "reference"]
    modules = [arguments[4], *(arguments[5] + name for name in names.split(","))]

    pdoc.render.configure(docformat="google")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        pdoc.pdoc(*modules, output_directory=tmp_path)

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    pages = {str(page.relative_to(tmp_path).with_suffix("")).replace("/", ".") for page in tmp_path.rglob("*.html")}
    assert set(packages) - {"lightning_seg.conf"} <= pages
    losses = (tmp_path / "lightning_seg" / "losses.html").read_text()
    assert all(f'id="{name}"' in losses for name in lightning_seg.losses.__all__)
