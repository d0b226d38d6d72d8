"""Looking at a pool's tasks, and remembering the failures that nobody has asked about."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

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

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Task]:
        tasks = {task.task_id: task for ref in list(self._finished) if (task := ref()) is not None}
        tasks.update(dict(self._pool._unfinished))
        return iter(sorted(tasks.values(), key=lambda task: task.task_id))

    def qsize(self) -> int:
        """How many tasks have not started."""
        return self._pool._count_waiting()

    def remember(self, task: Task) -> None:
        """A task is done. A finished task that the caller drops must cost nothing: dead entries are swept out."""
        self._finished.append(weakref.ref(task))
        if len(self._finished) >= self._sweep_at:
            self._finished = [ref for ref in self._finished if ref() is not None]
            self._sweep_at = 2 * len(self._finished) + 1000


class Unasked:
    """Failed tasks whose error nobody has looked at."""

    def __init__(self) -> None:
        self._failures: dict[int, tuple[str, str]] = {}  # task id -> (name, cause)

    def note(self, task_id: int, name: str, error: BaseException) -> None:
        """A task has failed."""
        self._failures[task_id] = (name, _summary(error))

    def forget(self, task_id: int) -> None:
        """Somebody has asked."""
        if self._failures:
            self._failures.pop(task_id, None)

    def log(self, pool: str) -> None:
        """One warning about all of them, by cause; each is told once."""
        causes: dict[str, list[str]] = {}
        while self._failures:
            _, (name, cause) = self._failures.popitem()
            causes.setdefault(cause, []).append(name)
        if causes:
            lines = [f"{len(names)} × {cause} (tasks {_few(names)})" for cause, names in causes.items()]
            count = sum(map(len, causes.values()))
            logger.warning("pool %r: %d failed tasks nobody asked about:\n  %s", pool, count, "\n  ".join(lines[:10]))


def _summary(error: BaseException) -> str:
    try:
        lines = str(error).splitlines()
    except Exception:
        lines = []
    return f"{type(error).__qualname__}: {lines[0]}" if lines else type(error).__qualname__


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
