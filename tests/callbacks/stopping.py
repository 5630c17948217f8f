"""A training that gets a signal at a place that is known."""

import os
import signal
import time
from typing import Any

import lightning


class Signal(lightning.Callback):
    """Sends a real signal, once, as a hook is called in an epoch with a batch.

    Args:
        hook: the hook.
        epoch: the epoch.
        batch: the batch; None for hooks that are not called with one.
        signum: the signal.
        rank: the process that sends it.
        to_parent: whether to the process that started it, which passes it on, instead of itself.
    """

    def __init__(
        self,
        hook: str,
        epoch: int,
        batch: int | None = None,
        signum: int = signal.SIGTERM,
        rank: int = 0,
        to_parent: bool = False,
    ) -> None:
        self.place, self.signum, self.rank, self.to_parent = (epoch, batch), signum, rank, to_parent
        setattr(self, hook, self.send)

    def send(self, trainer: lightning.Trainer, module: lightning.LightningModule, *arguments: Any) -> None:
        """Sends it, if this is the place."""
        batch = next((argument for argument in arguments if isinstance(argument, int)), None)
        here = (trainer.current_epoch, batch) == self.place and trainer.global_rank == self.rank
        if here and not trainer.sanity_checking:
            os.kill(os.getppid() if self.to_parent else os.getpid(), self.signum)
            if self.to_parent:
                self.wait()

    def wait(self) -> None:
        """Waits until this process has got what the other passes on, which it may do a tenth of a second later."""
        handler: Any = signal.getsignal(self.signum)
        end = time.monotonic() + 30
        while not handler.__self__.received:
            assert time.monotonic() < end
            time.sleep(0.01)
