import pytest
from hydra import compose, initialize_config_module

from lightning_seg.commands.renamed import with_current_names

RENAMED = {
    "augment=turns": "augment=d4",
    "augment=turns,light": "augment=d4,light",
    "augment=light,turns": "augment=light,d4",
    "augment.dihedral=0.5": "augment.d4=0.5",
    "callbacks.costs=null": "callbacks.resource_usage=null",
    "~callbacks.costs": "~callbacks.resource_usage",
    "data.unlabelled_per_image=2": "data.unlabeled_per_image=2",
    "experiment=few_shot": "experiment=few_labels",
}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_works_with_a_warning(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_current_names(["seed=1", old]) == ["seed=1", new]
    assert "; the old name will be removed in the next release" in capsys.readouterr().err
    if "," not in new:
        with initialize_config_module("lightning_seg.conf", version_base="1.3"):
            compose("train", [new])


@pytest.mark.parametrize("argument", ["augment=turnstile", "callbacks.costs_of_mine=1", "run=augment=turns"])
def test_other_names_stay_as_they_are(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_current_names([argument]) == [argument]
    assert capsys.readouterr().err == ""
