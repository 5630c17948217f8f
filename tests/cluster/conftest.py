"""Commands on a SLURM that lives as long as the tests."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lightning_seg.commands.console import train as main
from tests.cluster.slurm import Slurm, slurm, why_not
from tests.forkserver import launch_copies
from tests.readmes import LINES

SMALL = (
    *("~backbone", "+backbone={_target_:tests.runs.network.small_network}"),
    *("data.num_train=8", "data.num_val=2", "data.num_test=2", "data.image_size=32", "data.batch_size=2"),
    *("trainer.max_epochs=2", "callbacks=no_pictures", "callbacks.details=null"),
)
ROOT = Path(__file__).parents[2]

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cluster(programs: Path) -> Iterator[Slurm]:
    """SLURM, with this environment's commands and the tests' callbacks; the tests are skipped where it is missing."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with slurm() as running:
        environment = running.environment
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        environment["PYTHONPATH"] = str(ROOT)
        environment["OMP_NUM_THREADS"] = "1"
        yield running


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of these tests are, so that one can be compared with another."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="session")
def alone(folder: Path) -> Path:
    """A run on two processes that the command itself has started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["lightning-seg-train", "trainer=ddp_sim", "run=alone", *SMALL])
        patch.setattr("lightning_seg.launch.processes.elastic_launch", launch_copies)
        main()
    return folder / "runs" / "alone"


@pytest.fixture
def call(cluster: Slurm, folder: Path) -> Call:
    """Runs a command line, followed by the arguments of a small training; what it printed and how it ended."""

    def run(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*line.split(), *SMALL, *arguments],
            cwd=folder,
            env=cluster.environment,
            timeout=300,
            capture_output=True,
            text=True,
        )

    return run


def from_readme(first: str) -> str:
    """The line of the READMEs that starts with this, which no other does."""
    (line,) = [line for line in LINES if line.startswith(first)]
    return line


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The weights with which a run ended."""
    state: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
