"""When a run is not worth going on with: its first tasks all fail alike, or too many have failed."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import PoolError, TasksFailedError
from ..outcome import Outcome
from ..task import CommandTask, Task

if TYPE_CHECKING:
    from .history import PastTask

__all__ = ["Failures"]

logger = logging.getLogger("nornir_pools")


class Failures:
    """Counts the failed tasks of one run. `stop_after` and `max_failures` are the pool's options."""

    def __init__(self, pool: str, stop_after: int, max_failures: int | None) -> None:
        self.error: PoolError | None = None
        """Why the pool has stopped, once it has."""
        self._pool = pool
        self._stop_after = stop_after  # 0 as well once two tasks have ended differently
        self._max_failures = max_failures
        self._failed = 0
        self._kind = ""  # of the first failure
        self._first = ("", "", "")  # of it: the task's name, the error's text, and where its log is

    def note(self, task: Task, outcome: Outcome) -> bool:
        """A task has ended; returns whether that was one failure too many."""
        if self.error is not None:
            return False
        text, kind = _failure(task, outcome)
        self._count(task.name, text, kind, str(outcome.facts.get("log") or getattr(outcome.error, "log", "")))
        if (error := self._verdict()) is not None:
            self.stop(error)
        return error is not None

    def _count(self, name: str, text: str, kind: str, log: str) -> None:
        if not self._failed:
            self._kind = kind
            self._first = (name, text, log)
        if not text or kind != self._kind:
            self._stop_after = 0
        if text:
            self._failed += 1

    def restore(self, tasks: Iterable[PastTask]) -> None:
        """Count the tasks of a run that another process has seen end: the next to end are not the first."""
        for past in tasks:
            ended, given_up = past.outcome, past.error
            if ended is not None:
                text = ended["error"] if not ended["ok"] else f"exit status {ended['status']}" if ended.get("status") else ""
                self._count(past.name, text, text if ended["ok"] else _alike(text, past.name), ended.get("log", ""))
            elif given_up is not None and given_up["parts"].get("job_id"):  # (those that were never run do not count)
                text = f"{given_up['kind']}: {given_up['error']}"
                self._count(past.name, text, _alike(text, past.name), given_up["parts"].get("log", ""))

    def stop(self, error: PoolError) -> None:
        """The pool has stopped, for this or another reason."""
        self.error = error
        logger.error("%s", error)

    def check(self) -> None:
        """Raise TasksFailedError, or BudgetSpentError, if the pool has stopped."""
        if self.error is not None:
            raise copy.copy(self.error)  # an error that is raised again and again would gather tracebacks

    def _verdict(self) -> TasksFailedError | None:
        if self._stop_after and self._failed >= self._stop_after:
            why = f"its first {self._failed} tasks all failed alike"
            advice = "stop_after=0 has a pool go on whatever fails"
        elif self._max_failures is not None and self._failed >= self._max_failures:
            why = f"{self._failed} of its tasks have failed (max_failures={self._max_failures})"
            advice = "a larger max_failures= lets more fail"
        else:
            return None
        name, text, log = self._first
        return TasksFailedError(
            f"pool {self._pool!r} has stopped, since {why}; what waited was not run. The first of them, task {name!r}: {text}"
            f"\nits log: {log or 'none'}"
            f"\nMend that, shut the pool down and ask for it again to get a new one; {advice}",
            failed=self._failed,
            log=log,
        )


def _failure(task: Task, outcome: Outcome) -> tuple[str, str]:
    """How the task failed, in words, and what failures that are alike have in common; nothing if it did not fail."""
    if outcome.error is not None:
        text = _text(outcome.error)
        return text, _alike(text, task.name)
    if isinstance(task, CommandTask) and outcome.value[0]:
        status = f"exit status {outcome.value[0]}"
        return ": ".join(filter(None, [status, outcome.value[2][-1000:].strip()])), status
    return "", ""


def _alike(text: str, name: str) -> str:
    """What the text of a task's failure has in common with those that are like it."""
    return re.sub(r"\d+", "#", text.partition("\n")[0].replace(repr(name), ""))


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"
    except Exception:  # its text cannot be shown
        return type(error).__qualname__
