"""How a process ends: with the one that started it, or with an error that is said there."""

import os
import signal
import threading
import time


class ProcessError(RuntimeError):
    """One of the processes of a run failed: its rank, and the traceback of what it raised ("" if it was killed).

    `which` names the process where it is not known for certain.
    """

    def __init__(self, rank: int, callstack: str, message: str, which: str = "") -> None:
        super().__init__(rank, callstack, message, which)  # all of them, so that it can be pickled
        self.rank, self.callstack, self.message, self.which = rank, callstack, message, which or str(rank)

    def __str__(self) -> str:
        return f"process {self.which} {self.message}\n{self.callstack}".strip()


def end_with(parent: int) -> None:
    """Kills this process as soon as the process that started it is gone, however that ended.

    Args:
        parent: the id of the process that started it; it may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)  # the main thread may wait for the others forever, deaf to other signals

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
