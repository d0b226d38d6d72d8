"""What a worker does about the limits of its tasks, and about an initializer that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..deaths import tell_death
from ..errors import TaskTimeoutError
from ..limits import Limits, timeout_error
from .child import Child
from .doubt import BadNodeError

__all__ = ["end_in_time", "initializer_failed", "limits_of"]


def limits_of(run: Mapping[str, Any], task_timeout: float | None) -> Limits:
    """The limits of a worker: those of its run (what ``run.json`` holds), but for its group's `task_timeout` (0: none)."""
    limits = Limits.of(run.get("options") or {})
    return limits if task_timeout is None else limits._replace(task_timeout=task_timeout or None)


def end_in_time(child: Child, task: str, pool: str, seconds: float, facts: Mapping[str, Any]) -> TaskTimeoutError:
    """The task has had its time: end its process, with all that it has started; returns the task's error."""
    child.stop()
    child.end()
    ended = f"its process {child.pid} on {facts['host']} (job {facts['job']}), with all that it had started,"
    return timeout_error(task, pool, seconds, ended, job_id=facts["job"], log=facts.get("log", ""))


def initializer_failed(name: str, child: Child, exitcode: int) -> BadNodeError:
    """What to leave a run with whose initializer has failed in that child, or has taken it down."""
    died = {"error": f"the process {child.pid} that called it {tell_death(exitcode)}", "traceback": ""}
    bad = BadNodeError("initializer")
    bad.facts = {"initializer": name, **(child.failure or died)}
    return bad
