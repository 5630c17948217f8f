"""Trainings whose processes torchrun has started."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL, assert_same_weights, from_readme

pytestmark = pytest.mark.slow


def torchrun(programs: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{programs}:{os.environ['PATH']}"}
    command = [*shlex.split(from_readme("torchrun")), *SMALL, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, timeout=300, capture_output=True, text=True)


def test_processes_of_torchrun_train_one_run_as_those_of_the_command_do(
    programs: Path, tmp_path: Path, alone: Path
) -> None:
    done = torchrun(programs, tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert_same_weights(run, alone)


def test_processes_of_torchrun_that_the_trainer_does_not_ask_for_are_refused(programs: Path, tmp_path: Path) -> None:
    done = torchrun(programs, tmp_path, "trainer.devices=1")
    assert done.returncode != 0
    assert "torchrun started 2, 2 on this node: use trainer.devices=2 trainer.num_nodes=1" in done.stderr
    assert not (tmp_path / "runs").exists()
