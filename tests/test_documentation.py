"""The READMEs, the docstrings and the notebooks are one site."""

import re
import warnings
from pathlib import Path

import pytest
from pdoc import docstrings

import lightning_seg.losses
from tests import site
from tests.readmes import READMES, ROOT

LINK = re.compile(r'<a [^>]*href="([^"#?]*)(?:#[^"]*)?"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        site.build(folder, source=False)  # a third of the time, of which no page or link is made
    return folder


@pytest.mark.slow
def test_the_site_has_a_page_for_each_part_of_the_package_each_guide_and_each_notebook(folder: Path) -> None:
    parts = {path.stem for path in (ROOT / "lightning_seg").glob("[a-z]*") if path.suffix == ".py" or path.is_dir()}
    on_the_first_page = {"checkpoint", "module"}
    pages = {str(page.relative_to(folder).with_suffix("")).replace("/", ".") for page in folder.rglob("*.html")}
    assert {f"lightning_seg.{part}" for part in parts - on_the_first_page} <= pages
    assert {f"notebooks.{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")} <= pages
    assert {"index", "start", "configuration", "contributing", "changelog"} <= pages
    first = (folder / "lightning_seg.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in first for name in lightning_seg.__all__)
    losses = (folder / "lightning_seg" / "losses.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in losses for name in lightning_seg.losses.__all__)
    assert "<code>focal_tversky</code>" in losses  # of the README's table
    assert losses.count('src="data:image/png') == 1
    assert (folder / "notebooks/01_losses.html").read_text(encoding="utf-8").count('src="data:image/png') > 5


@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_page_of_it(folder: Path) -> None:
    for page in folder.rglob("*.html"):
        links = {link for link in LINK.findall(page.read_text(encoding="utf-8")) if link and not set(":$") & set(link)}
        assert [link for link in links if not (page.parent / link).is_file()] == [], page


@pytest.mark.slow
def test_the_site_is_searched_by_words_of_readmes_and_notebooks_and_holds_no_picture_twice(folder: Path) -> None:
    index = (folder / "search.js").read_text(encoding="utf-8")
    assert all(name in index for name in ("FocalTverskyLoss", "from one CPU to a cluster", "notebooks.05_loss_study"))
    assert "data:image/png;base64" not in index


@pytest.mark.parametrize("readme", [*READMES[1:], ROOT / "conf" / "README.md"], ids=lambda readme: readme.parent.name)
def test_pdoc_finds_the_readme_that_a_docstring_includes(readme: Path) -> None:
    source = readme.parent / "__init__.py"
    docstring = source.read_text(encoding="utf-8").split('"""')[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = docstrings.convert(docstring, "google", source)
    assert readme.read_text(encoding="utf-8").splitlines()[0] in text
    assert ".. include::" not in text


def test_formulas_keep_the_characters_that_markdown_takes_for_its_own() -> None:
    assert site.escaped_formulas(r"a_b $p_y \cdot q_y$ `$p_y$`") == r"a_b $p\_y \\cdot q\_y$ `$p_y$`"


def test_a_link_to_a_file_without_a_page_is_refused() -> None:
    assert site.relinked("[conf](../../conf/README.md#data)", ROOT / "lightning_seg/data/README.md", "a.b") == (
        "[conf](../configuration.html#data)"
    )
    with pytest.raises(ValueError, match=r"links to pyproject\.toml, which has no page"):
        site.relinked("[x](pyproject.toml)", ROOT / "README.md", "start")
