"""The docstrings are the reference, which pdoc builds."""

import re
import shlex
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

    parts = {path.stem for path in (ROOT / "lightning_seg").glob("[a-z]*") if path.suffix == ".py" or path.is_dir()}
    on_the_first_page = {"checkpoint", "module"}
    pages = {str(page.relative_to(tmp_path).with_suffix("")).replace("/", ".") for page in tmp_path.rglob("*.html")}
    assert {f"lightning_seg.{part}" for part in parts - on_the_first_page} <= pages
    losses = (tmp_path / "lightning_seg" / "losses.html").read_text()
    assert all(f'id="{name}"' in losses for name in lightning_seg.losses.__all__)
