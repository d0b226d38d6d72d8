"""What was measured: waiting and running times, what was asked and what was used, the slowest tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..efficiency import measured
from ..facts import what
from ..output import duration, memory, short
from .markup import Html, group, table, tag

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["slowest", "times", "used"]

_SLOWEST = 20
_NAMES = 40  # names of tasks in the table of what was used


def times(view: RunView, now: float) -> Html:
    """How long tasks waited and how long they ran; "" if none has run."""
    waited = sorted(seconds for task in view.tasks if (seconds := _waited(task)) is not None)
    ran = sorted(seconds for task in view.tasks if (seconds := _ran(task, now)) is not None)
    if not ran:
        return Html()
    whole = max(sum(waited) + sum(ran), 1e-9)
    columns = ["", ">median", ">9 of 10 within", ">longest", ">in all", ""]
    rows = [
        [name, *map(_time, _quantiles(seconds)), _time(sum(seconds)), _bar(sum(seconds) / whole, kind)]
        for name, kind, seconds in (("waiting", "waiting", waited), ("running", "running", ran))
        if seconds
    ]
    return table(columns, rows)


def _time(seconds: float | None) -> str:
    """As elsewhere, but with milliseconds: many tasks are short."""
    return duration(seconds) if seconds is None or seconds >= 0.1 else f"{seconds * 1000:.0f}ms"


def _waited(task: TaskView) -> float | None:
    return None if task.added is None or task.started is None else max(0.0, task.started - task.added)


def _ran(task: TaskView, now: float) -> float | None:
    """How long it has run (so far)."""
    return max(0.0, now - task.started) if task.state == "running" and task.started is not None else task.seconds


def _quantiles(values: Sequence[float]) -> list[float]:
    """Of sorted values the median, what 90 % of them do not exceed, and the largest."""
    return [values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.9, 1.0)]


def _bar(share: float, kind: str = "", mark: float | None = None) -> Html:
    """A bar of so much of its place, with a mark where the limit was."""
    limit = "" if mark is None else tag("b", style=f"left:{mark * 100:.1f}%")
    return tag("div", tag("span", class_=kind, style=f"width:{min(share, 1) * 100:.1f}%"), limit, class_="bar")


def used(view: RunView) -> Html:
    """Memory, CPU and time that tasks were given and used, by name; "" if nothing was measured."""
    rows = measured(view)
    if not rows:
        return Html()
    most = max(max(row["memory"], row["memory_asked"] or 0) for row in rows) or 1
    columns = ["tasks", ">", ">longest", ">limit", ">CPUs used", ">of", ">memory used", ">of"]
    columns += ["memory (line: asked)", "next time"]
    shown = table(columns, [_used(row, most) for row in rows[:_NAMES]])
    return group((shown, tag("p", f"… and {len(rows) - _NAMES} more names") if len(rows) > _NAMES else ""))


def _used(row: dict[str, Any], most: float) -> list[object]:
    asked = row["memory_asked"]
    over = asked is not None and row["memory"] > 0.9 * asked
    return [
        short(row["name"]),
        f"{row['tasks']:,}",
        _time(row["longest"]),
        _time(row["time_asked"]),
        f"{row['cpus_used']:.2f}",
        str(row["cpus_asked"]),
        memory(row["memory"]),
        memory(asked),
        _bar(row["memory"] / most, "over" if over else "", None if asked is None else asked / most),
        "; ".join(row["advice"]) or "as it was",
    ]


def slowest(view: RunView, now: float) -> Html:
    """The tasks that ran longest; "" if none has run."""
    ran = [(seconds, task) for task in view.tasks if (seconds := _ran(task, now)) is not None]
    ran.sort(key=lambda item: (-item[0], item[1].number))
    if not ran:
        return Html()
    longest = max(ran[0][0], 1e-9)
    return table(
        [">", "task", "state", ">ran", "", ">waited", ">CPU", ">memory", "where"],
        [_slow(seconds, task, longest) for seconds, task in ran[:_SLOWEST]],
    )


def _slow(seconds: float, task: TaskView, longest: float) -> list[object]:
    command = "" if task.command is None else group((" ", tag("code", what(task))))
    return [
        str(task.number),
        group((short(task.name), command)),
        tag("span", tag("i", class_=task.state), task.state, class_="state"),
        _time(seconds) + (" so far" if task.state == "running" else ""),
        _bar(seconds / longest, task.state),
        _time(_waited(task)),
        _time(task.cpu),
        memory(task.memory),
        f"{task.node} {task.job}",
    ]
