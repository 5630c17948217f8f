import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_seg.commands.paths import with_quoted_paths
from tests.commands.test_evaluate_and_predict import TRAIN
from tests.console import Run


@pytest.mark.parametrize("path", ["runs/loss=ce,seed=0/best.ckpt", 'my "photos" [1]', "a b", "~/x", "C:\\x"])
def test_hydra_reads_the_path_that_was_typed(path: str) -> None:
    (argument,) = with_quoted_paths([f"input={path}"])
    assert OverridesParser.create().parse_override(argument).value() == path


@pytest.mark.parametrize(
    "argument", ["input='a b'", 'output="a=b"', "trainer=cpu", "output=null", "trusted=[a,b]", "-m"]
)
def test_all_else_is_left_as_it_is(argument: str) -> None:
    assert with_quoted_paths([argument]) == [argument]


@pytest.mark.slow
def test_the_checkpoint_of_a_run_named_by_its_choices_is_evaluated_and_predicts(run: Run, folder) -> None:
    run(*(argument for argument in TRAIN if not argument.startswith("run=")))
    (made,) = folder.glob("runs/*")
    assert "=" in made.name
    assert "," in made.name
    checkpoint = f"checkpoint=runs/{made.name}/checkpoints/best.ckpt"
    run("lightning-seg-evaluate", checkpoint, "output=scores.csv")
    assert (folder / "scores.csv").read_text() == (made / "test.csv").read_text()
    (folder / "my images").mkdir()
    (folder / "my_images/test/images/0.jpg").rename(folder / "my images/0.jpg")
    run("lightning-seg-predict", checkpoint, "input=my images", "output=masks, all")
    assert (folder / "masks, all/0.png").is_file()
