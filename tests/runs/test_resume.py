import csv
import os
import random
import signal
import time
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_seg.commands import train
from lightning_seg.runs.contents import read_result
from lightning_seg.runs.folder import checkpoint_to_resume
from tests.callbacks.test_last_checkpoint import check_equal
from tests.console import Run
from tests.forkserver import forkserver
from tests.runs.starting import call

NETWORK = ["~backbone", "+backbone={_target_:tests.runs.network.small_network}"]
DATA = ["data.num_train=16", "data.num_val=3", "data.num_test=2", "data.image_size=32", "data.batch_size=2"]
# Pictures and details of the test are no part of what is resumed.
SMALL = [*NETWORK, *DATA, "trainer.accelerator=cpu", "trainer.max_epochs=3", "callbacks=no_pictures"]
SMALL += ["callbacks.details=null", "callbacks.confusion=null", "callbacks.progress=null"]
STEPS = 8  # an epoch in one process
TWO = ["trainer=ddp_sim", "trainer.max_epochs=2", "data.num_train=12", "data.batch_size=1"]
STEPS_OF_TWO = 6
Start = Callable[..., BaseProcess]


def start_in(folder: Path, *arguments: str) -> BaseProcess:
    """Starts the command, in a process that has torch and the package imported already."""
    process = forkserver().Process(target=call, args=(folder, [*SMALL, *arguments]))
    process.start()
    return process


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the command in the test's folder."""
    return partial(start_in, tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run with some options that was not interrupted, and that loaded its images itself."""

    @cache
    def train(*options: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        assert wait(start_in(folder, "run=whole", "data.num_workers=0", *options)) == 0
        return folder / "runs/whole"

    return train


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two processes that was not interrupted."""
    folder = tmp_path_factory.mktemp("two")
    assert wait(start_in(folder, "run=whole", *TWO)) == 0
    return folder / "runs/whole"


def wait(process: BaseProcess) -> int | None:
    process.join(timeout=300)
    assert not process.is_alive()
    return process.exitcode


def signal_at(hook: str, epoch: int, batch: int, signum: int = signal.SIGTERM, **options: Any) -> str:
    values = {"hook": hook, "epoch": epoch, "batch": batch, "signum": int(signum), **options}
    written = ",".join(f"{name}:{value}" for name, value in values.items())
    # In the place of a callback that only watches, without which a run is the same and may be resumed.
    return f"+callbacks.model_summary={{_target_:tests.callbacks.stopping.Signal,{written}}}"


def curves(run: Path) -> list[dict[str, str]]:
    with (run / "curves.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check_same_run(one: Path, other: Path) -> None:
    assert curves(one) == curves(other)
    assert (one / "test.csv").read_text() == (other / "test.csv").read_text()
    last = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (one, other)]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "training_state"):
        check_equal(last[0][key], last[1][key])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "chosen"),
    [
        (0, ["loss=focal_dice"]),
        (2, ["loss=focal_dice"]),
        (2, ["experiment=few_labels", "data.train_limit=4", "data.train_repeats=4"]),
    ],
)
def test_a_run_that_a_signal_interrupted_resumes_to_the_same_weights(
    start: Start, tmp_path: Path, whole: Callable[..., Path], workers: int, chosen: list[str]
) -> None:
    options = [f"data.num_workers={workers}", *chosen]
    assert wait(start("run=cut", *options, signal_at("on_train_batch_start", 1, 2))) == 128 + signal.SIGTERM
    log = (tmp_path / "log").read_text()
    (line,) = [line for line in log.splitlines() if line.startswith("lightning-seg-train: ")]
    assert "interrupted by SIGTERM" in line
    assert f"holds step {STEPS + 3}; the same command with resume=auto resumes" in line
    assert "Traceback" not in log
    assert wait(start("run=cut", *options, "resume=auto")) == 0
    check_same_run(whole(*chosen), tmp_path / "runs/cut")


@pytest.mark.slow
def test_processes_stop_at_the_same_step_and_resume_together(start: Start, tmp_path: Path, two_processes: Path) -> None:
    """Again and again: what they resumed with is seen where they stop next, and in the end."""
    in_validation = ("on_validation_batch_start", 1, 0)
    stops = [
        (signal_at("on_train_batch_start", 1, 2, rank=1), 128 + signal.SIGTERM, STEPS_OF_TWO + 3),
        # A signal that the process is left to handle, after its children have ended, is a negative exit code.
        (signal_at(*in_validation, signal.SIGUSR1, to_parent=True), -signal.SIGUSR1, 2 * STEPS_OF_TWO),
        (signal_at(*in_validation, signal.SIGINT, to_parent=True), 128 + signal.SIGINT, 2 * STEPS_OF_TWO),
    ]
    for stop, code, step in stops:
        assert wait(start("run=cut", *TWO, "resume=auto", stop)) == code
        assert torch.load(tmp_path / "runs/cut/checkpoints/last.ckpt", weights_only=True)["global_step"] == step
        log = (tmp_path / "log").read_text()
        assert f"holds step {step}; the same command" in log
        assert "Traceback" not in log
        (tmp_path / "log").unlink()
    assert wait(start("run=cut", *TWO, "resume=auto")) == 0
    check_same_run(two_processes, tmp_path / "runs/cut")


