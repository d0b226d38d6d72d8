"""Values of tasks that stay on the shared filesystem: read there by the tasks they are arguments of, and by this process only
if its script asks for them.

A pool that collects an outcome reads its head. A small one (64 KB) it packs together with others, and keeps the bytes as they
are; of a large one it reads nothing more. Nothing is unpickled. When the run is closed its files go, so the values of tasks
that the script still has are fetched then.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..errors import ResultError
from ..outcome import Outcome, Unread
from ..task import CommandTask, Task
from .packs import PACKED
from .spool import Spool, task_number

__all__ = ["Values"]


class _Kept(Unread):
    """A value in a file of the run."""

    def __init__(self, spool: Spool, place: dict[str, Any], facts: dict[str, Any], name: str) -> None:
        super().__init__(facts, (), name)
        self._spool = spool
        self._place = place
        self._error: ResultError | None = None
        self._lock = threading.Lock()  # guards the reading of the file, which goes when the run is closed; nothing else

    def fetch(self) -> None:
        """Have the bytes in memory. Never raises: who asks for the value is told."""
        with self._lock:
            if self._parts or self._error is not None:
                return
            try:
                self._parts = message.unpack(self._spool.kept(self._place))[1]
            except (OSError, ValueError) as error:
                where = f"{self._spool.path}/{self._place['file']}"
                self._error = ResultError(f"the value of task {self._name!r} cannot be read from {where}: {error}")

    def read(self) -> Outcome:
        self.fetch()
        return super().read() if self._error is None else Outcome(error=self._error, facts=self._facts)


class Values:
    """The outcomes of one run."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def read_head(self, name: str, task: Task | None) -> tuple[bytearray, float]:
        """What is to be known of an outcome in the inbox, and when it got there: all of it, or if it is a large value its
        beginning. Raises ValueError if it is not whole."""
        data, renamed = self._spool.read_dated(f"inbox/{name}", most=PACKED + 1)
        size = len(data)
        if size > PACKED and _is_value(data, task):
            size = self._spool.size(f"inbox/{name}")
        elif size > PACKED:
            data = self._spool.read(f"inbox/{name}")
            size = len(data)
        if message.size_of(data) > size:
            raise ValueError(f"it was cut off at {size} bytes")
        return data, renamed

    def outcome(self, data: bytearray, facts: dict[str, Any], task: Task) -> Outcome:
        """The outcome whose head that is; of a large value without the value, which `put_away` gives it."""
        if len(data) > PACKED and _is_value(data, task):
            return Outcome(facts=facts)
        parts = message.unpack(data)[1]
        if not facts["ok"] or isinstance(task, CommandTask):
            return outcomes.thaw(facts, parts, task.name)
        return Outcome(Unread(facts, [bytearray(part) for part in parts], task.name), facts=facts)

    def put_away(self, name: str, data: bytearray, outcome: Outcome, task: Task) -> dict[str, Any]:
        """Move the outcome out of the inbox; returns where it is, for the journal."""
        place = self._spool.keep(name, data)
        self.note_place({**place, "n": task_number(name)}, outcome, task, large=len(data) > PACKED)
        return place

    def note_place(self, place: dict[str, Any], outcome: Outcome, task: Task, *, large: bool) -> None:
        """The outcome is kept there."""
        outcome.place = self._spool, place
        if large and outcome.error is None and not isinstance(task, CommandTask):
            kept = outcome.value = _Kept(self._spool, place, outcome.facts, task.name)
            self._kept.add(kept)

    def recall(self, place: dict[str, Any], task: Task) -> Outcome:
        """The outcome of a task of a run that was taken over. Raises OSError or ValueError if it cannot be read."""
        data = self._spool.kept(place, most=PACKED + 1)
        if len(data) > PACKED and not _is_value(data, task):
            data = self._spool.kept(place)
        facts = message.read_header(data)
        facts["log"] = self._spool.log_path_of(facts)
        outcome = self.outcome(data, facts, task)
        self.note_place(place, outcome, task, large=len(data) > PACKED)
        return outcome

    def fetch_all(self) -> None:
        """The run's files go: have in memory what the script may yet ask for."""
        for kept in list(self._kept):
            kept.fetch()


def _is_value(data: bytearray, task: Task | None) -> bool:
    """Whether the outcome with this head is a value that need not be known to who collects it."""
    try:
        facts = message.read_header(data)
    except ValueError:  # its header is longer
        return False
    return bool(facts.get("ok")) and not isinstance(task, CommandTask)
