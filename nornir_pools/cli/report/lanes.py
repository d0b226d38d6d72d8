"""Where a task stands in the timeline: a line for each worker, and which tasks it ran when."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nornir_pools.cluster.views import TaskView

__all__ = ["Bar", "Lane", "began", "lanes_of"]

_TICK = 0.01  # seconds, at most, between two ticks of the clock for files
_OVERLAP = 0.002  # seconds that one task may seem to begin before the last has ended
_CLOCKS = 2.0  # … and one that still runs, by the clock of a file server
_MOST_JOBS = 100  # more jobs than that have no lines of their own, but share those of their node


@dataclass(frozen=True)
class Bar:
    """A task that ran, or runs, from start to end, in seconds since the epoch."""

    task: TaskView
    start: float
    end: float


@dataclass
class Lane:
    """A line of the timeline: tasks that ran one after the other."""

    label: str
    bars: list[Bar] = field(default_factory=list)


def lanes_of(tasks: Iterable[TaskView], now: float) -> list[Lane]:
    """A line for each worker, node by node; several for one that had several tasks at once."""
    bars = [bar for task in tasks if (bar := _bar(task, now)) is not None]
    jobs = {bar.task.job for bar in bars}
    groups: dict[tuple[str, str], list[Bar]] = defaultdict(list)
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.end)):
        groups[bar.task.node, bar.task.job if len(jobs) <= _MOST_JOBS else ""].append(bar)
    found: list[Lane] = []
    for (node, job), its in sorted(groups.items(), key=lambda item: (_natural(item[0][0]), item[1][0].start)):
        found += _side_by_side(" ".join(filter(None, (node, job))) or "?", its)
    return found


def began(task: TaskView) -> float | None:
    """When it started. Of one that still runs that is a file's time, whose clock goes by ticks: it may seem a tick early."""
    return task.started + _TICK if task.started is not None and task.state == "running" else task.started


def _bar(task: TaskView, now: float) -> Bar | None:
    """From its start to its end. Of a task that went down with its job, only the end is known."""
    end = now if task.state == "running" else task.finished
    if end is None or not task.job:
        return None
    start = began(task) or end
    return Bar(task, start, max(start, end))


def _side_by_side(label: str, bars: Iterable[Bar]) -> list[Lane]:
    """As few lines as there were tasks at once."""
    lanes: list[Lane] = []
    for bar in bars:
        slack = _CLOCKS if bar.task.state == "running" else _OVERLAP
        free = next((lane for lane in lanes if lane.bars[-1].end <= bar.start + slack), None)
        if free is None:
            lanes.append(free := Lane(label))
        free.bars.append(bar)
    return lanes


def _natural(name: str) -> list[tuple[int, str]]:
    """For sorting n2 before n10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
