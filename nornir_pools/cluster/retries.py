"""Whether a task whose job ended before it is tried again, and with what options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import (
    JobCancelledError,
    JobLostError,
    JobOutOfMemoryError,
    JobPreemptedError,
    JobTimeoutError,
    NodeFailedError,
    PoolError,
    TaskTimeoutError,
    WorkerDiedError,
)
from ..options import RETRY_EXPRESSION, Options

__all__ = ["cause_of", "next_options"]

_CAUSES: dict[type[PoolError], str] = {
    JobPreemptedError: "preempted",
    NodeFailedError: "node_failed",
    JobLostError: "lost",
    WorkerDiedError: "worker_died",
    JobTimeoutError: "timeout",
    JobOutOfMemoryError: "oom",
    JobCancelledError: "cancelled",
    TaskTimeoutError: "task_timeout",
}
# A task is not to blame for what happens to its node. Out of memory and out of time are its own faults: with the same job
# it would fail the same way, so it is tried again only if asked for.
_DEFAULTS: Mapping[str, int] = {"preempted": 10, "node_failed": 2, "lost": 2, "worker_died": 1}


def cause_of(error: PoolError) -> str:
    """The word that `retries` has for what the error tells."""
    return _CAUSES[type(error)]


def next_options(options: Options, cause: str, tried: int) -> Options | None:
    """The options for another try after `tried` retries for this cause; None if there is to be none."""
    rule = _rule(options.retries, cause)
    if isinstance(rule, str):
        return _grown(options, rule)
    return options if tried < rule else None


def _rule(retries: int | Mapping[str, Any] | None, cause: str) -> int | str:
    default = _DEFAULTS.get(cause, 0)
    if retries is None:
        return default
    if isinstance(retries, int):  # for what is not the task's own doing
        return retries if cause in _DEFAULTS else 0
    rule: int | str = retries.get(cause, default)
    return rule


def _grown(options: Options, rule: str) -> Options | None:
    """Options with more, by a rule such as "mem_gb*2<=64"; None beyond its limit, or if there is nothing to multiply."""
    match = re.fullmatch(RETRY_EXPRESSION, rule.replace(" ", ""))
    assert match is not None  # it was checked when it was given
    name, factor, limit = match[1], float(match[2]), float(match[3])
    if name not in options.job:
        return None
    value = options.job[name] * factor
    value = int(value) if value == int(value) else value
    return replace(options, job={**options.job, name: value}) if value <= limit else None
