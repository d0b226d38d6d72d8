"""Calls, pickled, and what stands in their arguments for the values of other tasks until these are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import message
from .errors import ArgumentError

if TYPE_CHECKING:
    from .task import Task

__all__ = ["Stand", "dump_call", "load_call"]

_values: Sequence[Any] = ()  # in a process that runs tasks: for the call that is being unpickled


class Stand:
    """The value of the parent with that index; unpickled, it is the value itself."""

    __slots__ = ("index", "name")

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _value_of, (self.index,)

    def __repr__(self) -> str:
        return f"<the value of task {self.name!r}>"


def _value_of(index: int) -> Any:
    return _values[index]


def dump_call(task: Task, replace: Callable[[Any], Any] | None = None) -> list[message.Buffer]:
    """The task's call, pickled, of which the task lets go; `replace` may give something else for an argument.

    Raises ArgumentError if it cannot be pickled.
    """
    args, kwargs = task.args, task.kwargs
    if replace is not None:
        args = tuple(map(replace, args))
        kwargs = {name: replace(value) for name, value in kwargs.items()}
    try:
        parts = message.dump((task.func, args, kwargs))
    except Exception as error:
        from concurrent.futures import Future  # no worker needs it

        foreign = any(isinstance(value, Future) for value in (*args, *kwargs.values()))
        hint = "; a Future of another executor stands for nothing here: give its result()" if foreign else ""
        raise ArgumentError(
            f"task {task.name!r} of pool {task._pool.name!r}: the function or an argument cannot be sent to another process: "
            f"{type(error).__name__}: {error}{hint}"
        ) from error
    task.func, task.args, task.kwargs = None, (), {}  # not its parents: their values are to come
    return parts


def load_call(parts: Sequence[message.Buffer], values: Sequence[Any] = ()) -> Any:
    """Function, arguments and keyword arguments of a pickled call whose parents have these values."""
    global _values
    _values = values
    try:
        return message.load(parts)
    finally:
        _values = ()
