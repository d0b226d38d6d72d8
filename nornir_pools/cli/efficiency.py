"""The command that compares what tasks were given with what they used, as measured by the workers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer

import nornir_pools as pools

from .naming import Json, Run
from .output import as_json, command, duration, memory, say, table

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["add_to", "measured"]

_ROOM = 1.25  # times what the largest task has used is what to ask for


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools efficiency last")(efficiency)


@command
def efficiency(run: Run, json: Json = False) -> None:
    """Compare what tasks were given with what they used.

    CPU, memory and time, by the names of the tasks (their numbers do not count), as the workers have measured them.
    """
    view = pools.look(run)
    rows = measured(view)
    if json:
        as_json(rows)
        return
    if not rows:
        say(f"No task of run {view.info.name} has run to its end yet, so nothing was measured.")
        return
    table([">TASKS", ">TIME", ">LONGEST", ">CPUS USED", ">OF", ">MEMORY", ">OF", "NAME"], map(_row, rows))
    say()
    for row in rows:
        for advice in row["advice"]:
            say(f"{row['name']}: {advice}")
    say(f"next: nornir-pools report {view.info.name}   # a page with all of it")


def measured(view: RunView) -> list[dict[str, Any]]:
    """What tasks were given and used, as far as it was measured: by name (numbers in names count as one) and options."""
    groups: dict[tuple[str, str], list[TaskView]] = defaultdict(list)
    for task in view.tasks:
        if task.cpu is not None and task.seconds is not None:
            groups[re.sub(r"\d+", "#", task.name), str(sorted(task.options.items()))].append(task)
    return [_facts(name, tasks) for (name, _), tasks in groups.items()]


def _facts(name: str, tasks: Iterable[TaskView]) -> dict[str, Any]:
    """What tasks of one name were given and used: seconds, bytes."""
    tasks = list(tasks)
    seconds = [task.seconds or 0.0 for task in tasks]
    asked = _asked(tasks[0].options)
    facts = {
        "name": name,
        "tasks": len(tasks),
        "seconds": sum(seconds),
        "longest": max(seconds),
        "cpu_seconds": sum(task.cpu or 0.0 for task in tasks),
        "cpus_used": sum(task.cpu or 0.0 for task in tasks) / max(sum(seconds), 1e-9),
        "memory": max(task.memory or 0 for task in tasks),
        "cpus_asked": asked["cpus"],
        "cpus_set_aside": tasks[0].set_aside,
        "memory_asked": asked["memory"],
        "time_asked": asked["time"],
    }
    return {**facts, "advice": _advice(facts)}


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    cpus = options.get("slurm_cpus_per_task") or options.get("cpus_per_task") or 1
    gigabytes, limit = options.get("mem_gb"), options.get("timeout_min")
    return {
        "cpus": cpus,
        "memory": None if gigabytes is None else round(gigabytes * 1024**3),
        "time": None if limit is None else limit * 60,
    }


def _advice(facts: Mapping[str, Any]) -> list[str]:
    """What to ask for next time."""
    found = []
    wanted = max(0.1, math.ceil(facts["memory"] * _ROOM / 1e8) / 10)
    if facts["memory_asked"] is None:
        found.append(f"no memory was asked for; --mem {wanted:g}G would do")
    elif facts["memory_asked"] > 2 * facts["memory"] * _ROOM:
        found.append(f"--mem {wanted:g}G would do")
    elif facts["memory"] > 0.9 * facts["memory_asked"]:
        found.append(f"memory is short: ask for --mem {wanted:g}G")
    if facts["cpus_asked"] > 1 and facts["cpus_used"] < facts["cpus_asked"] / 2:
        found.append(f"{max(1, math.ceil(facts['cpus_used']))} of {facts['cpus_asked']} CPUs would do")
    if facts["cpus_used"] > 1.2 * facts["cpus_asked"]:
        found.append(f"it uses more CPUs than it asks for: --cpus {math.ceil(facts['cpus_used'])}")
    given = facts["cpus_set_aside"] or 0.0
    if given > 2 * facts["cpus_asked"] and facts["cpus_used"] < given / 4:  # (the log says it in this case, too)
        node = f"{given:g} CPUs were set aside for each, as of a whole node"
        found.append(f'{node}: with tasks_at_once="auto" a job runs as many side by side as fit')
    if facts["time_asked"] is not None and facts["time_asked"] > 4 * facts["longest"] and facts["time_asked"] > 600:
        found.append(f"the longest took {duration(facts['longest'])}: a shorter --time may start sooner")
    return found


def _row(facts: Mapping[str, Any]) -> list[str]:
    return [
        str(facts["tasks"]),
        duration(facts["seconds"] / facts["tasks"]),
        duration(facts["longest"]),
        f"{facts['cpus_used']:.2f}",
        str(facts["cpus_asked"]),
        memory(facts["memory"]),
        memory(facts["memory_asked"]),
        facts["name"],
    ]
