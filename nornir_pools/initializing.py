"""The initializer of a pool: a function that each of its workers calls before its first task, to load a model, say.

One that fails would fail in the next worker, too, so the pool runs no task any more, as executors of the standard library do.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import message
from . import outcome as outcomes
from .errors import ArgumentError, InitializerError, PoolKindError
from .outcome import Outcome

__all__ = ["Initializer", "Initializing"]


class Initializer:
    """``func(*args)`` for the workers of one pool."""

    def __init__(self, pool: str, func: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not callable(func):
            raise TypeError(
                f"pool {pool!r}: its initializer must be a function, not {func!r} (pass the function, not its result)"
            )
        self.error: InitializerError | None = None
        """What has become of the pool, once it has failed."""
        self.name = f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', repr(func))}".lstrip(".")
        self._pool = pool
        self._call = func, args
        self._called = False
        self._lock = threading.Lock()  # guards _called

    def dump(self) -> list[bytes]:
        """The call for another process, as it is now. Raises ArgumentError."""
        func, args = self._call
        try:
            return [bytes(part) for part in message.dump((func, args, {}))]
        except Exception as error:
            raise ArgumentError(
                f"pool {self._pool!r}: its initializer, {self.name}, or an argument of it cannot be sent to another process: "
                f"{type(error).__name__}: {error}"
            ) from error

    def call(self) -> None:
        """Call it in this thread; if it fails, `error` says so."""
        func, args = self._call
        self.note(outcomes.call(func, args, {}))

    def call_once(self) -> None:
        """The same, unless it was called already."""
        with self._lock:
            if not self._called:
                self._called = True
                self.call()

    def note(self, outcome: Outcome) -> None:
        """That is how it went in a worker."""
        error = outcome.error
        if error is not None:
            self.fail(f"{type(error).__qualname__}: {error}", error)

    def fail(self, why: str, cause: BaseException | None = None) -> None:
        """It has failed in a worker."""
        failure = InitializerError(
            f"pool {self._pool!r}: its initializer, {self.name}, has failed, so it runs no task any more: {why}\n"
            "Mend that, shut the pool down and ask for it again to get a new one",
            initializer=self.name,
        )
        failure.__cause__ = cause
        self.error = self.error or failure

    def failure(self) -> InitializerError:
        """The error, for one who asks. (One that is raised again and again would gather tracebacks.)"""
        assert self.error is not None
        twin = copy.copy(self.error)
        twin.__cause__ = self.error.__cause__
        return twin


class Initializing:
    """The part of a pool that knows what it was made with, beside a name and a number of workers."""

    _name: str

    def __init__(self, **given: Any) -> None:
        self._given = given
        self._initializer: Initializer | None = None
        if given.get("initializer") is not None:
            self._initializer = Initializer(self._name, given["initializer"], tuple(given.get("initargs", ())))

    def _check_initializer(self) -> None:
        """Raise InitializerError if the pool's initializer has failed."""
        if self._initializer is not None and self._initializer.error is not None:
            raise self._initializer.failure()

    def check_same_options(self, options: Mapping[str, Any]) -> None:
        """Raise PoolKindError if the pool was made with other values for any of these options."""
        for name, value in options.items():
            if not _are_same(self._given.get(name), value):
                raise PoolKindError(
                    f"pool {self._name!r} exists with {name}={self._given.get(name)!r}, and {name}={value!r} was asked for; "
                    "use with_options for single tasks, or another name"
                )


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, Iterable) and isinstance(other, Iterable) and not isinstance(one, (str, Mapping)):
        one, other = tuple(one), tuple(other)
    try:
        return bool(one == other)
    except ValueError:  # arrays, and not the same ones
        return False
