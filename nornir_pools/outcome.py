"""An outcome: the value or the exception of one call, able to cross to another process without being lost on the way.

Whatever a task does, there is an outcome: a value that cannot be pickled becomes a ResultError that says so, and an
exception whose pickle does not load again (a constructor of its own, a lock inside) is rebuilt from its parts or, last,
replaced by a ResultError that carries its text. That is tried where the task ran, so that the reader never fails.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from . import message
from .errors import PoolError, RemoteTraceback, ResultError, TaskExitError, TaskInterruptedError

_PACKAGE = os.path.dirname(__file__) + os.sep

__all__ = ["Outcome", "Unread", "call", "error_text", "failure", "freeze", "host_name", "thaw"]


class Outcome:
    """How one call ended. `error` is None for success; `facts` (plain data) say where and when it ran."""

    __slots__ = ("error", "facts", "place", "value")

    def __init__(self, value: Any = None, error: BaseException | None = None, facts: dict[str, Any] | None = None) -> None:
        self.value = value
        self.error = error
        self.facts: dict[str, Any] = {} if facts is None else facts
        self.place: tuple[Any, dict[str, Any]] | None = None  # where it is kept, for tasks that its value is an argument of


class Unread:
    """Stands for an outcome's value that is not unpickled before somebody asks for it."""

    def __init__(self, facts: dict[str, Any], parts: Sequence[message.Buffer], name: str) -> None:
        self._facts = facts
        self._parts = parts
        self._name = name

    def read(self) -> Outcome:
        """The outcome with the value, or with an error that says why there is none. Never raises."""
        return thaw(self._facts, self._parts, self._name)


def call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    """Run ``func(*args, **kwargs)``. Never raises: SystemExit and KeyboardInterrupt of a task are its outcome as well."""
    try:
        return Outcome(value=func(*args, **kwargs))
    except BaseException as error:
        error.__traceback__ = _users_part(error.__traceback__)
        return Outcome(error=_as_task_error(error))


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not this package's; all of it if there is no such frame."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        inner = inner.tb_next
    return inner or trace


def _as_task_error(error: BaseException) -> BaseException:
    """A task must not be able to end, or seem to interrupt, the script that waits for it."""
    replacement: PoolError
    if isinstance(error, SystemExit):
        replacement = TaskExitError(
            f"the task called sys.exit({'' if error.code is None else repr(error.code)}); return or raise instead",
            code=error.code,
        )
    elif isinstance(error, KeyboardInterrupt):
        replacement = TaskInterruptedError("the task itself raised KeyboardInterrupt; nobody interrupted this program")
    else:
        return error
    replacement.__cause__ = error
    return replacement.with_traceback(error.__traceback__)


def freeze(outcome: Outcome, name: str) -> tuple[dict[str, Any], list[message.Buffer]]:
    """The outcome ready to be sent: facts (plain data) and pickled parts, made where the task ran.

    Never raises for what the task returned or raised.
    """
    if outcome.error is None:
        try:
            return {**outcome.facts, "ok": True}, message.dump(outcome.value)
        except Exception as error:
            outcome = Outcome(
                error=_unsendable(f"the result of task {name!r}", type(outcome.value), error), facts=outcome.facts
            )
    assert outcome.error is not None
    text = _format(outcome.error)
    facts = {**outcome.facts, "ok": False, "error": error_text(outcome.error), "traceback": text}
    facts.setdefault("host", host_name())
    facts.setdefault("pid", os.getpid())
    return facts, message.dump(_sendable(outcome.error, name, text))


def thaw(facts: dict[str, Any], parts: Sequence[message.Buffer], name: str) -> Outcome:
    """The outcome that `freeze` made in another process. Never raises for what stands in it."""
    try:
        value = message.load(parts)
        if facts["ok"]:
            return Outcome(value=value, facts=facts)
        error = value if isinstance(value, BaseException) else _rebuild(*value)
    except Exception as problem:
        what = f"{'the result' if facts['ok'] else 'the exception'} of task {name!r} could not be read here"
        error = ResultError(f"{what}: {error_text(problem)}\n{facts.get('error', '')}".rstrip(), task=name)
        if facts["ok"]:
            error.__cause__ = problem.with_traceback(None)
            return Outcome(error=error, facts=facts)
    place = f"in process {facts['pid']} on {facts['host']}" + (f", job {facts['job']}" if facts.get("job") else "")
    log = f" (log: {facts['log']})" if facts.get("log") else ""
    error.__cause__ = RemoteTraceback(f"Task {name!r} failed {place}{log}:\n{facts['traceback']}")
    return Outcome(error=error, facts=facts)


def failure(error: BaseException, name: str) -> Outcome:
    """The outcome of a task whose process could not give one."""
    return Outcome(error=error, facts={"ok": False, "error": error_text(error), "name": name, "finished": time.time()})


def host_name() -> str:
    """The name of this machine."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def _sendable(error: BaseException, name: str, text: str) -> BaseException | tuple[Any, ...]:
    """The exception, or the parts to rebuild it from, or a ResultError: the first of them that survives the trip."""
    candidates: list[Callable[[], Any]] = [lambda: error, lambda: (type(error), error.args, error.__dict__)]
    for candidate in candidates:
        try:
            trial = message.load(message.dump(candidate()))
            if not isinstance(trial, BaseException):
                trial = _rebuild(*trial)
            if type(trial).__qualname__ == type(error).__qualname__ and str(trial) == str(error):
                return candidate()  # type: ignore[no-any-return]  # what one of them gives is what was pickled
        except Exception:
            continue
    return ResultError(
        f"task {name!r} raised {error_text(error)}, an exception that cannot be sent to another process\n{text}",
        task=name,
    )


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """An exception without its constructor being called: ``BaseException.__new__`` sets `args` by itself."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def _unsendable(what: str, kind: type, error: Exception) -> ResultError:
    result = ResultError(
        f"{what} is a {kind.__qualname__}, which cannot be sent to another process ({error_text(error)}); "
        "return plain data, an array or a path instead",
        type=kind.__qualname__,
    )
    result.__cause__ = error.with_traceback(None)
    return result


def _format(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as problem:  # a __str__ that raises must not lose the outcome
        return f"{type(error).__qualname__} (its text cannot be shown: {type(problem).__qualname__})\n"


def error_text(error: BaseException) -> str:
    """The exception's type, and its text if it has one. Never raises."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__
