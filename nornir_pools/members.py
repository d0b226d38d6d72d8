"""Members of pools and tasks that only upstream has: kept, so that code written for it runs unchanged.

None of them does anything for the pools of this package, and none costs a task anything: they are looked up when asked for.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from .turns import wait_for

__all__ = ["CommandMembers", "PoolMembers", "TaskMembers", "ThreadPoolMembers"]

logger = logging.getLogger("nornir_pools")
_T = TypeVar("_T")


class _Member(Generic[_T]):
    """Computed when it is read, as a property; but an attribute of that name that a caller sets on the object wins."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> _Member[_T]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> _T: ...
    def __get__(self, owner: object | None, kind: type) -> _T | _Member[_T]:
        return self if owner is None else self._compute(owner)


class _Event:
    """What can be read of a `threading.Event`."""

    def __init__(self, is_set: Callable[[], bool], wait: Callable[[float | None], object]) -> None:
        self.is_set = is_set
        self._wait = wait

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set, or for `timeout` seconds; returns whether it is."""
        self._wait(timeout)
        return self.is_set()


class TaskMembers:
    """Of every task."""

    @_Member
    def completed(task: Any) -> _Event:  # noqa: N805
        """An event that is set once the task is over."""
        return _Event(task.done, lambda timeout: wait_for(task, timeout))

    @_Member
    def node(task: Any) -> str:  # noqa: N805
        """The host that has run the task, once it is done; "" if its pool does not say, for this machine."""
        return str(task.facts.get("host", ""))

    @_Member
    def error_message(task: Any) -> str:  # noqa: N805
        """What went wrong, once the task has failed; else ""."""
        return "" if not task.done() or task.cancelled() or task._exception is None else str(task._exception)


class CommandMembers:
    """Of every command."""

    @_Member
    def returned_value(task: Any) -> tuple[bytes, bytes]:  # noqa: N805
        """What the command has printed, stdout and stderr, once it is done."""
        return task.stdoutdata.encode(), task.stderrdata.encode()


class PoolMembers:
    """Of every pool."""

    job_report_interval_in_seconds = 10.0
    """`TryReportActiveTaskCount` reports no more often."""
    _reported = float("-inf")

    def TryReportActiveTaskCount(self) -> None:
        """Report how many tasks are not done, if it is time to and there are at least 2."""
        now, pool = time.monotonic(), self._as_pool()
        if now - self._reported >= self.job_report_interval_in_seconds and pool.num_active_tasks >= 2:
            self._reported = now
            self.PrintActiveTaskCount()

    def PrintActiveTaskCount(self) -> None:
        """Report in the log, at level INFO, how many tasks are not done."""
        pool = self._as_pool()
        logger.info("pool %r: %d tasks are not done, %d of them have not started", pool.name, *_counts(pool))

    def TryRegisterAtExit(self) -> None:
        """Nothing: every pool is waited for and closed when the program ends."""

    @_Member
    def shutdown_event(pool: Any) -> _Event:  # noqa: N805
        """An event that is set once the pool was shut down."""
        return _Event(lambda: pool.closed, lambda timeout: pool._wait_until(lambda: pool.closed, seconds=timeout))

    @_Member
    def _active_tasks(pool: Any) -> dict[int, Any]:  # noqa: N805
        return dict(pool._unfinished)

    def _as_pool(self) -> Any:
        return self


class ThreadPoolMembers:
    """Of pools that run on threads of this process: how upstream keeps the book of them."""

    WorkerCheckInterval = 1.0

    @_Member
    def deadthreadqueue(pool: Any) -> queue.Queue[Any]:  # noqa: N805
        """An empty queue: a thread lives as long as its pool."""
        return queue.Queue()

    def add_worker_thread(self) -> None:
        """Start another thread, unless there are `num_threads` already."""
        pool: Any = self
        pool._add_thread()

    def add_threads_if_needed(self) -> None:
        """Nothing: a thread is added with the task that needs it."""

    def remove_finished_threads(self) -> None:
        """Nothing: a thread lives as long as its pool."""


def _counts(pool: Any) -> tuple[int, int]:
    return pool.num_active_tasks, pool.queued_tasks
