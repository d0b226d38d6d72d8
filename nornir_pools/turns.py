"""Waits that Ctrl-C ends, whichever thread takes the signal.

Python raises KeyboardInterrupt in the main thread, and only between two steps of it: a wait for a lock is such a step, and ends
early only if the main thread itself gets the signal. The kernel means it to. But another thread takes it if it lets signals in
again just then, as one does that has started a process, and a pool's threads start many.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

__all__ = ["join", "wait_for", "wait_in_turns"]

_LONGEST = 0.5  # seconds that an interrupt may go unnoticed. Two looks a second cost 0.02 % of a core.


def wait_in_turns(wait: Callable[[float | None], bool], seconds: float | None) -> bool:
    """Have `wait` wait for something, for at most so many seconds in all; returns whether it came.

    `wait` is called with the seconds (None: any time) that it may take, and returns whether it came; in the main thread it is
    called again and again.
    """
    if threading.current_thread() is not threading.main_thread():
        return wait(seconds)
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = _LONGEST if end is None else max(0.0, end - time.monotonic())
        if wait(min(left, _LONGEST)):
            return True
        if end is not None and left <= _LONGEST:
            return False


def wait_for(future: futures.Future[Any], seconds: float | None = None) -> bool:
    """Block until the Future is done, for at most so many seconds; returns whether it is."""
    return wait_in_turns(lambda turn: bool(futures.wait([future], turn).done), seconds)


def join(thread: threading.Thread) -> None:
    """Block until the thread has ended."""

    def ended(turn: float | None) -> bool:
        thread.join(turn)
        return not thread.is_alive()

    wait_in_turns(ended, None)
