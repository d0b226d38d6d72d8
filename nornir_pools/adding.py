"""The ways to add a task: the same on every pool, and on a pool seen with options of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .task import CommandTask, Task

if TYPE_CHECKING:
    from .base import PoolBase

__all__ = ["Adding", "PoolView"]

_T = TypeVar("_T", bound=Task)


class Adding(futures.Executor):
    """What takes calls and commands. Everything ends in `_add`."""

    num_threads: int

    @property
    def _max_workers(self) -> int:
        """The standard library's name for `num_threads`, which dask goes by."""
        return self.num_threads

    _sends_calls: bool  # of the pool

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
        after: Sequence[futures.Future[Any]] = (),
    ) -> _T:
        raise NotImplementedError

    def _command_environment(self) -> dict[Any, Any] | None:
        """The environment a command gets, of this moment. None: the pool carries it to where the command runs."""
        from .command import environment

        return environment()

    def add_task(self, name: str, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """Have ``func(*args, **kwargs)`` run and return its task.

        An argument that is a task, of this pool or another, is replaced by its value; so is one in a list, tuple or dict. Then
        the call is run once these parents are done. If one fails, or is cancelled, so is this task (ParentFailedError).

        Blocks while 32 × `num_threads` tasks wait, so that a loop over a large volume does not fill the memory (not in
        a task of this pool, nor in a done-callback). Raises TypeError if `func` is not callable or the call cannot be
        pickled, PoolClosedError after `shutdown`.
        """
        return self._add(Task, name, func, args, kwargs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """As ``concurrent.futures.Executor.submit``: `add_task` without a name that never blocks."""
        return self._add(Task, _name_of(fn), fn, args, kwargs, may_block=False)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As ``concurrent.futures.Executor.map``: an iterator over the values of the calls, in order.

        All calls are added at once, and none blocks; with `buffersize` at most so many tasks are ahead of the iterator.
        `chunksize` calls make one task, where tasks go to other processes: for many short calls; if one of them fails, so
        does the task. Ending the iteration early, by an exception or ``close()``, cancels what has not started.

        Iterating raises the exception of a call in its place, and TimeoutError if a value is not there `timeout` seconds
        after this call.
        """
        from . import mapping

        mapping.check_amounts(chunksize, buffersize)
        calls: Iterable[tuple[Any, ...]] = zip(*iterables)  # noqa: B905 - as of map: until the shortest ends
        several = chunksize > 1 and self._sends_calls
        if several:
            tasks = (
                self._add(
                    Task, f"{_name_of(fn)}[{first}:{first + len(chunk)}]", mapping.call_each, (fn, chunk), {}, may_block=False
                )
                for first, chunk in mapping.chunks(calls, chunksize)
            )
        else:
            tasks = (self.submit(fn, *call) for call in calls)
        return mapping.values(tasks, timeout, buffersize, several=several)

    def add_process(self, name: str, command: Any, /, **kwargs: Any) -> CommandTask:
        """Have a shell command run and return its task, whose value is the command's stdout and `returncode` its status.

        The keyword arguments are those of ``subprocess.run`` (``shell`` is True unless given). The command runs in the
        working folder and environment of this moment; libraries in it are told how many CPUs are its own, by OMP_NUM_THREADS
        and its like where these are not set. An exit status above 0 raises nothing unless ``check=True``.
        """
        from .command import check_arguments, run_command  # and with it subprocess and tempfile

        check_arguments(command, kwargs)
        kwargs["cwd"] = os.path.join(os.getcwd(), kwargs["cwd"]) if kwargs.get("cwd") is not None else os.getcwd()
        if kwargs.get("env") is None:
            kwargs["env"] = self._command_environment()
        return self._add(CommandTask, name, run_command, (command,), kwargs)

    def abandon(self) -> None:
        """End what runs and cancel what waits, without waiting: for a program that was interrupted."""
        raise NotImplementedError

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for the tasks and close; if Ctrl-C has ended the ``with`` block, or ends the wait, end what runs instead."""
        try:
            if kind is None or not issubclass(kind, KeyboardInterrupt):
                self.shutdown()
                return
        except KeyboardInterrupt:
            self.abandon()
            raise
        self.abandon()

    def with_options(self, *, after: Any = (), **options: Any) -> PoolView:
        """A view of this pool, with job options of their own for the tasks that are added through it.

        `after`: a task or future, or several, that have to succeed before these tasks start, which get nothing of them.

        A pool of this machine takes them too and has no use for them, so that a script can move to a cluster; but for
        `task_timeout`, which pools of worker processes heed, and those of threads refuse.
        Raises OptionError for a name that is no option.
        """
        raise NotImplementedError

    def share(self, value: Any) -> Any:
        """What to pass to many tasks in place of `value`, so that it is sent once instead of with every task."""
        return value


def _name_of(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", "task")


class PoolView(Adding):
    """A pool with options of their own for the tasks added through it; all else is the pool's."""

    def __init__(self, pool: PoolBase, options: dict[str, Any], after: Sequence[futures.Future[Any]] = ()) -> None:
        self._pool = pool
        self._options = options
        self._after = after

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
        after: Sequence[futures.Future[Any]] = (),
    ) -> _T:
        after = (*self._after, *after)
        return self._pool._add(kind, name, func, args, kwargs, may_block=may_block, options=self._options, after=after)

    def _command_environment(self) -> dict[Any, Any] | None:
        return self._pool._command_environment()

    def with_options(self, *, after: Any = None, **options: Any) -> PoolView:
        """The same pool with these options on top of the view's."""
        return self._pool.with_options(after=self._after if after is None else after, **{**self._options, **options})

    def share(self, value: Any) -> Any:
        """As of the pool itself."""
        return self._pool.share(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the pool itself down."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def abandon(self) -> None:
        """Abandon the pool itself."""
        self._pool.abandon()
