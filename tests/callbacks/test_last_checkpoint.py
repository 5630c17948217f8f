import csv
import os
import pickle
import re
import signal
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import EpochCurves, LastCheckpoint, TrainingInterrupted
from lightning_seg.callbacks.interruption import StopSignals, requeue_job
from lightning_seg.callbacks.last_checkpoint import WholeCheckpointIO
from lightning_seg.data import ShapesDataModule, training_augmentation
from lightning_seg.launch.errors import one_line
from lightning_seg.losses import CrossEntropyDiceLoss
from lightning_seg.schedulers import constant, one_cycle, polynomial
from tests.callbacks.stopping import Signal
from tests.file_limit import file_limit

BATCHES = 5


def augmentation() -> Any:
    changes = {"crop_size": 24, "scale": [0.8, 1.2], "rotation": 10, "horizontal_flip": 0.5, "vertical_flip": 0.0}
    colors = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1, "blur": 0.2}
    return training_augmentation(**changes, **colors, ignore_index=255)


def network() -> nn.Module:
    parts = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 6, 1)]
    return nn.Sequential(*parts)


def fit(
    folder: Path,
    *callbacks: lightning.Callback,
    resume: bool = False,
    every_minutes: float | None = None,
    **options: Any,
) -> lightning.Trainer:
    workers, scheduler = options.pop("num_workers", 0), options.pop("scheduler", None)
    torch.manual_seed(0)
    data = ShapesDataModule(
        num_train=2 * BATCHES,
        num_val=3,
        num_test=1,
        image_size=32,
        seed=0,
        batch_size=2,
        ignore_index=255,
        augment=augmentation(),
        num_workers=workers,
    )
    module = SegmentationModule(
        network(), CrossEntropyDiceLoss(ignore_index=255), num_classes=6, ignore_index=255, scheduler=scheduler
    )
    keep = [
        ModelCheckpoint(folder, "best", monitor="val/iou", mode="max", enable_version_counter=False),
        LastCheckpoint(folder / "last.ckpt", every_minutes),
    ]
    trainer = lightning.Trainer(
        **{"max_epochs": 3, "accelerator": "cpu", "devices": 1, "default_root_dir": folder, **options},
        callbacks=[EpochCurves(folder / "curves.csv"), *keep, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True)
    return trainer


def saved(folder: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return checkpoint


def check_equal(one: Any, other: Any) -> None:
    """Compares nested containers of tensors and numbers, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            check_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            check_equal(mine, its)
    else:
        assert one == other


def curves(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check_same_training(whole: Path, cut: Path) -> None:
    assert curves(cut) == curves(whole)
    one, other = saved(whole), saved(cut)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "training_state"):
        check_equal(one[key], other[key])
    best = [torch.load(folder / "best.ckpt", weights_only=True) for folder in (whole, cut)]
    check_equal(best[0]["state_dict"], best[1]["state_dict"])


PLACES = {
    "the first step": ("on_train_batch_start", 0, 0),
    "the middle of an epoch": ("on_train_batch_start", 1, 2),
    "a backward pass": ("on_after_backward", 1, None),
    "the last step of an epoch": ("on_train_batch_start", 1, BATCHES - 1),
    "a validation": ("on_validation_batch_start", 1, 1),
    "the last validation": ("on_validation_batch_end", 2, 2),
    "the end of an epoch": ("on_train_epoch_end", 1, None),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "worker processes": {"num_workers": 2},
    "accumulated gradients": {"accumulate_grad_batches": 2},
    "a number of steps": {"max_epochs": -1, "max_steps": 13},
    "validation every other epoch": {"check_val_every_n_epoch": 2},
    "validation twice an epoch": {"val_check_interval": 2},
}
# One after the other, in the order in which a training comes to them.
MOST = ("the middle of an epoch", "the last step of an epoch", "a validation", "a validation", "the end of an epoch")
ORDERS = [(name, MOST) for name in OPTIONS if name != "validation twice an epoch"]
# The end of its epoch comes with the last step.
ORDERS += [("validation twice an epoch", places) for places in ((*MOST[2:4], *MOST[:2]), MOST[4:])]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a training with some options that was not interrupted."""

    @cache
    def train(options: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        fit(folder, **OPTIONS[options])
        return folder

    return train


def interrupt(folder: Path, place: str, options: str) -> None:
    """Begins a training, or resumes it, until a signal comes at a place."""
    with pytest.raises(TrainingInterrupted) as interrupted:
        fit(folder, Signal(*PLACES[place]), resume=(folder / "last.ckpt").exists(), **OPTIONS[options])
    assert interrupted.value.code == 128 + signal.SIGTERM
    assert f"holds step {saved(folder)['global_step']}" in str(interrupted.value)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_training_that_a_signal_interrupted_ends_as_if_it_had_not(
    tmp_path: Path, whole: Callable[[str], Path], place: str
) -> None:
    interrupt(tmp_path, place, "plain")
    fit(tmp_path, resume=True)
    check_same_training(whole("plain"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "places"), ORDERS)
def test_a_training_that_was_interrupted_again_and_again_ends_as_if_it_had_not(
    tmp_path: Path, whole: Callable[[str], Path], options: str, places: tuple[str, ...]
) -> None:
    """Twice in one validation, too."""
    for place in places:
        interrupt(tmp_path, place, options)
    fit(tmp_path, resume=True, **OPTIONS[options])
    check_same_training(whole(options), tmp_path)


def test_no_step_is_done_again_and_the_last_one_is_kept(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    class Steps(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            steps.append((trainer.current_epoch, trainer.global_step))

    for place in (("on_train_batch_start", 0, 3), ("on_train_batch_start", 1, 4), ("on_validation_batch_start", 2, 0)):
        with pytest.raises(TrainingInterrupted):
            fit(tmp_path, Signal(*place), Steps(), resume=(tmp_path / "last.ckpt").exists())
    fit(tmp_path, Steps(), resume=True)
    assert steps == [(step // BATCHES, step + 1) for step in range(3 * BATCHES)]


class Rates(lightning.Callback):
    """Notes the learning rate of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_start(self, trainer: Any, *arguments: Any) -> None:
        self.found.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (constant, ""),
        (
            partial(polynomial, power=0.9, warmup=0.2),
            "20 steps, not of 10: at step 10 the learning rate goes from 0",
        ),
        (partial(one_cycle, warmup=0.3), "now one of 20 steps, not of 10: at step 10"),
    ],
)
def test_a_training_that_is_made_longer_has_the_schedule_of_a_longer_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheduler: Any, said: str
) -> None:
    fit(tmp_path, max_epochs=2, scheduler=scheduler)
    capsys.readouterr()
    rates = Rates()
    assert fit(tmp_path, rates, resume=True, max_epochs=4, scheduler=scheduler).global_step == 4 * BATCHES
    assert [row["epoch"] for row in curves(tmp_path)] == ["0", "1", "2", "3"]
    printed = capsys.readouterr().out
    assert said in printed if said else "schedule" not in printed
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1e-3)
    whole, expected = scheduler(optimizer, 4 * BATCHES), []
    for _ in range(4 * BATCHES):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        whole.step()
    assert rates.found == pytest.approx(expected[2 * BATCHES :])


def test_a_training_that_goes_on_with_fewer_steps_an_epoch_ends_where_its_schedule_does(tmp_path: Path) -> None:
    scheduler, rates = partial(polynomial, power=1.0, warmup=0.0), Rates()
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path, Signal("on_train_batch_start", 1, 1), max_epochs=3, scheduler=scheduler)
    done = saved(tmp_path)["global_step"]
    fit(tmp_path, rates, resume=True, max_epochs=3, accumulate_grad_batches=3, scheduler=scheduler)
    steps = sorted(set(rates.found), reverse=True)
    left = len(steps)
    assert steps == pytest.approx([1e-3 * (left - step) / (done + left) for step in range(left)])


def test_a_training_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("val/iou", mode="max", patience=0, min_delta=2.0)  # more than there is to gain

    assert fit(tmp_path, stopping(), max_epochs=9).current_epoch == 2
    assert fit(tmp_path, stopping(), resume=True, max_epochs=9).global_step == 2 * BATCHES


@pytest.mark.parametrize(
    ("every_minutes", "steps"),
    # Of the last step once its validation has begun, since that comes right after it.
    [(0, [1, 2, 3, 4, 4, 5]), (60, [0, 0, 0, 0, 0, 5]), (None, [0, 0, 0, 0, 0, 5])],
)
def test_checkpoints_are_written_as_often_as_asked(
    tmp_path: Path, every_minutes: float | None, steps: list[int]
) -> None:
    found: list[int] = []

    class Look(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx or trainer.current_epoch:
                self.look()

        def on_validation_start(self, trainer: Any, module: Any) -> None:
            if not trainer.sanity_checking:
                self.look()

        def look(self) -> None:
            found.append(saved(tmp_path)["global_step"] if (tmp_path / "last.ckpt").exists() else 0)

    fit(tmp_path, Look(), every_minutes=every_minutes, max_epochs=1)
    assert [*found, saved(tmp_path)["global_step"]] == steps


@pytest.mark.parametrize("every_minutes", [-1, "often", float("nan")])
def test_a_time_that_is_none_is_refused(tmp_path: Path, every_minutes: Any) -> None:
    with pytest.raises(ValueError, match=rf"every_minutes={every_minutes} is not a number of minutes"):
        LastCheckpoint(tmp_path / "last.ckpt", every_minutes)


def test_a_checkpoint_whose_writing_breaks_off_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(content: Any, path: Path) -> None:
        path.write_bytes(b"the beginning of a checkpoint")
        raise OSError("no space left on device")

    fit(tmp_path, max_epochs=1)
    (tmp_path / ".last.ckpt.123.partial").write_bytes(b"of a process that was killed")
    before = sorted(path.name for path in tmp_path.iterdir() if "partial" not in path.name)
    with monkeypatch.context() as patch:
        patch.setattr("torch.save", full)
        with pytest.raises(OSError, match="no space"):
            fit(tmp_path, resume=True, every_minutes=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert saved(tmp_path)["global_step"] == BATCHES
    assert fit(tmp_path, resume=True, max_epochs=2).global_step == 2 * BATCHES


def test_a_checkpoint_larger_than_a_file_may_be_leaves_the_one_before_and_is_one_line(tmp_path: Path) -> None:
    path, checkpoints = tmp_path / "last.ckpt", WholeCheckpointIO()
    checkpoints.save_checkpoint({"epoch": 0}, path)
    with pytest.raises(Exception) as raised, file_limit(2**16):  # noqa: PT011
        checkpoints.save_checkpoint({"weights": torch.zeros(2**20)}, path)
    line = one_line(raised.value)
    assert line is not None
    assert re.search("limit on the size of files|larger than the limit|disk is full", line)
    assert torch.load(path, weights_only=True) == {"epoch": 0}
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_signals_are_given_back_when_one_has_interrupted_a_training(tmp_path: Path, signum: signal.Signals) -> None:
    default = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
    was = signal.signal(signum, default)  # nohup and the like ignore it, and then so does a training
    try:
        numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
        before = [signal.getsignal(number) for number in numbers]
        with pytest.raises(TrainingInterrupted) as interrupted:
            fit(tmp_path, Signal("on_train_batch_start", 0, 1, signum))
        assert interrupted.value.code == 128 + signum
        assert "holds step 2; the same command with resume=auto resumes" in str(interrupted.value)
        assert saved(tmp_path)["global_step"] == 2
        assert str(pickle.loads(pickle.dumps(interrupted.value))) == str(interrupted.value)
        assert [signal.getsignal(number) for number in numbers] == before
    finally:
        signal.signal(signum, was)


def in_a_copy(function: Callable[[], None]) -> int:
    """How a copy of this process ends that calls a function: its exit code, negative for a signal."""
    process = os.fork()
    if process == 0:
        function()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(
    ("signals", "ended"),
    [
        ([signal.SIGINT], 0),
        ([signal.SIGINT, signal.SIGINT], -signal.SIGINT),
        ([signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP], 0),
    ],
)
def test_a_second_ctrl_c_ends_the_process_at_once(signals: list[int], ended: int) -> None:
    def receive() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background of a script ignores
        StopSignals().listen()
        for signum in signals:
            os.kill(os.getpid(), signum)

    assert in_a_copy(receive) == ended


def test_processes_of_a_loader_and_of_nohup_ignore_what_a_terminal_sends() -> None:
    def receive() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals = StopSignals()
        signals.listen()
        os.kill(os.getpid(), signal.SIGHUP)
        os._exit(
            signals.received or in_a_copy(lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)] and None)
        )

    assert in_a_copy(receive) == 0


def test_another_number_of_processes_resumes_with_a_warning(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path, Signal("on_train_batch_start", 1, 1))
    checkpoint = saved(tmp_path)
    checkpoint["training_state"]["processes"] *= 2
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match="was written by 2 processes and is resumed by 1"):
        assert fit(tmp_path, resume=True).global_step == 3 * BATCHES
    assert [row["epoch"] for row in curves(tmp_path)] == ["0", "1", "2"]


SLURM = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "bash"}


@pytest.mark.parametrize(
    ("signum", "environment", "status", "asked", "outcome"),
    [
        (signal.SIGUSR1, SLURM, 0, "requeue 17", "SLURM job 17 was requeued"),
        (signal.SIGUSR1, {**SLURM, "SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "3"}, 0, "requeue 16_3", "16_3"),
        (signal.SIGUSR1, SLURM, 1, "requeue 17", r"did not requeue job 17 \(disabled\); resume=auto"),
        (signal.SIGTERM, SLURM, 0, "", "resume=auto resumes"),
        (signal.SIGUSR1, {}, 0, "", "resume=auto resumes"),
    ],
)
def test_slurm_is_asked_to_requeue_after_its_warning_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signum: int,
    environment: dict[str, str],
    status: int,
    asked: str,
    outcome: str,
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho disabled >&2\nexit {status}\n')
    scontrol.chmod(0o755)
    (tmp_path / "asked").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert re.search(outcome, requeue_job(signum))
    assert (tmp_path / "asked").read_text().strip() == asked
