"""Signals that ask a training to stop, and what SLURM is asked for then."""

import os
import signal
import subprocess
import threading
from types import FrameType

# SIGTERM: a scheduler or a shutdown ends the job. SIGUSR1: SLURM's warning before a time limit, if so asked.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class TrainingInterrupted(SystemExit):
    """A signal stopped the training, whose checkpoint says where. The exit code is 128 plus the signal's number.

    It is no `Exception`, since it is meant to end the process, also in the midst of a sweep.

    Args:
        signum: the signal's number.
        outcome: what became of the training, the rest of the sentence.
    """

    def __init__(self, signum: int, outcome: str) -> None:
        super().__init__(128 + signum)
        self.signum, self.outcome = signum, outcome

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signum).name}; {self.outcome}"

    def __reduce__(self) -> tuple[type["TrainingInterrupted"], tuple[int, str]]:
        return type(self), (self.signum, self.outcome)


class StopSignals:
    """Notes SIGTERM and SIGUSR1 instead of letting them end the process. `received` is the signal's number or 0."""

    def __init__(self) -> None:
        self.received = 0

    def listen(self) -> None:
        """Takes the signals over from whoever has them, in the main thread; others never get any.

        Lightning puts the handlers back that it found, when a training ends in whatever way.
        """
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
                signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum


def requeue_job(signum: int) -> str:
    """Asks SLURM to start this job again, where it has given the time-limit warning; what became of it, in words.

    After SIGTERM it is not asked: that comes when SLURM is requeueing the job already, or when a person has ended it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if signum != signal.SIGUSR1 or job is None:
        return "the same command with resume=auto goes on from there"
    if "SLURM_ARRAY_JOB_ID" in os.environ:  # The first part alone would mean the whole array.
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except FileNotFoundError:
        return f"there is no scontrol to requeue SLURM job {job}; resume=auto goes on from there"
    if done.returncode != 0:
        return f"SLURM does not requeue job {job} ({done.stderr.strip()}); resume=auto goes on from there"
    return f"SLURM job {job} is requeued and goes on from there"
