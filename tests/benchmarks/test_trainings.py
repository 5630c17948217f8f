"""Many commands of the package: all are run, a finished one's output is kept, a failure ends the others and is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks.trainings import Command, run_all


def command(name: str, output: Path) -> Command:
    """A training of a moment."""
    tiny = ["data.num_train=2", "data.num_val=1", "data.num_test=1", "data.image_size=32", "data.batch_size=2"]
    quick = ["trainer=cpu", "trainer.max_epochs=1", "callbacks=no_pictures", "trainer.num_sanity_val_steps=0"]
    network = ["+backbone.encoder_depth=3", "backbone.decoder_channels=[16,8,8]"]
    return Command("train", [f"run={name}", f"runs={output}", *tiny, *quick, *network])


@pytest.mark.slow
def test_the_commands_of_a_step_follow_each_other_and_steps_run_side_by_side(tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    evaluate = Command("evaluate", [f"checkpoint={tmp_path}/first/checkpoints/best.ckpt", f"output={output}"])
    steps = [[command("first", tmp_path), evaluate], [], [command("second", tmp_path)]]
    run_all(steps, 2, tmp_path / "all.log")
    assert output.read_text() == (tmp_path / "first" / "test.csv").read_text()
    assert (tmp_path / "second" / "result.json").is_file()
    assert (tmp_path / "all.log").read_text().count("the run is in") == 2


@pytest.mark.slow
def test_a_failure_is_told_and_no_other_training_is_started(tmp_path: Path) -> None:
    wrong = Command("train", [f"runs={tmp_path}", "loss=dicee"])
    with pytest.raises(SystemExit, match="loss=dicee failed"):
        run_all([[wrong], *([command(str(number), tmp_path)] for number in range(8))], 1, tmp_path / "all.log")
    assert "dicee" in (tmp_path / "all.log").read_text()
    assert not (tmp_path / "7").exists()


def processes_with(word: str) -> list[int]:
    """Those whose environment has the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_trainings_end_with_a_study_that_is_killed(tmp_path: Path) -> None:
    arguments = [*command("long", tmp_path).arguments, "trainer.max_epochs=100000"]
    code = (
        "from pathlib import Path; from tests import forkserver; "
        "from tests.benchmarks.trainings import Command, run_all; "
        "forkserver.PRELOADED[:] = ['lightning_seg.commands.train']; "
        f"run_all([[Command('train', {arguments!r})]], 1, Path({str(tmp_path / 'all.log')!r}))"
    )
    mark = f"STUDY={tmp_path}"
    study = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "STUDY": str(tmp_path)})
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "long" / "curves.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(processes_with(mark)) > 1
        study.kill()
        study.wait()
        deadline = time.monotonic() + 30
        while processes_with(mark) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert processes_with(mark) == []
    finally:
        for process in processes_with(mark):
            os.kill(process, signal.SIGKILL)
