"""Parts of a task as a Future: what it is waited for by, what a wait raises that ran out, how its callbacks are run."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

from .here import here

if TYPE_CHECKING:
    from .base import PoolBase

__all__ = ["Condition", "NotDoneError", "ends_within", "run_callbacks"]

logger = logging.getLogger("concurrent.futures")  # as that of a callback that is added when all is over

# Until Python 3.10 the futures' TimeoutError was a class of its own: there, a wait that ran out is both.
if sys.version_info >= (3, 11):
    NotDoneError = TimeoutError
else:  # pragma: no cover

    class NotDoneError(TimeoutError, futures.TimeoutError):
        pass


class Condition:
    """As `threading.Condition`, but made in a third of the time: of most Futures only the last few are ever waited for."""

    __slots__ = ("_condition", "_lock", "acquire", "release")

    def __init__(self) -> None:
        self._lock = lock = threading.RLock()
        self.acquire = lock.acquire
        self.release = lock.release
        self._condition: threading.Condition | None = None  # once a thread waits; guarded by _lock

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        return self._condition.wait(timeout)

    def notify_all(self) -> None:
        if self._condition is not None:
            self._condition.notify_all()


def ends_within(future: futures.Future[Any], seconds: float | None) -> bool:
    """Wait for its end; returns whether it has come. Raises CancelledError if it is cancelled."""
    try:
        futures.Future.exception(future, seconds)
    except futures.TimeoutError:
        return False
    return True


def run_callbacks(future: Any, pool: PoolBase, callbacks: Sequence[Callable[[Any], object]]) -> None:
    """Run the callbacks of a pool's Future, in the order in which they were added; what one raises is logged.

    In `futures.Future`, one that calls sys.exit keeps those after it from running and ends the thread, which here is one of
    a pool.
    """
    pools, depth = here.pools, here.callbacks
    here.pools, here.callbacks = pools | {pool}, depth + 1
    try:
        for callback in callbacks:
            try:
                callback(future)
            except BaseException as error:
                if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                    raise
                logger.exception("exception calling callback for %r", future)
    finally:
        here.pools, here.callbacks = pools, depth
