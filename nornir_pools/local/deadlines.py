"""The limits on how long tasks may take, of a pool whose workers are processes: a thread ends what has had its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import outcome as outcomes
from ..errors import CommandError, WorkerDiedError
from ..limits import timeout_error
from ..outcome import Outcome
from ..task import CommandTask, Task

__all__ = ["Deadlines"]

_PAUSE = 0.02  # seconds from one try to end a task to the next: it may be just between being sent and being begun


@dataclass
class _Deadline:
    task: Task
    seconds: float
    due: float
    late: bool = False


class Deadlines:
    """Those of one pool's tasks that run now. `end` ends what runs a task, and returns False if it does not find it.

    The thread is there as long as there is something to watch.
    """

    def __init__(self, pool: str, end: Callable[[Task], bool]) -> None:
        self._pool = pool
        self._end = end
        self._changed = threading.Condition()  # guards what follows, and tells the thread of it
        self._running: dict[int, _Deadline] = {}  # by task id
        self._thread: threading.Thread | None = None

    def begin(self, task: Task, seconds: float) -> None:
        """The task begins to run, and may do so for that long."""
        with self._changed:
            self._running[task.task_id] = _Deadline(task, seconds, time.monotonic() + seconds)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name=f"{self._pool}-deadlines", daemon=True)
                self._thread.start()
            else:
                self._changed.notify()

    def judge(self, task: Task, outcome: Outcome | None) -> Outcome | None:
        """The task is over: returns its outcome, which is TaskTimeoutError if it was ended here."""
        with self._changed:
            deadline = self._running.pop(task.task_id, None)
            if not self._running:
                self._changed.notify()
        if deadline is None or not deadline.late or outcome is None:
            return outcome
        if not isinstance(outcome.error, (CommandError, WorkerDiedError)):
            return outcome  # it was faster
        what = "the command, with its process group," if isinstance(task, CommandTask) else "the worker process that ran it"
        return outcomes.failure(timeout_error(task.name, self._pool, deadline.seconds, what), task.name)

    def join(self) -> None:
        """All tasks are over: wait for the thread's end."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _watch(self) -> None:
        while (due := self._next()) is not None:
            for deadline in due:
                self._end(deadline.task)

    def _next(self) -> list[_Deadline] | None:
        """Wait until tasks are to be ended; None if none runs any more."""
        with self._changed:
            while self._running:
                now = time.monotonic()
                due = [deadline for deadline in self._running.values() if deadline.due <= now]
                for deadline in due:
                    deadline.late, deadline.due = True, now + _PAUSE
                if due:
                    return due
                self._changed.wait(min(deadline.due for deadline in self._running.values()) - now)
            self._thread = None
            return None
