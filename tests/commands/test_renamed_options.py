"""Options that were renamed keep their old name for one release."""

import pytest
from hydra import compose, initialize_config_module

from lightning_seg.commands.renamed_options import with_current_names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("experiment=few_shot", "experiment=few_labels"),
        ("+experiment=few_shot", "+experiment=few_labels"),
        ("augment=turns", "augment=d4"),
        ("augment=light,turns", "augment=light,d4"),
        ("callbacks.costs=null", "callbacks.resource_usage=null"),
        ("~callbacks.costs", "~callbacks.resource_usage"),
        ("callbacks.costs.path=b.json", "callbacks.resource_usage.path=b.json"),
    ],
)
def test_an_old_name_is_replaced_with_one_line(
    old: str, new: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/lightning-seg-train"])
    assert with_current_names([old]) == [new]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lightning-seg-train: {old} is now {new};")
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        compose("train", [new.replace("light,d4", "d4").removeprefix("+")])


@pytest.mark.parametrize(
    "argument",
    ["loss=dice", "callbacks=[default,ema]", "run=few_shot", "-m", "callbacks.costs_of_mine.a=1", "seed=0,1"],
)
def test_everything_else_stays_as_it_was_typed(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_current_names([argument]) == [argument]
    assert capsys.readouterr().err == ""
