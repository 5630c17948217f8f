"""The docstrings are the reference, which pdoc builds."""

import warnings
from pathlib import Path

import pytest

import lightning_seg.losses
from tests import site

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_reference_of_the_whole_package_builds_without_a_warning(tmp_path: Path) -> None:
    assert "`python -m tests.site reference`" in (ROOT / "README.md").read_text(encoding="utf-8")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        site.build(tmp_path)

    parts = {path.stem for path in (ROOT / "lightning_seg").glob("[a-z]*") if path.suffix == ".py" or path.is_dir()}
    on_the_first_page = {"checkpoint", "module"}
    pages = {str(page.relative_to(tmp_path).with_suffix("")).replace("/", ".") for page in tmp_path.rglob("*.html")}
    assert {f"lightning_seg.{part}" for part in parts - on_the_first_page} <= pages
    first = (tmp_path / "lightning_seg.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in first for name in lightning_seg.__all__)
    losses = (tmp_path / "lightning_seg" / "losses.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in losses for name in lightning_seg.losses.__all__)
