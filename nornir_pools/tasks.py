"""Looking at a pool's tasks, and remembering the failures that nobody has asked about."""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .errors import TasksFailedError
from .outcome import error_text
from .task import Task

if TYPE_CHECKING:
    from .base import PoolBase

__all__ = ["Tasks", "Unasked"]

logger = logging.getLogger("nornir_pools")


class Tasks:
    """The tasks of a pool: sized and iterable. Finished ones are in it as long as somebody else keeps them."""

    def __init__(self, pool: PoolBase) -> None:
        self._pool = pool
        self._finished: list[weakref.ref[Task]] = []
        self._sweep_at = 1000
        self._sweeping = threading.Lock()  # held by who sweeps _finished, in place: behind that, others go on adding to it

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Task]:
        tasks = dict(self._pool._unfinished)  # first: one that is over meanwhile is among the finished ones before it leaves
        tasks.update({task.task_id: task for ref in list(self._finished) if (task := ref()) is not None})
        return iter(sorted(tasks.values(), key=lambda task: task.task_id))

    def qsize(self) -> int:
        """How many tasks have not started."""
        return self._pool._count_waiting()

    def remember(self, task: Task) -> None:
        """A task is about to be done. A finished task that the caller drops must cost nothing: dead entries are swept out."""
        self._finished.append(weakref.ref(task))
        if len(self._finished) >= self._sweep_at and self._sweeping.acquire(blocking=False):
            count = len(self._finished)
            self._finished[:count] = [ref for ref in self._finished[:count] if ref() is not None]
            self._sweep_at = 2 * len(self._finished) + 1000
            self._sweeping.release()


class Unasked:
    """Failed tasks whose failure nobody has looked at; and how many have failed in all."""

    def __init__(self) -> None:
        self.failed = 0
        """How many tasks have failed, asked about or not; a command whose exit status is not 0 has."""
        self._failures: dict[int, tuple[str, str]] = {}  # task id -> (name, cause)
        self._statuses: dict[int, tuple[str, str]] = {}  # the same for commands that ended with a status: that raises nothing
        self._lock = threading.Lock()  # guards failed

    def note(self, task_id: int, name: str, error: BaseException) -> None:
        """A task has failed."""
        self._failures[task_id] = (name, error_text(error).splitlines()[0])
        self._count()

    def note_status(self, task_id: int, name: str, status: int) -> None:
        """A command has ended with an exit status other than 0."""
        self._statuses[task_id] = (name, f"exit status {status}")
        self._count()

    def _count(self) -> None:
        with self._lock:
            self.failed += 1

    def forget(self, task_id: int) -> bool:
        """Somebody has asked. Returns whether nobody had before."""
        return any(some.pop(task_id, None) for some in (self._failures, self._statuses) if some)

    def log(self, pool: str) -> None:
        """One warning about all of them, by cause; each is told once."""
        failures = _emptied(self._failures)
        self._statuses.clear()
        if failures:
            logger.warning("pool %r: %d failed tasks nobody asked about:\n  %s", pool, len(failures), _by_cause(failures))

    def check(self, pool: str) -> None:
        """Raise TasksFailedError with all of them, commands that ended with a status included; each is told once."""
        failures = [*_emptied(self._failures), *_emptied(self._statuses)]
        if failures:
            count = f"{len(failures)} tasks have failed" if len(failures) > 1 else "a task has failed"
            raise TasksFailedError(
                f"pool {pool!r}: {count}:\n  {_by_cause(failures)}", failed=len(failures), failures=tuple(failures)
            )


def _emptied(failures: dict[int, tuple[str, str]]) -> list[tuple[str, str]]:
    """What was in there, by the age of the tasks. (Meanwhile more may come in, and somebody may ask about one.)"""
    return [failure for task_id in sorted(failures) if (failure := failures.pop(task_id, None)) is not None]


def _by_cause(failures: Iterable[tuple[str, str]]) -> str:
    """A line for each cause: how many, how the first of them failed, and which tasks."""
    causes: dict[str, list[tuple[str, str]]] = {}
    for name, cause in failures:
        causes.setdefault(re.sub(r"\d+", "#", cause.replace(repr(name), "")), []).append((name, cause))
    lines = []
    for alike in causes.values():
        same = "" if len({cause for _, cause in alike}) == 1 else "and alike; "
        lines.append(f"{len(alike)} × {alike[0][1]} ({same}tasks {_few([name for name, _ in alike])})")
    return "\n  ".join([*lines[:10], *([f"and {len(lines) - 10} other causes"] if len(lines) > 10 else [])])


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
