"""What stands for the value of another task in the arguments of a call, until that value is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import message

__all__ = ["Stand", "load_call"]

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


def load_call(parts: Sequence[message.Buffer], values: Sequence[Any] = ()) -> Any:
    """Function, arguments and keyword arguments of a pickled call whose parents have these values."""
    global _values
    _values = values
    try:
        return message.load(parts)
    finally:
        _values = ()
