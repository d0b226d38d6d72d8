"""Limits on what one worker does: how long a task may take, and after what a process that runs tasks makes room for a new one.

Programs leak: memory, descriptors, threads of libraries. A new process has none of that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import TaskTimeoutError

__all__ = ["Limits", "memory_of", "timeout_error"]


class Limits(NamedTuple):
    """The options of these names; None is no limit."""

    task_timeout: float | None = None
    max_tasks_per_child: int | None = None
    max_child_mem_gb: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Limits:
        """Those among these options."""
        return cls(**{name: options[name] for name in cls._fields if name in options})

    def has_served(self, tasks: int, pid: int) -> bool:
        """Whether a process that has run so many tasks is to run no more."""
        if self.max_tasks_per_child is not None and tasks >= self.max_tasks_per_child:
            return True
        return self.max_child_mem_gb is not None and memory_of(pid) > self.max_child_mem_gb * (1 << 30)


def memory_of(pid: int) -> int:
    """The bytes of memory that a process holds now (its resident memory); 0 if the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def timeout_error(task: str, pool: str, seconds: float, ended: str, **parts: str) -> TaskTimeoutError:
    """The error for a task that has had its time, so that what ran it was `ended`."""
    log = f"; the job's log: {parts['log'] or 'none'}" if "log" in parts else ""
    return TaskTimeoutError(
        f"task {task!r} of pool {pool!r} took longer than its task_timeout of {seconds:g} s, so {ended} was ended; give it "
        f"more with with_options(task_timeout=…){log}",
        seconds=seconds,
        **parts,
    )
