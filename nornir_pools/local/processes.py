"""Calls on worker processes of this machine.

Each thread of the pool has a companion, a worker process, and a pipe to it::

    add_task ─ message ─> queue ─> thread ─ pipe ─> worker process: func(*args) ─ outcome ─> pipe ─> thread ─> Future

The call is pickled in `add_task` (the task sees the values of that moment), large arrays into memory that the worker maps
(`memory`): only a descriptor of it goes through the pipe. So it is with large results. A worker that dies costs the task it
was running; its thread starts another for the next one.
"""

from __future__ import annotations

import functools
import threading
import time
from queue import Empty
from typing import Any

from .. import outcome as outcomes
from ..base import PoolKind
from ..deaths import death_error
from ..errors import InitializerError, PoolClosedError
from ..outcome import Outcome
from ..starting import context
from ..task import CommandTask, Task
from .companion import GROUPS, Companion
from .limited import LimitedPool
from .memory import MemoryFile
from .servers import stop_servers
from .shared import Store

__all__ = ["ProcessPool", "stop_servers"]

_SHORT = 0.001  # seconds: tasks that take less, by the last ones, travel in groups
_GROUP = 64  # tasks: most of a group
_ROOM = 1 << 15  # bytes: what a pipe takes without being read, at the least
_FILE = _ROOM // 4  # as so many bytes counts a file: a user may have only so many of them on their way at once


def _size(task: Task) -> int:
    return sum(_FILE if isinstance(part, MemoryFile) else len(part) for part in task._parts)