@pytest.mark.slow
def test_a_run_survives_the_end_of_each_of_its_processes(start: Start, tmp_path: Path, two_processes: Path) -> None:
    checkpoints = tmp_path / "runs/killed/checkpoints"
    options = [*TWO, "run=killed", "resume=auto", "callbacks.last.every_minutes=0"]
    for victim in range(3):
        process, begun = start(*options), time.time()
        while process.is_alive() and not written_since(begun, checkpoints):
            time.sleep(0.01)
        assert process.pid is not None
        members = [process.pid, *ranks(process.pid)]
        assert len(members) == 3
        os.kill(members[victim], signal.SIGKILL)
        assert wait(process) not in (0, None)
        while any(is_running(pid) for pid in members):
            time.sleep(0.05)
        for path in checkpoints.glob("[!.]*.ckpt"):  # a name with a dot is a file that was being written
            assert torch.load(path, weights_only=True)["state_dict"]
    assert wait(start(*options)) == 0
    check_same_run(two_processes, checkpoints.parent)


def ranks(pid: int) -> list[int]:
    """The processes that a process has started to train in."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_job_that_slurm_starts_again_resumes_with_its_run(
    run: Run, fails: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["run=one", "trainer.max_epochs=2"]
    assert wait(start(*options, signal_at("on_train_batch_start", 1, 1))) == 128 + signal.SIGTERM
    monkeypatch.chdir(tmp_path)
    assert "resume=auto" in fails("lightning-seg-train", *SMALL, *options)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run("lightning-seg-train", *SMALL, *options)
    assert [row["step"] for row in curves(tmp_path / "runs/one")] == [str(STEPS * epoch) for epoch in (1, 2)]


@pytest.mark.slow
def test_a_run_survives_twenty_kills_at_random_moments(start: Start, tmp_path: Path) -> None:
    options = ["trainer.max_epochs=10", "data.batch_size=1"]  # far longer than twenty times the moments
    assert wait(start("run=whole", *options)) == 0
    moments = random.Random(0)
    checkpoints = tmp_path / "runs/killed/checkpoints"
    killed = [*options, "run=killed", "resume=auto", "callbacks.last.every_minutes=0"]
    for kill in range(20):
        process = start(*killed)
        begun = time.time()
        # Most once the training is under way, the others before.
        while kill % 4 and process.is_alive() and not written_since(begun, checkpoints):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        assert process.is_alive(), f"the run ended before it could be killed {20 - kill} more times"
        process.kill()
        process.join()
        for path in checkpoints.glob("[!.]*.ckpt"):  # a name with a dot is a file that was being written
            assert torch.load(path, weights_only=True)["state_dict"]
        assert not checkpoints.exists() or checkpoint_to_resume(checkpoints.parent) or not any(checkpoints.iterdir())
    assert read_result(tmp_path / "runs/killed") is None
    assert wait(start(*killed)) == 0
    check_same_run(tmp_path / "runs/whole", tmp_path / "runs/killed")
    assert not list(checkpoints.glob(".*"))

    before = {path: path.stat().st_mtime_ns for path in checkpoints.parent.rglob("*")}
    assert wait(start(*killed)) == 0
    assert "has finished" in (tmp_path / "log").read_text()
    assert {path: path.stat().st_mtime_ns for path in checkpoints.parent.rglob("*")} == before


def written_since(moment: float, checkpoints: Path) -> bool:
    last = checkpoints / "last.ckpt"
    return last.exists() and last.stat().st_mtime > moment


def test_a_run_whose_last_checkpoint_is_damaged_or_gone_ends_with_a_clear_line(tmp_path: Path) -> None:
    assert checkpoint_to_resume(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    last, best = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    torch.save({"state_dict": {}}, best)
    with pytest.raises(ValueError, match=r"has checkpoints/best\.ckpt and no checkpoints/last\.ckpt"):
        checkpoint_to_resume(tmp_path)
    training = {"epoch": 0, "global_step": 1, "pytorch-lightning_version": "2.6.0", "loops": {}, "callbacks": {}}
    state = {"state_dict": {"weight": torch.zeros(1000)}, "optimizer_states": [], "lr_schedulers": []}
    torch.save({**training, **state}, last)
    assert checkpoint_to_resume(tmp_path) == last
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 255
    last.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt: damaged, .* the best weights are in .*best\.ckpt\. Remove both"):
        checkpoint_to_resume(tmp_path)


@pytest.mark.slow
def test_a_signal_in_the_test_leaves_the_training_done(start: Start, tmp_path: Path) -> None:
    options = ["run=one", "trainer.max_epochs=1"]
    assert wait(start(*options, signal_at("on_test_batch_end", 1, 0))) == 128 + signal.SIGTERM
    written = (tmp_path / "runs/one/curves.csv").stat().st_mtime_ns
    assert read_result(tmp_path / "runs/one") is None
    assert wait(start(*options, "resume=auto")) == 0
    assert (tmp_path / "runs/one/curves.csv").stat().st_mtime_ns == written
    assert read_result(tmp_path / "runs/one") is not None


@pytest.mark.slow
def test_a_run_has_one_name_for_its_loggers(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def note(function: Callable[..., float], config: dict[str, Any]) -> float:
        names.append(config["logger"]["id"])
        assert config["logger"]["resume"] == "allow"
        (Path(config["folder"]) / "checkpoints").mkdir(exist_ok=True)
        return 0.0

    monkeypatch.setattr(train, "run_on_processes", note)
    for arguments in (["run=one"], ["run=one", "resume=auto"], ["run=two"]):
        run("lightning-seg-train", *SMALL, "logger=wandb", *arguments)
    assert names[0] == names[1] != names[2]
