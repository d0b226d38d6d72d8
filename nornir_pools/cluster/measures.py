"""In a worker's child: what each task has used, and how its command ended. For reports that need no accounting."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from ..outcome import Outcome

__all__ = ["Meter", "command_facts", "has_failed"]

_LINE = 300  # characters that are kept of the last line of stderr


class Meter:
    """Measures one task at a time, in the process that runs it, in some microseconds.

    CPU seconds are those of this process and of its children that were waited for. Memory is the peak of resident
    memory, of this process or of one child, whichever is larger. The kernel resets this process's own peak on request;
    that of children it only ever raises, so a child counts if it is the largest so far, or was run by `run_command`.
    """

    def __init__(self) -> None:
        self._reset = -1
        with contextlib.suppress(OSError):
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)

    def start(self) -> None:
        """A task begins."""
        if self._reset >= 0:
            try:
                os.write(self._reset, b"5")  # see proc(5): from now on the peak is that of what comes
            except OSError:  # a kernel, or a container, that does not let us
                os.close(self._reset)
                self._reset = -1
        _peak_of_commands()  # of what came before
        self._own = resource.getrusage(resource.RUSAGE_SELF)
        self._children = resource.getrusage(resource.RUSAGE_CHILDREN)

    def facts(self) -> dict[str, Any]:
        """What was used since then: "cpu" in seconds, "memory" in bytes."""
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = sum(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            for before, after in ((self._own, own), (self._children, children))
        )
        peak = own.ru_maxrss
        if children.ru_maxrss > self._children.ru_maxrss:
            peak = max(peak, children.ru_maxrss)
        return {"cpu": round(cpu, 3), "memory": max(peak * 1024, _peak_of_commands())}


def _peak_of_commands() -> int:
    """The most bytes that a command has used since the last call; a command may not be less than this process at its start."""
    command = sys.modules.get("nornir_pools.command")  # where there are no commands, it need not be imported
    return 0 if command is None else int(command.take_peak())


def command_facts(outcome: Outcome, func: Callable[..., Any] | None) -> dict[str, Any]:
    """For a command its exit "status" and, if that is not 0, the "last" line of its stderr; else nothing.

    What a failed command complained of goes into the job's log, too: its task is not all that somebody may look at.
    """
    command, tail = sys.modules.get("nornir_pools.command"), sys.modules.get("nornir_pools.tail")
    if command is None or tail is None or not command.is_command(func):
        return {}
    end = tail.take_end().rstrip()  # of a stderr that was to go into the log itself
    if outcome.error is None:
        status, _, stderr = outcome.value
    else:
        status, stderr = getattr(outcome.error, "returncode", None), getattr(outcome.error, "stderr", None) or ""
    if not status:
        return {} if status is None else {"status": status}
    text = stderr.rstrip()[-2000:]
    if text:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text + "\n")
    return {"status": status, "last": (text or end).rpartition("\n")[2][:_LINE]}


def has_failed(outcome: Outcome) -> bool:
    """Whether the task counts as failed: it raised, or it is a command whose exit status is not 0."""
    return outcome.error is not None or bool(outcome.facts.get("status"))
