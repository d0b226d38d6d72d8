"""The unfinished tasks of a run, by number. Whoever takes a task out of here completes its Future, once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .. import outcome as outcomes
from ..errors import PoolError, SpoolError
from ..options import Options
from ..outcome import Outcome
from ..task import Task
from .failures import Failures
from .history import PastTask
from .jobs import Group
from .spool import Spool, task_name

__all__ = ["Entry", "Ledger"]


@dataclass
class Entry:
    """One task of the run."""

    number: int
    task: Task
    group: Group
    attempt: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    """How often it was tried again, by cause."""
    history: list[str] = field(default_factory=list)
    """What became of each try, in words."""

    @property
    def file(self) -> str:
        """The name of its file while it waits, or runs, for the current try."""
        return task_name(self.number, self.attempt)


class Ledger:
    """The tasks and the groups they belong to. `finish` completes a task of the pool."""

    def __init__(self, spool: Spool, finish: Callable[[Task, Outcome | None], None], failures: Failures) -> None:
        self.groups: list[Group] = []
        self.failures = failures
        self._spool = spool
        self._finish = finish
        self._entries: dict[int, Entry] = {}
        self._lock = threading.Lock()  # guards _entries and the groups' counts: tasks are added from any thread

    def __len__(self) -> int:
        return len(self._entries)

    def group_for(self, options: Options) -> Group:
        """The group of the tasks with these options."""
        with self._lock:
            for group in self.groups:
                if group.options == options:
                    return group
            group = Group(len(self.groups), options)
            self._spool.note(t="group", n=group.number, options=options.plain())
            self.groups.append(group)
            return group

    def restore_group(self, options: Options) -> None:
        """The next group of a run that was taken over."""
        self.groups.append(Group(len(self.groups), options))

    def expect(self, number: int, task: Task, group: Group) -> None:
        """A task is about to be published."""
        with self._lock:
            self._entries[number] = Entry(number, task, group)
            self._count(group)

    def restore(self, past: PastTask, task: Task, group: Group, attempt: int) -> None:
        """A task of a run that was taken over is under way."""
        entry = Entry(past.number, task, group, attempt, past.retried, past.tries)
        with self._lock:
            self._entries[past.number] = entry
            self._count(group)

    @staticmethod
    def _count(group: Group) -> None:
        group.unfinished += 1
        if group.unfinished == 1:
            group.first_task = time.monotonic()

    def numbers(self) -> list[int]:
        """The numbers of the unfinished tasks."""
        return list(self._entries)

    def find(self, number: int) -> Entry | None:
        """The task of that number, unless it is over."""
        return self._entries.get(number)

    def take(self, number: int) -> Task | None:
        """Take a task out, to complete it; None if somebody else has."""
        with self._lock:
            entry = self._entries.pop(number, None)
            if entry is None:
                return None
            entry.group.unfinished -= 1
            return entry.task

    def again(self, entry: Entry, group: Group) -> None:
        """The task is to be tried again, in a job of this group."""
        with self._lock:
            entry.group.unfinished -= 1
            entry.group = group
            entry.attempt += 1
            self._count(group)

    def complete(self, task: Task, outcome: Outcome) -> None:
        """Complete a task that was taken out; if too many have failed by now, those that wait fail as well."""
        too_many = self.failures.note(task, outcome)
        self._finish(task, outcome)
        if too_many and self.failures.error is not None:
            self._spool.note(t="stopped", error=str(self.failures.error))
            for group in self.groups:
                self.fail_waiting(group, self.failures.error)

    def cancel(self, number: int) -> bool:
        """The task is not to be run; returns whether it was still there. Its Future is the caller's to complete."""
        if self.take(number) is None:
            return False
        with contextlib.suppress(SpoolError):
            self.note_cancelled(number)
        return True

    def call_off(self, number: int) -> bool:
        """Cancel a task because somebody else has asked for it; returns whether it was still there."""
        task = self.take(number)
        if task is not None:
            try:
                self.note_cancelled(number)
            finally:
                self._finish(task, None)
        return task is not None

    def note_cancelled(self, number: int) -> None:
        """Have the journal say so."""
        self._spool.note(t="cancelled", n=number)

    def give_up(self, number: int, error: PoolError) -> None:
        """Fail a task whose outcome will not come."""
        task = self.take(number)
        if task is not None:
            try:
                self._note_given_up(number, error)
            finally:  # nobody else will: it was taken out
                self.complete(task, outcomes.failure(error, task.name))

    def _note_given_up(self, number: int, error: PoolError) -> None:
        self._spool.note(t="given up", n=number, kind=type(error).__name__, error=str(error), parts=error.__dict__)

    def fail_waiting(self, group: Group, error: PoolError, most: int | None = None) -> None:
        """Fail the group's tasks that no worker has claimed; at most so many of them, the newest first."""
        for number, entry in sorted(self._entries.items(), reverse=True):
            if most is not None and most <= 0:
                return
            if entry.group is group and self._spool.withdraw(group.number, entry.file) and (task := self.take(number)):
                try:
                    self._note_given_up(number, error)
                    self._spool.drop(group.number, entry.file, failed=True)
                finally:
                    self._finish(task, outcomes.failure(error, task.name))
                most = None if most is None else most - 1

    def finish_all(self, error: PoolError | None) -> None:
        """End every task here, with an error or as cancelled; the journal, which may be out of reach, says nothing of it."""
        for number in list(self._entries):
            task = self.take(number)
            if task is not None:
                self._finish(task, None if error is None else outcomes.failure(error, task.name))
