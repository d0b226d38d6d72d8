"""The failures of a run, those with the same cause together, with what they said and where their logs are."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import nornir_pools as pools

from ..facts import task_line, what
from ..output import short
from .markup import Html, group, tag

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["failures"]

_CAUSES = 30  # causes that are shown
_TASKS = 200  # tasks of a cause that are named
_OPEN = 5  # … of which these can be seen at once
_LINES, _LONGEST = 12, 2000  # of an error: lines, characters


def failures(view: RunView) -> Html:
    """What has failed, by cause, the most frequent first; "" if nothing has."""
    causes: dict[tuple[str, int | None, str], list[TaskView]] = defaultdict(list)
    for task in view.tasks:
        if task.state == "failed":
            causes[task.cause, task.status, _alike(task_line(task))].append(task)
    if not causes:
        return Html()
    ordered = sorted(causes.values(), key=len, reverse=True)
    more = tag("p", f"… and {len(ordered) - _CAUSES} more causes") if len(ordered) > _CAUSES else ""
    retry = tag("p", "To run all of them again: ", tag("code", f"nornir-pools retry {view.info.name} --failed"), class_="quiet")
    return group((*map(_cause, ordered[:_CAUSES]), more, retry))


def _alike(text: str) -> str:
    """What errors of one cause have in common: all but numbers and quoted names."""
    return re.sub(r"\d+", "#", re.sub(r"'[^']*'|\"[^\"]*\"", "''", text))


def _cause(tasks: list[TaskView]) -> Html:
    first = tasks[0]
    rest = tasks[_OPEN:_TASKS]
    lines = first.error.strip()[:_LONGEST].splitlines()[:_LINES]
    lines += _said(first)
    hidden = (
        tag("details", tag("summary", f"{len(tasks) - _OPEN:,} more"), _list(rest), _beyond(len(tasks))) if rest else Html()
    )
    return tag(
        "div",
        tag("p", f"{len(tasks):,} × {task_line(first)}", "" if len(set(map(task_line, tasks))) == 1 else " (or nearly so)"),
        tag("pre", "\n".join(lines)) if len(lines) > 1 else "",
        _list(tasks[:_OPEN]),
        hidden,
        class_="failure",
    )


def _said(task: TaskView) -> list[str]:
    """What a failed command has written at its end, from its job's log, or at least the last line of that."""
    if task.status is None:
        return []
    with contextlib.suppress(pools.PoolError):  # its log cannot be read
        if lines := [line for line in task.output(_LONGEST).splitlines() if line.strip()]:
            return lines[-_LINES:]
    return [task.last] if task.last else []


def _beyond(count: int) -> Html:
    return tag("p", f"… and {count - _TASKS:,} more", class_="quiet") if count > _TASKS else Html()


def _list(tasks: list[TaskView]) -> Html:
    return group(map(_task, tasks))


def _task(task: TaskView) -> Html:
    where = f" on {task.node}" if task.node else ""
    named = "" if task.command is None else group((" ", tag("code", what(task))))
    log = group((", log ", tag("span", task.log, class_="path"))) if task.log else ""
    number = tag("span", f"{task.number}  ", class_="quiet")
    return tag("p", number, tag("b", short(task.name)), named, tag("span", where, log, class_="quiet"))
