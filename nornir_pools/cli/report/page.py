"""The page: what the run was, and its sections from top to bottom. All in one file: style and script stand in it."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nornir_pools as pools

from ..facts import lost, state_of
from ..output import clock, duration, short
from .charts import charts
from .failures import failures
from .markup import Html, group, tag
from .measured import slowest, times, used

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView

__all__ = ["page_of"]


def page_of(view: RunView) -> str:
    """The whole page."""
    now = time.time()
    script, style = _file("page.js"), _file("page.css")
    # Names, commands and errors are escaped. Should one get through, only our script runs, and no network is asked.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", f"{view.info.name} – nornir_pools"),
        tag("style", Html(style)),
    )
    body = tag("body", _head(view, now), *_sections(view, now), _foot(now), tag("script", Html(script)))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


@cache
def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _head(view: RunView, now: float) -> Html:
    info, counts = view.info, view.counts
    ends = [task.finished for task in view.tasks if task.finished]
    end = now if view.unfinished and not lost(view) else max(ends, default=now)
    facts = [
        ("state", state_of(view) + (", and none of its jobs is alive" if lost(view) else "")),
        ("started", f"{clock(info.started)} on {view.host}"),
        ("took" if not view.unfinished else "so far", duration(end - info.started)),
        ("tasks", f"{len(view.tasks):,}"),
        ("jobs", _jobs(view)),
        *(("options" if number == 0 else "", line) for number, line in enumerate(_options(view))),
        ("folder", tag("span", info.path, class_="path")),
    ]
    shown = [(state, count) for state, count in counts.items() if count]
    parts = (tag("span", class_=state, style=f"flex:{count}", title=f"{count} {state}") for state, count in shown)
    legend = (tag("span", tag("i", class_=state), f"{count:,} {state}") for state, count in shown)
    return tag(
        "header",
        tag("h1", info.name),
        tag("dl", *(group((tag("dt", name), tag("dd", value))) for name, value in facts)),
        tag("div", *parts, class_="states"),
        tag("div", *legend, class_="legend") if shown else tag("p", "The run has no tasks.", class_="quiet"),
    )


def _jobs(view: RunView) -> str:
    used = len({task.job for task in view.tasks if task.job})
    nodes = len({task.node for task in view.tasks if task.node})
    words = f"{used:,} that ran tasks, on {nodes:,} node{'s' if nodes != 1 else ''}" if used else "none has run a task"
    kind = "processes of this machine, not SLURM" if view.executor == "local" else "SLURM"
    return f"{words} ({kind})" + (f"; {len(view.jobs):,} now" if view.jobs else "")


def _options(view: RunView) -> list[str]:
    """The job options that tasks were given, the most frequent first."""
    given = Counter(_words(task.options) for task in view.tasks)
    lines = [(options or "none", count) for options, count in given.most_common(5)]
    if len(given) <= 1:
        return [options for options, _ in lines]
    return [f"{options} ({count:,} tasks)" for options, count in lines] + (["…"] if len(given) > 5 else [])


def _words(options: Mapping[str, Any]) -> str:
    return short(", ".join(f"{name}={value}" for name, value in options.items()), 300)


def _sections(view: RunView, now: float) -> list[Html]:
    found = [
        ("Timeline", charts(view, now)),
        ("Failures", failures(view)),
        ("Waiting and running", times(view, now)),
        ("Asked and used", used(view)),
        ("The slowest tasks", slowest(view, now)),
    ]
    hint = tag("p", "Point at a task to see what it was; drag to look closer, double-click to see all.", class_="quiet screen")
    return [
        tag("section", tag("h2", title), content, hint if title == "Timeline" and "<svg" in content else "")
        for title, content in found
        if content
    ]


def _foot(now: float) -> Html:
    return tag("p", f"As of {clock(now)}, by nornir_pools {pools.__version__}.", class_="quiet")
