"""Many commands of the package: all are run, a finished one's output is kept, a failure ends the others and is told."""

from pathlib import Path

import pytest

from tests.benchmarks.trainings import Command, run_all


def command(name: str, output: Path) -> Command:
    """A training of a moment."""
    tiny = ["data.num_train=2", "data.num_val=1", "data.num_test=1", "data.image_size=32", "data.batch_size=2"]
    quick = ["trainer=cpu", "trainer.max_epochs=1", "callbacks=no_pictures", "trainer.num_sanity_val_steps=0"]
    return Command("train", [f"run={name}", f"runs={output}", *tiny, *quick])


@pytest.mark.slow
def test_the_commands_of_a_step_follow_each_other_and_steps_run_side_by_side(tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    evaluate = Command("evaluate", [f"checkpoint={tmp_path}/first/checkpoints/best.ckpt", f"output={output}"])
    steps = [[command("first", tmp_path), evaluate], [], [command("second", tmp_path)]]
    run_all(steps, 2, tmp_path / "all.log")
    assert output.read_text() == (tmp_path / "first" / "test.csv").read_text()
    assert (tmp_path / "second" / "result.json").is_file()
    assert (tmp_path / "all.log").read_text().count("all of this run is in") == 2


@pytest.mark.slow
def test_a_failure_is_told_and_no_other_training_is_begun(tmp_path: Path) -> None:
    wrong = Command("train", [f"runs={tmp_path}", "loss=dicee"])
    with pytest.raises(SystemExit, match="loss=dicee failed"):
        run_all([[wrong], *([command(str(number), tmp_path)] for number in range(8))], 1, tmp_path / "all.log")
    assert "dicee" in (tmp_path / "all.log").read_text()
    assert not (tmp_path / "7").exists()
