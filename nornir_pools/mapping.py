"""What `map` needs: calls in groups, and their values in order. Loaded in worker processes too, so it imports little."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task

__all__ = ["call_each", "check_amounts", "chunks", "values"]


def check_amounts(chunksize: int, buffersize: int | None) -> None:
    """Raise ValueError or TypeError for what `map` cannot be given."""
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize!r}")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be a whole number or None, not {buffersize!r}")
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize must be at least 1 or None, not {buffersize!r}")


def chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """The arguments of the calls, by so many; with each chunk the number of its first call."""
    rest = iter(calls)
    first = 0
    while chunk := list(itertools.islice(rest, size)):
        yield first, chunk
        first += len(chunk)


def call_each(func: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """One task for several calls: their values."""
    return [func(*call) for call in calls]


def values(tasks: Iterator[Task], timeout: float | None, buffersize: int | None, *, several: bool) -> Iterator[Any]:
    """The values of the tasks, which are added as they are drawn from `tasks`: all of them now, or with `buffersize` so many
    and then one for each whose value was taken. `several`: a task's value is a list of values.

    When the iterator ends, in whatever way, tasks that have not started are cancelled.
    """
    end = None if timeout is None else time.monotonic() + timeout
    added: deque[Task] = deque()
    try:
        added.extend(itertools.islice(tasks, buffersize))
    except BaseException:  # it is not known how many are missing, so those that are there are of no use
        _cancel(added)
        raise
    return _in_order(added, tasks, buffersize is not None, end, timeout, several)


def _in_order(
    added: deque[Task], more: Iterator[Task], go_on: bool, end: float | None, timeout: float | None, several: bool
) -> Iterator[Any]:
    # (A generator only here, so that tasks were added before the first value is asked for.)
    try:
        while added:
            found = _values_of_next(added, end, timeout, several)
            if go_on:
                added.extend(itertools.islice(more, 1))
            while found:  # and nothing in here keeps a value alive that the caller has dropped
                yield found.pop()
    finally:
        _cancel(added)


def _values_of_next(added: deque[Task], end: float | None, timeout: float | None, several: bool) -> list[Any]:
    """Wait for the first of the tasks; its values, the last first."""
    task = added.popleft()
    try:
        value = task.result(None if end is None else end - time.monotonic())
    except TimeoutError:
        if task.done():  # the function itself has raised it
            raise
        from .condition import NotDoneError  # no worker needs it

        raise NotDoneError(f"map: task {task.name!r} of pool {task._pool.name!r} is not done after {timeout} s") from None
    else:
        return value[::-1] if several else [value]
    finally:
        task.cancel()  # if it is not done
        del task


def _cancel(tasks: deque[Task]) -> None:
    """The last first, since workers take the first."""
    while tasks:
        tasks.pop().cancel()
