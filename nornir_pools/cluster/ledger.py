"""The unfinished tasks of a run, by number. Whoever takes a task out of here completes its Future, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .. import outcome as outcomes
from ..errors import PoolError
from ..options import Options
from ..outcome import Outcome
from ..task import Task
from .jobs import Group
from .spool import Spool, task_name

__all__ = ["Ledger"]


class Ledger:
    """Tasks and the groups they belong to. `finish` completes a task of the pool."""

    def __init__(self, spool: Spool, finish: Callable[[Task, Outcome], None]) -> None:
        self.groups: list[Group] = []
        self._spool = spool
        self._finish = finish
        self._tasks: dict[int, tuple[Task, Group]] = {}
        self._lock = threading.Lock()  # guards _tasks and the groups' counts: tasks are added from any thread

    def __len__(self) -> int:
        return len(self._tasks)

    def group_for(self, options: Options) -> Group:
        """The group of the tasks with these options."""
        with self._lock:
            for group in self.groups:
                if group.options == options:
                    return group
            group = Group(len(self.groups), options)
            self.groups.append(group)
            return group

    def expect(self, number: int, task: Task, group: Group) -> None:
        """A task is about to be published."""
        with self._lock:
            self._tasks[number] = (task, group)
            group.unfinished += 1
            if group.unfinished == 1:
                group.first_task = time.monotonic()

    def find(self, number: int) -> tuple[Task, Group] | None:
        """The task of that number, unless it is over."""
        return self._tasks.get(number)

    def take(self, number: int) -> Task | None:
        """Take a task out, to complete it; None if somebody else has."""
        with self._lock:
            entry = self._tasks.pop(number, None)
            if entry is None:
                return None
            entry[1].unfinished -= 1
            return entry[0]

    def complete(self, task: Task, outcome: Outcome) -> None:
        """Complete a task that was taken out."""
        self._finish(task, outcome)

    def give_up(self, number: int, error: PoolError) -> None:
        """Fail a task whose outcome will not come."""
        task = self.take(number)
        if task is not None:
            self._spool.note(t="given up", n=number, error=str(error))
            self._finish(task, outcomes.failure(error, task.name))

    def fail_waiting(self, group: Group, error: PoolError) -> None:
        """Fail the group's tasks that no worker has claimed."""
        for number, (_, other) in list(self._tasks.items()):
            if other is group and self._spool.withdraw(group.number, task_name(number)):
                self.give_up(number, error)

    def fail_all(self, error: PoolError) -> None:
        """Fail every task: the run's folder cannot be used any more."""
        for number in list(self._tasks):
            task = self.take(number)
            if task is not None:
                self._finish(task, outcomes.failure(error, task.name))
