"""What all pools share. A pool turns a call into a Future; a backend only says how a call is launched, and how to close.

The life of a task, whatever the pool::

    add_task ── checks, makes the Task, registers it ──> _unfinished
                                                            │ _hold, until its parents are done: _held (holding.py)
                                                            │ _launch (the backend)
                            _waiting (queued, not started) ─┤
                                                            │ whoever takes the call out of _waiting owns the task
                                                            ▼
                        it runs somewhere ── Outcome ──> _finish: the Future is completed, the task is forgotten
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from . import outcome as outcomes
from .adding import PoolView
from .appearance import Appearance
from .errors import CommandError, OptionError, PoolClosedError, PoolError, WorkerDiedError
from .here import here
from .holding import Holding
from .hosts import default_workers
from .initializing import Initializing
from .kinds import PoolKind
from .members import PoolMembers
from .outcome import Outcome
from .parents import Parents, check_after, replace_tasks
from .progress import Watch
from .task import Task
from .tasks import Tasks, Unasked
from .turns import wait_in_turns

__all__ = ["PoolBase", "PoolKind", "here", "live_pools"]

logger = logging.getLogger("nornir_pools")
_T = TypeVar("_T", bound=Task)

WAITING_PER_WORKER = 32
"""`add_task` blocks while that many tasks for each worker wait: callers rely on it to bound their memory."""

_live: weakref.WeakSet[PoolBase] = weakref.WeakSet()


def live_pools() -> list[PoolBase]:
    """The pools of this process of which something may be left: threads, tasks, jobs."""
    return [pool for pool in list(_live) if not pool._over]


class PoolBase(Holding, Initializing, Appearance, PoolMembers):
    """A pool: a `concurrent.futures.Executor` whose Futures have names.

    `num_threads` is the most tasks that run at once (None: as many as this process may use CPUs, but few on a login node).
    Each worker calls `initializer` with `initargs` before its first task. Raises OptionError, or TypeError, for what is wrong.
    """

    kind = PoolKind.PROCESS
    _sends_calls = False  # to other processes, so that it is worth while to send several at once
    _ends_tasks = False  # that have had their time

    def __init__(self, name: str = "", num_threads: int | None = None, **given: Any) -> None:
        super().__init__()
        self._name = str(name)
        Initializing.__init__(self, **given)
        self.num_threads = num_threads if num_threads is not None else default_workers()
        if not isinstance(self.num_threads, int) or self.num_threads < 1:
            raise OptionError(f"num_threads of pool {self._name!r} must be a whole number of at least 1, not {num_threads!r}")
        self._lock = threading.Lock()  # guards _closed against registration: what is registered will be waited for
        self._closed = False
        self._over = False  # closed, and waited for: nothing of it is left
        self._unfinished: dict[int, Task] = {}  # registered, and not over
        self._added = 0  # all that were ever registered; guarded by _lock
        self._finishing: dict[int, Task] = {}  # their Futures are being completed: results are known, callbacks run
        self._tasks = Tasks(self)
        self._unasked = Unasked()
        self._changed = threading.Condition()  # told of ends and starts of tasks while so few are unfinished:
        self._told_below = 0
        self._waiters: list[int] = []  # whose largest that is; guarded by _changed
        self._on_close: Callable[[PoolBase], None] | None = None  # the registry's: forget the name
        _live.add(self)

    # --- what a backend says, beside what stands in holding.py

    def _waiting_for(self) -> str:
        """What the waiting tasks wait for, if that is known."""
        return ""

    # --- adding tasks

    def with_options(self, *, after: Any = (), **options: Any) -> PoolView:
        from .heeding import check_here  # a pool of threads has no other use for it

        check_here(options, self._name, ends_tasks=self._ends_tasks)
        return PoolView(self, options, check_after(after))

    def _add(
        self,
        kind: type[_T],
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        may_block: bool = True,
        options: dict[str, Any] | None = None,
        after: Sequence[Future[Any]] = (),
    ) -> _T:
        if not callable(func):
            raise TypeError(
                f"task {name!r} of pool {self._name!r}: {func!r} is not callable (pass the function, not its result)"
            )
        if may_block and self._count_queued() >= WAITING_PER_WORKER * self.num_threads:
            self._hold_back()
        args, kwargs, parents = replace_tasks(args, kwargs)
        task = kind(self, str(name), func, args, kwargs)
        if options:
            task.options = options
        with self._lock:
            if self._closed:
                raise PoolClosedError(f"pool {self._name!r} was shut down; ask for it again by its name to get a new one")
            if self._initializer is not None:
                self._check_initializer()
            self._unfinished[task.task_id] = task
            self._added += 1
        try:
            if parents or after:
                self._hold(task, Parents(task, parents, after))
            else:
                self._launch(task)
        except BaseException:
            self._held.pop(task.task_id, None)
            self._unfinished.pop(task.task_id, None)
            with self._lock:
                self._added -= 1
            self._tell()
            raise
        return task

    def _hold_back(self) -> None:
        """Block the producer until fewer tasks wait, unless it is itself what the pool would have to wait for."""
        if self in here.pools or here.callbacks:
            return
        limit = WAITING_PER_WORKER * self.num_threads
        # Until half of them are done: to wake the producer for each task would cost more than a short task does.
        few = limit // 2
        self._wait_until(lambda: self._closed or self._count_queued() <= few, few + self.num_threads)

    # --- completing tasks

    def cancel(self, task: Task, *, running: bool = False) -> bool:
        """Take a task of this pool back if it has not started, as ``task.cancel()``; returns whether it is cancelled now.

        With `running`, also end it if it has started: a command with its process group, a call with the worker process or
        job that runs it. Nothing else is lost by that: what else that worker had is run elsewhere. This blocks until the
        task has ended, except in a done-callback of this pool. A call that runs in a thread of this program cannot be
        ended: that is logged, and False returned. Raises PoolError if it is another pool's task.
        """
        if task._pool is not self:
            raise PoolError(f"{task!r} is no task of pool {self._name!r}: cancel it through its own pool")
        if not task.cancel() and running and not task.done():
            from .calling_off import end_running  # a pool that ends nothing need not load it

            end_running(self, task)
        return task.cancelled()

    def _end_running(self, task: Task) -> bool:
        """End what runs a task that has begun; returns False if it cannot be found just now. Raises PoolError if it never can.

        The task is completed as always, and is cancelled if its end was that of its process.
        """
        from .calling_off import end_here

        return end_here(task)

    def _has_begun(self, task: Task) -> bool:
        """Whether a task that is not done, and whose Future does not say so, has started."""
        return False

    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        """Complete the task's Future (None: it was cancelled). Called once, by the owner of the task."""
        self._finishing[task.task_id] = task
        self._tasks.remember(task)
        self._unfinished.pop(task.task_id, None)
        if self._held:
            self._forget_parents(task)
        if outcome is not None and (error := outcome.error) is not None:
            if task._called_off and isinstance(error, (CommandError, WorkerDiedError)):
                outcome = None  # it was ended because it is to be cancelled
            else:
                self._unasked.note(task.task_id, task.name, error)
        try:
            task._complete(outcome)
        finally:
            del self._finishing[task.task_id]
            if self._told_below:
                self._tell()

    def _was_asked(self, task: Task) -> None:
        """Its failure is known to the caller; and so is that of the parents that it tells of."""
        pool, task_id, blamed = self, task.task_id, task._blamed
        while pool._unasked.forget(task_id) and blamed is not None:
            pool, task_id, blamed = blamed

    def _tell(self) -> None:
        """Wake whoever waits for the pool to change. (_told_below is raised before the waiter looks: nothing is missed.)"""
        if len(self._unfinished) < self._told_below:
            with self._changed:
                self._changed.notify_all()

    def _wait_until(self, reached: Callable[[], bool], unfinished: int = 0, seconds: float | None = None) -> bool:
        """Block until that is so, which it cannot be while more tasks than `unfinished` are; returns False after `seconds`."""
        with self._changed:
            self._waiters.append(unfinished + 1)
            self._told_below = max(self._waiters)
            try:
                return wait_in_turns(lambda turn: self._changed.wait_for(reached, turn), seconds)
            finally:
                self._waiters.remove(unfinished + 1)
                self._told_below = max(self._waiters, default=0)

    # --- waiting and closing

    def wait_completion(self, *, check: bool = False) -> None:
        """Block until every task of the pool is done. Never raises a task's error: failures nobody asked about are logged.

        `check`: raises TasksFailedError with all of these instead, and commands whose exit status is not 0 are among them.
        A terminal or notebook shows a progress bar after a second (NORNIR_POOLS_PROGRESS=0: none).
        """
        if self in here.pools:
            raise PoolError(f"a task or callback of pool {self._name!r} called its wait_completion(): it would wait for itself")
        with Watch(self) as watch:
            while not self._wait_until(lambda: not self._unfinished and not self._finishing, seconds=watch.pause):
                watch.look()
        (self._unasked.check if check else self._unasked.log)(self._name)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse new tasks, let those added finish (`cancel_futures`: cancel what waits), and free everything.

        Blocks until nothing of the pool is left, or with ``wait=False`` returns at once and lets that happen. May be
        called more than once and from any thread.
        """
        self._refuse_tasks()
        if cancel_futures:
            for task in list(self._unfinished.values()):
                task.cancel()
        if wait:
            self.wait_completion()
            self._close(wait)
        else:
            self._close_soon()
        self._over = self._over or wait
        self._unasked.log(self._name)

    def terminate_workers(self) -> None:
        """End worker processes, if the pool has any, without waiting for them to end by themselves."""

    def abandon(self) -> None:
        """End what runs and cancel what waits, without waiting: for a program that was interrupted."""
        self._refuse_tasks()
        for task in list(self._unfinished.values()):
            task.cancel()
        self._close(wait=False)

    def _refuse_tasks(self) -> None:
        """No task is added any more, and who asks for the pool's name gets another."""
        with self._lock:
            self._closed = True
        with self._changed:
            self._changed.notify_all()  # who waits for room to add a task need not wait longer
        if self._on_close is not None:
            self._on_close(self)

    def _after_fork(self) -> None:
        """In a forked child the pool's threads do not exist: start anew, and fail what only the parent can finish."""
        orphans = list(self._unfinished.values())
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._waiters, self._told_below = [], 0
        for table in (self._unfinished, self._finishing, self._waiting, self._held):
            table.clear()
        self._unasked = Unasked()
        self._forget_workers()
        for task in orphans:
            task._condition = threading.Condition()
            error = PoolError(f"task {task.name!r} of pool {self._name!r} belongs to the process that this one was forked from")
            task._complete(outcomes.failure(error, task.name))

    def _forget_workers(self) -> None:
        """In a forked child: drop what belongs to the parent's workers."""
