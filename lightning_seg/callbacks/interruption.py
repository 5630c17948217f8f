"""Signals that ask a training to stop, and what SLURM is asked for then."""

import os
import signal
import subprocess
import threading
from types import FrameType

# SIGTERM: a scheduler or a shutdown ends the job. SIGUSR1: SLURM's warning before a time limit, if so asked.
# SIGINT: Ctrl-C. SIGHUP: the terminal was closed.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


class TrainingInterrupted(SystemExit):
    """A signal stopped the training, whose checkpoint says where. The exit code is 128 plus the signal's number.

    It is not an `Exception`, since it is meant to end the process, even in the middle of a sweep.

    Args:
        signum: the signal's number.
        outcome: how the training ended, the rest of the sentence.
    """

    def __init__(self, signum: int, outcome: str) -> None:
        super().__init__(128 + signum)
        self.signum, self.outcome = signum, outcome

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signum).name}; {self.outcome}"

    def __reduce__(self) -> tuple[type["TrainingInterrupted"], tuple[int, str]]:
        return type(self), (self.signum, self.outcome)


class StopSignals:
    """Notes SIGTERM, SIGUSR1, SIGINT and SIGHUP instead of letting them end the process.

    A second SIGINT, as Ctrl-C sends it, ends the process at once. SIGINT and SIGHUP that the process was started to
    ignore, as by nohup, stay ignored. Processes that are forked later, as those of a loader, ignore them all: the
    terminal sends its signals to them, too. `received` is the signal's number or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._process = os.getpid()
        self._terminals: list[int] = []

    def listen(self) -> None:
        """Takes over the signals, in the main thread; other threads never receive any.

        Lightning restores the handlers that it found, however a training ends.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._process = os.getpid()
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)] or self._terminals
        for signum in _SIGNALS:
            by_user = signum in (signal.SIGINT, signal.SIGHUP)
            if not (by_user and signal.getsignal(signum) == signal.SIG_IGN):
                signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if signum == signal.SIGINT == self.received:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(self._process, signum)
        if signum == signal.SIGINT and not self.received and os.environ.get("RANK", "0") == "0":
            # Not print, which may be what was interrupted.
            os.write(2, b"\nstopping after this step, with a checkpoint; Ctrl-C again ends at once\n")
        if signum == signal.SIGHUP:
            self._leave_terminals()
        self.received = signum

    def _leave_terminals(self) -> None:
        """Lets what is printed from here on vanish: a terminal that is gone fails to take it."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in self._terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def requeue_job(signum: int) -> str:
    """Asks SLURM to requeue this job after its time-limit warning, and returns the outcome in words.

    Not after SIGTERM, which SLURM sends when it is requeueing the job already, or when somebody has canceled it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if signum != signal.SIGUSR1 or job is None:
        return "the same command with resume=auto resumes from there"
    if "SLURM_ARRAY_JOB_ID" in os.environ:  # The first part alone would mean the whole array.
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except FileNotFoundError:
        return f"scontrol was not found, so SLURM job {job} was not requeued; resume=auto resumes from there"
    if done.returncode != 0:
        return f"SLURM did not requeue job {job} ({done.stderr.strip()}); resume=auto resumes from there"
    return f"SLURM job {job} was requeued and resumes from there"
