"""Holding tasks back until their parents, the tasks that they were given as arguments or that they come after, are done.

Whoever completes the last parent launches the child, in one of the parent's done-callbacks: that is short, for what takes
time (values are read and pickled) is left to the worker that runs it. A child's failure reaches its own children the same way.
"""

from __future__ import annotations

from . import outcome as outcomes
from .adding import Adding
from .outcome import Outcome
from .parents import Parents
from .task import Task

__all__ = ["Holding"]


class Holding(Adding):
    """The part of a pool that knows of parents."""

    _waits_itself = False  # tasks run in the thread that adds them, so it is that thread that waits for parents

    def __init__(self) -> None:
        self._waiting: dict[int, Task] = {}  # not started; to take a task out of it is to own its completion
        self._held: dict[int, Parents] = {}  # by task id; a task is in here until it is launched or over
        self._close_later = False  # once no task is held: guarded by being looked at again after it was set

    # --- what a backend says

    def _launch(self, task: Task) -> None:
        """Start a registered task, now or later. What it raises leaves `add_task`, and the task with it."""
        raise NotImplementedError

    def _close(self, wait: bool) -> None:
        """Free everything, once what runs is done. Called at least once, `wait`: return when nothing is left."""

    def _count_queued(self) -> int:
        """How many tasks could start, and have not: those that wait for parents are no reason to hold a producer back."""
        return len(self._waiting)

    # --- what it may say

    def _prepare(self, task: Task) -> None:
        """A task with parents was added: note its call as it is now. What it raises leaves `add_task`."""

    def _release(self, task: Task) -> None:
        """Its parents have succeeded: launch it."""
        self._launch(task)

    def _fall(self, task: Task, outcome: Outcome | None) -> None:
        """It is over without having run (None: it is cancelled)."""
        self._finish(task, outcome)

    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        raise NotImplementedError

    # --- the life of a task that has parents

    def _hold(self, task: Task, parents: Parents) -> None:
        """Launch a registered task once its parents are done."""
        task._parents = parents
        if self._waits_itself:
            parents.wait()
            parents.settle()
            return
        self._prepare(task)
        self._held[task.task_id] = parents
        parents.listen()

    def _settle(self, parents: Parents) -> None:
        """Its parents are done, or one has failed. Called by whoever has claimed it."""
        task = parents.task
        try:
            fit, outcome = parents.verdict()
            if fit:
                self._release(task)
            else:
                self._fall(task, outcome)
        except BaseException as error:
            if not task.done():
                self._fall(task, outcomes.failure(error, task.name))
            if not isinstance(error, Exception):
                raise
        finally:
            self._forget_parents(task)

    def _count_waiting(self) -> int:
        return self._count_queued() + len(self._held)

    def _withdraw(self, task: Task) -> bool:
        """Take a task that has not started out of the pool. Returns whether the caller owns its completion now."""
        return self._waiting.pop(task.task_id, None) is not None or self._take_held(task)

    def _take_held(self, task: Task) -> bool:
        """Take back a task whose parents are not done; returns whether the caller owns its completion now."""
        parents = self._held.get(task.task_id)
        return parents is not None and parents.claim()

    def _assist(self, task: Task, timeout: float | None) -> float | None:
        """Called before a wait for `task`: a worker of this pool must not wait for what only it could run, nor a callback for
        a task that its own thread is to launch. Returns what is left of the time."""
        if self._held and (parents := self._held.get(task.task_id)) is not None:
            parents.settle_if_due()
        return timeout

    def _forget_parents(self, task: Task) -> None:
        self._held.pop(task.task_id, None)
        if self._close_later and not self._held:
            self._close(False)

    def _close_soon(self) -> None:
        """Close without waiting, but not before the tasks that wait for parents have been launched."""
        self._close_later = True
        if not self._held:
            self._close(False)
