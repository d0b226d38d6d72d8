"""What can be asked of workers that are processes: to be set up before their first task, replaced, and ended in time."""

from __future__ import annotations

import os
import threading
from typing import Any

from .. import outcome as outcomes
from ..adding import PoolView
from ..deaths import tell_death
from ..errors import InitializerError, WorkerDiedError
from ..heeding import check_limits
from ..limits import Limits
from ..outcome import Outcome
from ..poolbase import LocalThreadPoolBase
from ..task import Task
from .companion import Companion
from .deadlines import Deadlines

__all__ = ["LimitedPool"]


class LimitedPool(LocalThreadPoolBase):
    """The part of a pool of worker processes that knows its initializer and its limits.

    What else may be `given` are `initializer` and `initargs`, and the options that `Limits` has.
    """

    _ends_tasks = True

    def __init__(self, name: str = "", num_threads: int | None = None, **given: Any) -> None:
        super().__init__(name, num_threads, **given)
        self._companions: dict[int, Companion] = {}  # by thread id
        self._limits = Limits.of(given)
        check_limits(self._limits._asdict())
        self._initial = None if self._initializer is None else self._initializer.dump()
        self._deadlines: Deadlines | None = None  # once there is a task_timeout
        if self._limits.task_timeout is not None:
            self._limit_time()

    def _end_process(self, task: Task) -> bool:
        """End the process that runs the task; returns False if there is none just now."""
        raise NotImplementedError

    def with_options(self, *, after: Any = (), **options: Any) -> PoolView:
        view = super().with_options(after=after, **options)
        if options.get("task_timeout") is not None:
            self._limit_time()
        return view

    def _limit_time(self) -> None:
        with self._lock:
            self._deadlines = self._deadlines or Deadlines(self._name, self._end_process)
            self._initial = self._initial or []  # a worker's start is no part of a task's time

    @property
    def _is_limited(self) -> bool:
        """Whether tasks have to be told from each other: then none travels with others."""
        return self._deadlines is not None or self._limits != Limits()

    def _begins(self, task: Task) -> None:
        """The task is about to run."""
        if self._deadlines is not None:
            seconds = task.options.get("task_timeout", self._limits.task_timeout)
            if seconds is not None:
                self._deadlines.begin(task, seconds)

    def _greet(self, companion: Companion) -> None:
        """Wait until a worker is ready. Raises InitializerError if its initializer has failed; then the worker is gone."""
        greeting = companion.greeting()
        if self._initializer is None or (greeting is not None and greeting[0]["ok"]):
            return  # (one that has died will be found dead)
        exitcode = companion.end()
        if greeting is not None:
            self._initializer.note(outcomes.thaw(*greeting, self._initializer.name))
        else:
            died = tell_death(exitcode, companion.oom_before)
            self._initializer.fail(f"the worker process {companion.process.pid} that called it {died}")
        self._check_initializer()

    def _companion(self) -> Companion:
        """This thread's worker process, started if there is none, or no more."""
        self._check_initializer()
        me = threading.get_ident()
        companion = self._companions.get(me)
        if companion is not None and (companion.doomed or not companion.alive):
            companion.end()
            companion = None
        if companion is None:
            environment = {**os.environ, **self._thread_counts()}
            companion = self._companions[me] = Companion(f"{self._name}-worker", environment, self._initial)
            if companion.greets:
                try:
                    self._greet(companion)
                except InitializerError:
                    del self._companions[me]
                    raise
        return companion

    def _cannot_start(self, task: Task, error: Exception) -> WorkerDiedError:
        hint = "; set TMPDIR to a shorter path" if "AF_UNIX path too long" in str(error) else ""
        result = WorkerDiedError(f"task {task.name!r} of pool {self._name!r}: no worker process can be started: {error}{hint}")
        result.__cause__ = error.with_traceback(None)
        return result

    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        if self._deadlines is not None:
            outcome = self._deadlines.judge(task, outcome)
        super()._finish(task, outcome)

    def _close(self, wait: bool) -> None:
        super()._close(wait)
        if wait and self._deadlines is not None:
            self._deadlines.join()

    def _thread_begins(self) -> None:
        pass  # it is the processes that call the initializer

    def _forget_workers(self) -> None:
        super()._forget_workers()
        self._deadlines = self._deadlines and Deadlines(self._name, self._end_process)
