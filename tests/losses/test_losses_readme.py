"""The table of all losses in the README of their room."""

import inspect
import re

import pytest

import lightning_seg.data
import lightning_seg.losses
from tests.compositions import of_choice
from tests.readmes import ROOT

README = (ROOT / "lightning_seg/losses/README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", README, re.MULTILINE)


def test_the_table_has_a_row_for_each_file() -> None:
    named = [name for name, *_ in ROWS] + ["custom"]
    assert sorted(named) == sorted(path.stem for path in (ROOT / "conf/loss").glob("*.yaml"))


@pytest.mark.parametrize(("name", "loss", "paper"), [pytest.param(row[0], row[1], row[3], id=row[0]) for row in ROWS])
def test_a_row_names_the_class_that_the_file_builds_and_the_paper_of_its_docstring(
    name: str, loss: str, paper: str
) -> None:
    config = of_choice("loss", name).loss
    assert config._target_ == f"lightning_seg.losses.{loss}"

    terms = config.get("terms") or {}
    targets = [config._target_, *(term._target_ for term in terms.values())]
    parts = [getattr(lightning_seg.losses, target.rpartition(".")[2]) for target in targets]
    if isinstance(config.get("class_weights"), str):
        parts.append(getattr(lightning_seg.data, config.class_weights))
    docstrings = " ".join(" ".join(str(inspect.getdoc(part)).split()) for part in parts)
    (cited,) = re.findall(r"\[(.+?)\]\((.+?)\)", paper)
    assert cited[0] in docstrings
    # That of nnU-Net is named there without its address.
    assert cited[1] in docstrings or cited[0] == "Isensee et al. 2021"


def test_every_loss_of_the_package_has_a_row_or_a_sentence() -> None:
    named = set(re.findall(r"\w+", README))
    assert set(lightning_seg.losses.__all__) - {"Loss"} <= named
