"""Compiled code that is kept on disk where that is possible, and compiled anew where it is not."""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import IO, Any

from numba import njit

from lightning_seg.text import text_logger

log = text_logger(__name__)

# Seconds to wait for another process that compiles the same code.
_PATIENCE = 120


def part(fastmath: set[str]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a function into those that call it.

    Args:
        fastmath: what LLVM may assume of floating-point numbers.
    """
    return _njit(fastmath, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def compiled(fastmath: set[str]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a function when it is first called, to code that does not hold Python's lock.

    Numba keeps the code beside the source, or in the user's cache folder if that one is not writable; it is compiled
    anew when the source changes, or on another kind of processor.

    Args:
        fastmath: what LLVM may assume of floating-point numbers.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            kernel = _njit(fastmath, cache=True, no_cfunc_wrapper=True)(function)
        except RuntimeError as error:  # there is no folder to write to
            log.debug("%s is not cached: %s", function.__name__, error)
            return _njit(fastmath, no_cfunc_wrapper=True)(function)
        kernel._cache = _SafeCache(kernel._cache)
        kernel.compile = kernel._cache.released_after(kernel.compile)
        return kernel

    return decorate


def _njit(fastmath: set[str], **options: Any) -> Callable[[Callable[..., Any]], Any]:
    decorator: Callable[[Callable[..., Any]], Any] = njit(nogil=True, fastmath=fastmath, error_model="numpy", **options)
    return decorator


class _SafeCache:
    """Numba's cache of a function, which never fails a call; of processes that start at once, one compiles.

    The others wait for it. Besides, of two that write at once one would name the other's code as its own.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._thread = RLock()
        self._lock: IO[str] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def released_after(self, compile_: Callable[..., Any]) -> Callable[..., Any]:
        """`compile_`, after which other processes may compile."""

        def compile_alone(*arguments: Any) -> Any:
            with self._thread:
                try:
                    return compile_(*arguments)
                finally:
                    if self._lock is not None:
                        self._lock.close()
                        self._lock = None

        return compile_alone

    def load_overload(self, *arguments: Any) -> Any:
        found = self._loaded(*arguments)
        if found is None and self._wait():
            found = self._loaded(*arguments)
        return found

    def save_overload(self, *arguments: Any) -> None:
        if self._lock is None:
            return
        try:
            self._cache.save_overload(*arguments)
        except Exception as error:  # a full disk, a folder that is gone
            log.debug("compiled code could not be kept: %s", error)

    def _loaded(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception as error:  # whatever a damaged file makes of reading it
            log.debug("compiled code could not be read: %s", error)
            return None

    def _wait(self) -> bool:
        """Whether this process may write to the cache now."""
        try:
            folder = Path(self._cache.cache_path)
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lightning_seg.lock").open("w")
            end = time.monotonic() + _PATIENCE
            while True:
                try:
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
        except OSError as error:  # a folder that cannot be written to, or whose files cannot be locked
            log.debug("compiled code will not be kept: %s", error)
            if self._lock is not None:
                self._lock.close()
                self._lock = None
            return False