class ProcessPool(LimitedPool):
    """Runs calls on `num_threads` worker processes; commands, being processes of their own, are watched by its threads."""

    kind = PoolKind.PROCESS
    _sends_calls = True

    def __init__(self, name: str = "", num_threads: int | None = None, **given: Any) -> None:
        super().__init__(name, num_threads, **given)
        self._seconds = 1.0  # how long a task takes, by the last ones
        self._store = Store(self._name)

    @functools.cached_property
    def lock(self) -> Any:
        """A lock that processes can be given when they are started. (Upstream's: the pool does without.)"""
        return context.Lock()

    def _launch(self, task: Task) -> None:
        if not isinstance(task, CommandTask):
            task._parts = self._store.pack(task)
        super()._launch(task)

    def _withdraw(self, task: Task) -> bool:
        """Also from a worker that has it, but has not begun it."""
        if super()._withdraw(task):
            return True
        for companion in list(self._companions.values()):
            if companion.outstanding > 1 and companion.has(task):
                for other in (tasks := companion.take_back()):
                    if other is not task:
                        super()._launch(other)
                return task in tasks
        return False

    def _end_running(self, task: Task) -> bool:
        # (If it cannot be cancelled, whatever else its worker had not begun was taken back.)
        return (not isinstance(task, CommandTask) and task.cancel()) or self._end_process(task)

    def _end_process(self, task: Task) -> bool:
        """End the process that runs the task; returns False if there is none just now."""
        if isinstance(task, CommandTask):
            return super()._end_running(task)
        for companion in list(self._companions.values()):
            if companion.doom(task):
                companion.kill()
                return True
        return False  # its worker is being started, or its outcome is on its way

    def _has_begun(self, task: Task) -> bool:
        return any(companion.runs(task) for companion in list(self._companions.values()))

    def _prepare(self, task: Task) -> None:
        if not isinstance(task, CommandTask):
            self._store.freeze(task)

    def _release(self, task: Task) -> None:
        super()._launch(task)  # the thread that takes it fills in the values of its parents

    def _fill(self, task: Task) -> bool:
        """Have a task that had parents be ready to be sent; returns False if that cannot be, and the task has failed."""
        if task._parents is not None:
            try:
                task._parts = self._store.fill(task)
            except Exception as error:
                self._finish(task, outcomes.failure(error, task.name))
                return False
        return True

    def share(self, value: Any) -> Any:
        """What to pass to many tasks of this pool in place of `value`: it is stored once, as it is now, and mapped read-only.

        The memory is given back when the pool is shut down. Raises what pickling raises, PoolClosedError after `shutdown`.
        """
        if self._closed:
            raise PoolClosedError(f"pool {self._name!r} was shut down; ask for it again by its name to get a new one")
        return self._store.share(value)

    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        task._parts = ()
        super()._finish(task, outcome)
        if not self._unfinished:
            self._store.spare.clear()  # nothing to do: the memory is given back

    def _close(self, wait: bool) -> None:
        super()._close(wait)
        if wait:  # else tasks may still be sent
            self._store.close()

    def _next(self) -> int | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            self._relieve()
            return self._queue.get()

    def _relieve(self) -> None:
        """This thread has nothing to do: let it have what waits behind another worker's task."""
        for companion in list(self._companions.values()):
            if companion.outstanding > 1 and (tasks := companion.take_back()):
                for task in tasks:
                    super()._launch(task)
                return

    def _run(self, task: Task) -> None:
        if isinstance(task, CommandTask):  # is a process of its own already
            self._begins(task)
            super()._run(task)
            return
        task.set_running_or_notify_cancel()
        if not self._fill(task):
            return
        group = [task, *self._more(_ROOM - _size(task))]
        if self._told_below:
            with self._changed:  # not by _tell: what is sent is unfinished, but waits no more, and others may be added
                self._changed.notify_all()
        while group:
            group = self._run_group(group)

    def _more(self, room: int) -> list[Task]:
        """Further tasks to send along: while tasks are short, this thread's share of those that wait.

        They must fit into the pipe (`room` bytes), or this thread could wait for the worker to read a call while the
        worker waits for this thread to read a result.
        """
        may = self._seconds < _SHORT and GROUPS and not self._is_limited
        count = min(_GROUP, len(self._waiting) // self.num_threads) if may else 0
        tasks: list[Task] = []
        while len(tasks) < count and room > 0:
            try:
                task_id = self._queue.get_nowait()
            except Empty:
                break
            if task_id is None:
                self._queue.put(None)
                break
            task = self._waiting.pop(task_id, None)
            if isinstance(task, CommandTask):
                super()._launch(task)
            elif task is not None and self._fill(task):
                tasks.append(task)
                room -= _size(task)
        return tasks

    def _run_group(self, group: list[Task]) -> list[Task]:
        """Have the companion run these tasks, and finish them; returns what is left to be run if it dies."""
        try:
            companion = self._companion()
        except Exception as error:
            for task in group:
                why = error if isinstance(error, InitializerError) else self._cannot_start(task, error)
                self._finish(task, outcomes.failure(why, task.name))
            return []
        begun = time.monotonic()
        self._begins(group[0])  # there are no others where time is limited
        companion.send([(task, task._parts) for task in group])
        count = len(group)
        del group
        left = self._finish_sent(companion)
        if self._companions.get(threading.get_ident()) is not companion:  # it has died
            return left
        self._seconds = 0.5 * (self._seconds + (time.monotonic() - begun) / count)
        if self._limits.has_served(companion.answered, companion.process.pid):
            self._thread_ends()  # as if it did: the next task gets another process
        return []

    def _finish_sent(self, companion: Companion) -> list[Task]:
        """Finish what the companion was sent, as it answers; returns what is left to be run if it dies."""
        while companion.outstanding:
            answer = companion.receive()
            if answer is None:
                return self._bury(companion)
            task, facts, parts, done_with = answer
            if done_with:
                self._store.reuse(task._parts)
            self._finish(task, outcomes.thaw(facts, parts, task.name))
            del task, answer, parts
        return []

    def _assist(self, task: Task, timeout: float | None) -> float | None:
        companion = self._companions.get(threading.get_ident())
        if companion is not None and companion.has(task):  # a done-callback waits for what only this thread can finish
            left = self._finish_sent(companion)
            while left:
                left = self._run_group(left)
        return super()._assist(task, timeout)

    def _bury(self, companion: Companion) -> list[Task]:
        """The worker died: fail the task that it was running; returns those it had not begun."""
        del self._companions[threading.get_ident()]
        unbegun = companion.take_back(dead=True)
        begun = companion.remains()
        if not begun and (companion.doomed or not companion.answered) and unbegun:
            begun = [unbegun.pop(0)]  # it died before it could begin: once more might be for ever, or was not wanted
        exitcode = companion.end()
        for task in begun:
            what = f"task {task.name!r} of pool {self._name!r}: the worker process {companion.process.pid} that ran it"
            error = death_error(what, exitcode, companion.oom_before)
            self._finish(task, outcomes.failure(error, task.name))
        return unbegun

    def _thread_ends(self) -> None:
        companion = self._companions.pop(threading.get_ident(), None)
        if companion is not None:
            companion.end()

    def terminate_workers(self) -> None:
        """End the worker processes now; what they were running fails with WorkerDiedError."""
        companions = list(self._companions.values())
        for companion in companions:
            companion.process.terminate()
        for companion in companions:
            companion.wait(1.0)  # time to end the commands it had started
            companion.process.kill()

    def abandon(self) -> None:
        super().abandon()
        self.terminate_workers()

    def _forget_workers(self) -> None:
        super()._forget_workers()
        self._companions = {}
