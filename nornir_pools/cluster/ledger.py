"""The unfinished tasks of a run, by number. Whoever takes a task out of here completes its Future, once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import outcome as outcomes
from ..errors import PoolError, SpoolError
from ..options import Options
from ..outcome import Outcome
from ..task import Task
from .budget import Budget
from .failures import Failures
from .history import History, PastTask
from .jobs import Group, Job
from .spool import Spool, task_name

__all__ = ["Entry", "Ledger"]


@dataclass
class Entry:
    """One task of the run."""

    number: int
    task: Task
    group: Group
    attempt: int = 0
    held: bool = False
    """It waits for its parents, and no job is sent for it."""
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

    def __init__(
        self, spool: Spool, finish: Callable[[Task, Outcome | None], None], failures: Failures, budget: Budget | None = None
    ) -> None:
        self.groups: list[Group] = []
        self.failures = failures
        self.budget = budget or Budget("", "", None)
        self.families = False  # whether tasks were ever held back until others were done
        self._done = 0  # tasks that have ended in one way or another, but for those that were cancelled or never run
        self._swept = 0.0  # when it was last looked for tasks that wait though the pool has stopped
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

    def resume(self, history: History) -> None:
        """Count what was done, and used, before the run was taken over."""
        self._done = sum(past.outcome is not None for past in history.tasks.values())
        self.budget.restore(history)

    def restore_group(self, options: Options) -> None:
        """The next group of a run that was taken over."""
        self.groups.append(Group(len(self.groups), options))

    def expect(self, number: int, task: Task, group: Group, *, held: bool = False) -> None:
        """A task is about to be published, or to be held back."""
        with self._lock:
            self._entries[number] = Entry(number, task, group, held=held)
            self.families |= held
            if not held:
                self._count(group)

    def release(self, number: int) -> bool:
        """A task that was held back is about to be published; returns whether it is still there."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is not None and entry.held:
                entry.held = False
                self._count(entry.group)
            return entry is not None

    def restore(self, past: PastTask, task: Task, group: Group, attempt: int) -> None:
        """A task of a run that was taken over is under way."""
        entry = Entry(past.number, task, group, attempt, retried=past.retried, history=past.tries)
        with self._lock:
            self._entries[past.number] = entry
            self._count(group)

    def replace(self, number: int, task: Task) -> bool:
        """Have another task stand for the one of that number; False if it is over."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is not None:
                entry.task = task
            return entry is not None

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
            if not entry.held:
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
        self._done += 1
        too_many = self.failures.note(task, outcome)
        self._finish(task, outcome)
        if too_many and self.failures.error is not None:
            self._stop(self.failures.error)

    def note_time(self, group: Group, seconds: float) -> None:
        """A task of the group has run so long. Workers get to know how long one may take: near its end, a job takes no more."""
        group.seconds += seconds
        group.finished += 1
        if seconds > 1.2 * group.longest and seconds > 1.0:
            if group.longest:
                self._spool.remove(f"todo/{group.number}/longest.{group.longest:.0f}")
            group.longest = seconds
            self._spool.tell_workers(group.number, f"longest.{seconds:.0f}")

    def heed_budget(self, jobs: Mapping[str, Job]) -> None:
        """If the jobs have used what they may, stop: those that wait fail."""
        self.budget.look(jobs)
        error = self.failures.error
        if error is None:
            error = self.budget.verdict(self._done, len(self._entries))
            if error is not None:
                if self._entries:
                    self.failures.stop(error)
                else:  # all is done: only who adds more need know
                    self.failures.error = error
                self._stop(error)
        elif self._entries and time.monotonic() - self._swept >= 1.0:
            # A task that its job or node has failed waits again, and no job is sent for it any more.
            self._swept = time.monotonic()
            for group in self.groups:
                if group.unfinished and any(tasks for _, tasks in self._spool.offers(group.number)[0]):
                    self.fail_waiting(group, error)

    def stop(self, error: PoolError) -> None:
        """Run nothing more, for a reason that lies in the pool itself: those that wait fail, and who adds more gets it."""
        if self.failures.error is None:
            self.failures.stop(error)
            self._stop(error)

    def _stop(self, error: PoolError) -> None:
        self._spool.note(t="stopped", kind=type(error).__name__, error=str(error))
        for group in self.groups:
            self.fail_waiting(group, error)

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

    def fall(self, number: int, error: PoolError) -> None:
        """Fail a task that was held back and is not run. (It is no failure of its own that would speak against going on.)"""
        entry, task = self.find(number), self.take(number)
        if task is not None and entry is not None:
            try:
                self._note_given_up(number, error)
                self._spool.drop_held(entry.file, failed=True)
            finally:
                self._finish(task, outcomes.failure(error, task.name))

    def _note_given_up(self, number: int, error: PoolError) -> None:
        self._spool.note(**self._given_up(number, error))

    @staticmethod
    def _given_up(number: int, error: PoolError) -> dict[str, Any]:
        return {"t": "given up", "n": number, "kind": type(error).__name__, "error": str(error), "parts": error.__dict__}

    def fail_waiting(self, group: Group, error: PoolError, most: int | None = None) -> None:
        """Fail the group's tasks that no worker has claimed; at most so many of them, the newest first."""
        taken: list[tuple[Entry, Task]] = []
        try:
            for number, entry in sorted(self._entries.items(), reverse=True):  # all first, before workers claim more of them
                if most is not None and len(taken) >= most:
                    break
                if entry.group is not group or entry.held:
                    continue
                if self._spool.withdraw(group.number, entry.file) and (task := self.take(number)):
                    taken.append((entry, task))
        finally:
            self._fail_taken(taken, error)

    def _fail_taken(self, taken: list[tuple[Entry, Task]], error: PoolError) -> None:
        """Fail tasks that were withdrawn; none of them waits for ever because of a fault over this or another one."""
        with contextlib.ExitStack() as finishing:
            for _, task in taken:
                finishing.callback(self._finish, task, outcomes.failure(error, task.name))
            if taken:
                self._spool.note_all([self._given_up(entry.number, error) for entry, _ in taken])
            for entry, _ in taken:
                self._spool.drop(entry.group.number, entry.file, failed=True)

    def finish_all(self, error: PoolError | None) -> None:
        """End every task here, with an error or as cancelled; the journal, which may be out of reach, says nothing of it."""
        # All are taken out first: those that wait for others are to end as these do, not because of them.
        for task in [task for number in list(self._entries) if (task := self.take(number)) is not None]:
            self._finish(task, None if error is None else outcomes.failure(error, task.name))
