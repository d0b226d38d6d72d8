"""How a pool looks from outside: what can be read of it, under upstream's names where it has such."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from .task import Task
from .tasks import Tasks

__all__ = ["Appearance"]


class Appearance:
    """What can be read of a pool. Nothing of it blocks."""

    _name: str
    _closed: bool
    _tasks: Tasks
    _unfinished: Mapping[int, Task]

    def _count_waiting(self) -> int:
        raise NotImplementedError

    @property
    def name(self) -> str:
        return self._name

    @property
    def closed(self) -> bool:
        """Whether the pool was shut down."""
        return self._closed

    @property
    def tasks(self) -> Tasks:
        """The pool's tasks: sized, iterable, with ``qsize()``."""
        return self._tasks

    @property
    def num_active_tasks(self) -> int:
        """How many tasks are not done, waiting or running."""
        return len(self._unfinished)

    active_tasks = num_active_tasks
    ActiveTasks = num_active_tasks  # upstream's cluster pool has it under this name

    @property
    def queued_tasks(self) -> int:
        """How many tasks have not started."""
        return self._count_waiting()

    @property
    def logger(self) -> logging.Logger:
        return logging.getLogger("nornir_pools")

    def __str__(self) -> str:
        return f"Pool {self._name} with {self.num_active_tasks} active tasks"

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self._name!r}: {self.num_active_tasks} active tasks{', closed' if self._closed else ''}>"
        )

    def get_active_nodes(self) -> list[str]:
        """The hosts the pool's tasks run on."""
        return ["localhost"]
