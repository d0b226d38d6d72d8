"""A task is a `concurrent.futures.Future` with a name; a command task also has the command's exit status."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent import futures
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from .condition import Condition, NotDoneError, ends_within, run_callbacks
from .errors import CommandError, PoolError
from .members import CommandMembers, TaskMembers
from .outcome import Outcome, Unread
from .turns import wait_in_turns

if TYPE_CHECKING:
    from .base import PoolBase
    from .parents import Parents

__all__ = ["CommandTask", "SerialTask", "Task", "TaskWithEvent"]


class Task(futures.Future[Any], TaskMembers):
    """One call given to a pool. Made by ``pool.add_task`` and ``pool.submit``, never directly.

    Everything of `concurrent.futures.Future` works (``as_completed``, ``wait``, ``add_done_callback``, ``cancel``,
    ``asyncio.wrap_future``), and it can be awaited. Attributes of your own may be set on it.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    """The job options it was given through `with_options`."""
    facts: Mapping[str, Any] = MappingProxyType({})
    """Where and when it ran, once it is done: plain data such as host, pid, job, log (which of them depends on the pool)."""
    task_end_time: float | None = None

    _ids = itertools.count(1)
    _traceback: TracebackType | None = None
    _noted: Mapping[str, Any] = MappingProxyType({})  # what else the journal of a cluster pool's run is to have of it
    _parts: Sequence[Any] = ()  # the call, pickled, while it waits to be sent to another process
    _called_off = False  # what runs it is being ended for `PoolBase.cancel`: that is no failure
    _blamed: tuple[PoolBase, int, Any] | None = None  # the failed parent it was not run for: (pool, id, whom that blames)
    _parents: Parents | None = None  # whose values are to be filled into the call, until they are
    _unread: Unread | None = None  # its value, if nobody has asked for it yet
    _place: tuple[Any, dict[str, Any]] | None = None  # of a cluster's task: the run, and where its outcome is kept there

    def __init__(
        self, pool: PoolBase, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        # As futures.Future.__init__ does, which a test compares.
        self._condition: Any = Condition()
        self._state = "PENDING"
        self._result = self._exception = None
        self._waiters = []
        self._done_callbacks: list[Callable[[Any], object]] = []
        self.name = name
        self.task_id: int = next(Task._ids)
        """Increases with every task of this process."""
        self.func: Callable[..., Any] | None = func
        self.args = args
        """What the function gets; let go (empty) as soon as it was sent to another process or the task is done."""
        self.kwargs = kwargs
        self.task_start_time = time.monotonic()
        """When the task was made, in seconds of the monotonic clock; so are the end and the elapsed time."""
        self._pool = pool

    def __repr__(self) -> str:
        state = self._state.partition("_")[0].lower()
        if state == "finished":
            failed = self._exception is not None
            state += f" raised {type(self._exception).__name__}" if failed else f" returned {type(self._result).__name__}"
        return f"<{type(self).__name__} {self.task_id} {self.name!r} of pool {self._pool.name!r}: {state}>"

    @classmethod
    def generate_id(cls) -> int:
        """A fresh task id."""
        return next(Task._ids)

    @property
    def iscompleted(self) -> bool:
        """Whether the task is over, in whatever way. Never blocks and never raises."""
        return self.done()

    @property
    def elapsed_time(self) -> float:
        """Seconds from the making of the task to its end, or to now."""
        return (self.task_end_time or time.monotonic()) - self.task_start_time

    @property
    def elapsed_time_str(self) -> str:
        """The elapsed time as ``[H:]MM:SS.ss``."""
        minutes, seconds = divmod(round(self.elapsed_time, 2), 60)
        hours, minutes = divmod(int(minutes), 60)
        return (f"{hours}:" if hours else "") + f"{minutes:02d}:{seconds:05.2f}"

    def set_completion_time(self) -> None:
        """Note the end of the task; only the first call counts."""
        if self.task_end_time is None:
            self.task_end_time = time.monotonic()

    def wait(self, timeout: float | None = None) -> None:
        """Block until the task is over. Raises as `wait_return` does."""
        try:
            self.result(timeout)
        finally:
            del self

    def wait_return(self, timeout: float | None = None) -> Any:
        """Block until the task is over and return its value: what the function returned, or the stdout of a command.

        Raises the task's own exception, every time it is called; TimeoutError if it is not done within `timeout`
        seconds; CancelledError if it was cancelled.
        """
        try:
            return self.result(timeout)
        finally:
            del self

    def result(self, timeout: float | None = None) -> Any:
        """The same as `wait_return`."""
        if self._state != "FINISHED":  # the last state there is: nothing changes any more
            self._wait_until_done(timeout)
        if self._unread is not None:
            self._read()
        error = self._exception
        if error is None:
            return self._result
        self._pool._was_asked(self)
        try:
            # From where it was first raised: the traceback must not grow with every call, from whichever thread.
            raise error.with_traceback(self._traceback)
        finally:
            del error, self  # the traceback refers to this frame: leave no cycle behind

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's exception, or None if it succeeded. Blocks and raises TimeoutError and CancelledError as `result`."""
        if self._state != "FINISHED":
            self._wait_until_done(timeout)
        if self._unread is not None:
            self._read()
        if self._exception is not None:
            self._pool._was_asked(self)
        return self._exception

    def _get_snapshot(self) -> Any:
        """How newer versions of asyncio ask for all of it at once."""
        if self._state == "FINISHED":
            self.exception()
        return super()._get_snapshot()  # type: ignore[misc]  # only newer versions have it

    def _wait_until_done(self, timeout: float | None) -> None:
        left = self._pool._assist(self, timeout)
        try:
            if not wait_in_turns(functools.partial(ends_within, self), left):
                raise NotDoneError(f"task {self.name!r} of pool {self._pool.name!r} is not done after {timeout} s")
        except KeyboardInterrupt:
            # It may have come when the Future's lock was just taken, or about to be given back: kept, nothing could end it.
            with contextlib.suppress(RuntimeError):
                self._condition.release()
            raise

    def running(self) -> bool:
        """Whether the call is being executed (on a cluster: a job has taken it)."""
        return super().running() or (self._state == "PENDING" and self._pool._has_begun(self))

    def cancel(self) -> bool:
        """Take the task back if it has not started. Returns whether it is cancelled now.

        ``pool.cancel(task, running=True)`` also ends one that has.
        """
        # Exactly one party completes a Future: whoever takes the waiting call from the pool, here or in a worker.
        if self._pool._withdraw(self):
            self._pool._finish(self, None)
        return self.cancelled()

    def __reduce__(self) -> Any:
        raise TypeError(
            f"task {self.name!r} cannot be sent to another process: as an argument, or in a list, tuple or dict, it would be "
            "replaced by its value; elsewhere give its value, wait_return()"
        )

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def _take_call(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """The call, with the values of its parents, which the task lets go of."""
        assert self.func is not None
        func, args, kwargs, parents = self.func, self.args, self.kwargs, self._parents
        self._let_go()
        return (func, args, kwargs) if parents is None else (func, *parents.fill(args, kwargs))

    def _let_go(self) -> None:
        self.func, self.args, self.kwargs, self._parents = None, (), {}, None

    def _read(self) -> None:
        """Unpickle the value, for who asks for it first. (Without a lock: that may run anything.)"""
        outcome = None if (unread := self._unread) is None else unread.read()
        with self._condition:
            if outcome is None or self._unread is None:
                return  # another thread was faster, and all are to get the same object
            if outcome.error is None:
                self._result = outcome.value
            else:
                self._exception, self._traceback = outcome.error, outcome.error.__traceback__
            self._unread = None

    def _complete(self, outcome: Outcome | None) -> None:
        """Give the Future its outcome (None: it was cancelled) and run its callbacks."""
        if self.task_end_time is None:
            self.task_end_time = time.monotonic()
        if outcome is None:
            if self._state == "RUNNING":  # it was ended; `futures.Future` can only cancel what has not begun
                self._state = "PENDING"
            super().cancel()
        if outcome is None or self._state != "RUNNING":
            self.set_running_or_notify_cancel()
        self._let_go()
        if outcome is None:
            return
        self.facts = outcome.facts
        if outcome.place is not None:
            self._place = outcome.place
        if isinstance(outcome.value, Unread):
            self._unread, outcome.value = outcome.value, None
        if outcome.error is None:
            self.set_result(self._value_of(outcome.value))
        else:
            self._traceback = outcome.error.__traceback__
            self._note_error(outcome.error)
            self.set_exception(outcome.error)

    def _invoke_callbacks(self) -> None:
        if self._done_callbacks:  # no more will come: who adds one from now on runs it
            run_callbacks(self, self._pool, self._done_callbacks)

    def _value_of(self, value: Any) -> Any:
        return value

    def _note_error(self, error: BaseException) -> None:
        pass


class CommandTask(Task, CommandMembers):
    """A shell command given to a pool by ``add_process``. Its value is the command's stdout as text."""

    stdoutdata: str = ""
    """What the command printed, once it is done; bytes that are no UTF-8 are replaced."""
    stderrdata: str = ""
    _returncode: int | None = None

    def __init__(self, *call: Any) -> None:
        super().__init__(*call)
        self.cmd = self.args[0]
        """The command as it was given."""
        self._runner: int | None = None  # the thread that runs it

    def _take_call(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        self._runner = threading.get_ident()
        return super()._take_call()

    @property
    def returncode(self) -> int:
        """The command's exit status; minus the signal's number if a signal ended it. Waits for the end.

        Raises the task's own error if the command never gave a status (it could not be started, or its job was lost):
        such a failure must not be taken for a command that failed.
        """
        error = self.exception()
        if self._returncode is not None:
            self._pool._was_asked(self)
            return self._returncode
        if error is None:
            raise PoolError(f"command {self.name!r} of pool {self._pool.name!r} gave no exit status")
        raise error.with_traceback(self._traceback)

    @property
    def failed(self) -> bool:
        """Whether the command, once done, counts as failed: it raised, or its exit status is not 0. Never blocks."""
        return self.done() and (self.cancelled() or self._exception is not None or self._returncode != 0)

    def _value_of(self, value: Any) -> str:
        self._returncode, self.stdoutdata, self.stderrdata = value
        if self._returncode:
            self._pool._unasked.note_status(self.task_id, self.name, self._returncode)
        return self.stdoutdata

    def _note_error(self, error: BaseException) -> None:
        if isinstance(error, CommandError) or hasattr(error, "returncode"):  # also subprocess.CalledProcessError
            self._returncode = getattr(error, "returncode", None)
            self.stdoutdata, self.stderrdata = (getattr(error, name, None) or "" for name in ("stdout", "stderr"))


TaskWithEvent = SerialTask = Task  # upstream's names for tasks of some pools: here all have the same members
