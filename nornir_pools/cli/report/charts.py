"""The charts of a report: the timeline of tasks by worker, and how many waited and ran over time. SVG, drawn here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from ..output import duration
from .lanes import Bar, Lane, began, lanes_of
from .markup import Html, data, group, tag

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["charts"]

_WIDE = 10_000  # units of a chart's width: it is stretched to what the page has
_TALL = 900  # pixels that the timeline should not exceed
_LINE, _THIN, _READABLE = 16, 2, 11  # pixels: the tallest and the thinnest line, and the least for a label
_SAMPLES = 500
_STRIP = 56  # pixels
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_MOST_TICKS = 9
_NAME = 120  # characters of a name or command that the page's script gets
_STATES = ("cancelled", "succeeded", "running", "failed")  # drawn in this order: what failed is not hidden


def charts(view: RunView, now: float) -> Html:
    """The timeline, how many tasks waited and ran, and what the page's script has to know of each task."""
    lanes = lanes_of(view.tasks, now)
    if not lanes:
        return tag("p", "No task has run yet, so there is no timeline.", class_="quiet")
    begin = min([view.info.started, *(task.added or now for task in view.tasks), *(lane.bars[0].start for lane in lanes)])
    end = max(bar.end for lane in lanes for bar in lane.bars)
    span = max(end - begin, 0.1)
    height = max(_THIN, min(_LINE, _TALL // len(lanes)))

    def place(moment: float) -> float:
        return round((moment - begin) / span * _WIDE, 1)

    return group(
        (
            _axis(span),
            tag("div", _labels(lanes, height), _timeline(lanes, height, place), class_="chart"),
            _strip("waiting", *_counts(view.tasks, "waiting", begin, span, now)),
            _strip("running", *_counts(view.tasks, "running", begin, span, now)),
            tag("div", id="tip", hidden=""),
            data("tasks", _facts(lanes, begin, span, height)),
        )
    )


def _axis(span: float) -> Html:
    step = next((step for step in _STEPS if span / step <= _MOST_TICKS), 0)
    step = step or 86400 * (int(span / 86400 / _MOST_TICKS) + 1)
    ticks = [number * step for number in range(int(span / step) + 1)]
    marks = (
        tag("span", duration(tick) if tick else "0", style=f"left:{tick / span * 100:.3f}%")
        for tick in ticks
        if tick / span < 0.98
    )
    return tag("div", tag("div", *marks, class_="axis", id="axis"), class_="chart")


def _labels(lanes: Sequence[Lane], height: int) -> Html:
    """The workers' names, as many as there is room for."""
    labels, before, free = [], "", 0
    for number, lane in enumerate(lanes):
        top = number * height
        if lane.label != before and top >= free:
            style = f"top:{top}px;line-height:{max(height, _READABLE)}px"
            labels.append(tag("span", lane.label, title=lane.label, style=style))
            free = top + max(height, _READABLE)
        before = lane.label
    return tag("div", *labels, class_="labels", style=f"height:{len(lanes) * height}px")


def _timeline(lanes: Sequence[Lane], height: int, place: Callable[[float], float]) -> Html:
    """Two paths for each state, so that ten thousand tasks are few elements; neighbours differ a little in their colour."""
    gap = 1 if height > 3 else 0
    paths: dict[str, list[str]] = {f"{state}{kind}": [] for state in _STATES for kind in ("", " odd")}
    rows = []
    for number, lane in enumerate(lanes):
        top, tall = number * height, height - gap
        first, last = place(lane.bars[0].start), place(lane.bars[-1].end)
        rows.append(f"M{first:g} {top + height / 2:g}H{last:g}")
        for count, bar in enumerate(lane.bars):
            left, right = place(bar.start), place(bar.end)
            paths[bar.task.state + (" odd" if count % 2 else "")].append(f"M{left:g} {top}H{right:g}v{tall}H{left:g}z")
    drawn = [tag("path", class_="row", d="".join(rows))]
    drawn += [tag("path", class_=kind, d="".join(drawing)) for kind, drawing in paths.items() if drawing]
    size = {"viewBox": f"0 0 {_WIDE} {len(lanes) * height}", "preserveAspectRatio": "none"}
    return tag(
        "svg", *drawn, **size, id="timeline", style=f"height:{len(lanes) * height}px", role="img", aria_label="tasks by worker"
    )


def _counts(tasks: Sequence[TaskView], kind: str, begin: float, span: float, now: float) -> tuple[list[float], int]:
    """How many tasks were waiting, or running, on average in each of the chart's steps, and the most at once."""
    never = max(now, begin) + span
    if kind == "waiting":
        times = [(task.added, task.started or task.finished or never) for task in tasks if task.added is not None]
    else:
        times = [(start, task.finished or never) for task in tasks if (start := began(task)) is not None]
    ups = sorted(up for up, _ in times)
    downs = sorted(max(up, down) for up, down in times)
    before, after = _since(ups), _since(downs)
    passed = [before(at) - after(at) for at in (begin + span * number / _SAMPLES for number in range(_SAMPLES + 1))]
    means = [max(0.0, (later - sooner) * _SAMPLES / span) for sooner, later in pairwise(passed)]
    # When one begins as another ends, they were not there together.
    changes = sorted([(up, 1) for up in ups] + [(down, -1) for down in downs])
    return means, max(accumulate(change for _, change in changes), default=0)


def _since(moments: Sequence[float]) -> Callable[[float], float]:
    """For sorted moments: the sum of the times that have passed since each of them."""
    sums = [0.0, *accumulate(moment - moments[0] for moment in moments)]

    def passed(at: float) -> float:
        count = bisect_right(moments, at)
        return count * (at - moments[0]) - sums[count] if count else 0.0

    return passed


def _strip(kind: str, means: Sequence[float], most: int) -> Html:
    step, scale = _WIDE / _SAMPLES, (_STRIP - 2) / max(most, 1)
    steps = "".join(f"V{_STRIP - count * scale:.1f}H{(number + 1) * step:g}" for number, count in enumerate(means))
    path = f"M0 {_STRIP}{steps}V{_STRIP}z"
    chart = tag(
        "svg",
        tag("path", class_=kind, d=path),
        viewBox=f"0 0 {_WIDE} {_STRIP}",
        preserveAspectRatio="none",
        style=f"height:{_STRIP}px",
        role="img",
        aria_label=f"how many tasks were {kind}",
    )
    label = tag("div", tag("span", kind), tag("span", f"at most {most:,}", style="top:16px"), class_="labels")
    return tag("div", label, chart, class_="chart strip")


def _facts(lanes: Sequence[Lane], begin: float, span: float, height: int) -> dict[str, Any]:
    """For the script: each line's tasks, times in seconds since the begin."""
    return {"span": span, "height": height, "lanes": [[_fact(bar, begin) for bar in lane.bars] for lane in lanes]}


def _fact(bar: Bar, begin: float) -> list[Any]:
    task = bar.task
    what = "" if task.command is None else str(task.command)[:_NAME]
    waited = None if task.started is None or task.added is None else round(max(0.0, task.started - task.added), 3)
    times = [round(bar.start - begin, 3), round(bar.end - begin, 3), waited]
    return [*times, task.number, task.name[:_NAME], what, task.state, task.cpu, task.memory, task.node, task.job]
