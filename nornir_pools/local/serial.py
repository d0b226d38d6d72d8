"""Calls one after the other, in the thread that adds them: for debugging, and for code written for a pool."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from .. import outcome as outcomes
from ..base import PoolBase, PoolKind, here
from ..task import Task

__all__ = ["SerialPool", "run_here"]


class SerialPool(PoolBase):
    """`add_task` runs the call and returns a finished task; an exception comes from the wait, as on every pool."""

    kind = PoolKind.THREAD
    _waits_itself = True

    def __init__(self, name: str = "", num_threads: int | None = None, **given: Any) -> None:
        super().__init__(name, 1, **given)

    def _launch(self, task: Task) -> None:
        run_here(self, task)


def run_here(pool: PoolBase, task: Task) -> None:
    """Run the task in this thread. Ctrl-C is the user's word to this program, so it leaves here; all else is the outcome."""
    task.set_running_or_notify_cancel()
    pools, here.pools = here.pools, here.pools | {pool}  # a wait for the pool would be one for itself
    try:
        with _noting_interrupts() as interrupts:
            if pool._initializer is not None:
                pool._initializer.call_once()
            if pool._initializer is None or pool._initializer.error is None:
                outcome = outcomes.call(*task._take_call())
            else:
                outcome = outcomes.failure(pool._initializer.failure(), task.name)
    finally:
        here.pools = pools
    pool._finish(task, outcome)
    if interrupts:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """What is put into the list tells a Ctrl-C from a task that raises KeyboardInterrupt by itself."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not (
        signal.default_int_handler
    ):
        yield seen
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
