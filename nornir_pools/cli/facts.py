"""Runs and tasks as plain data for ``--json``, and in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nornir_pools as pools

from .output import FAILED, LOST, OK, age, short

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["brief", "end_of", "lost", "next_steps", "run_facts", "state_of", "task_facts", "task_line", "unknown", "what"]


def task_facts(task: TaskView) -> dict[str, Any]:
    """A task, for JSON: times in seconds since the epoch, memory in bytes."""
    names = ("number", "name", "state", "command", "status", "job", "node", "added", "started", "finished", "cpu", "memory")
    facts = {name: getattr(task, name) for name in names}
    return {
        **facts,
        "error": task.error,
        "last": _last(task),
        "cause": task.cause,
        "tries": list(task.tries),
        "log": task.log,
        "waits_for": list(task.waits_for),
    }


def run_facts(view: RunView) -> dict[str, Any]:
    """A run, for JSON."""
    info = view.info
    return {
        "name": info.name,
        "pool": info.pool,
        "path": str(info.path),
        "state": info.state,
        "holder": info.holder,
        "executor": view.executor,
        "started": info.started,
        "tasks": view.counts,
        "jobs": [job.id for job in view.jobs],
    }


def what(task: TaskView) -> str:
    """What the task does: its command, else its name."""
    return short(str(task.command if task.command is not None else task.name), 200)


def task_line(task: TaskView) -> str:
    """Why a task has failed, on one line."""
    last = _last(task)
    error = task.error.partition("\n")[0]
    return short(f"{error}: {last}" if last and task.status else error, 200)


def _last(task: TaskView) -> str:
    """The last line that a failed command wrote."""
    if task.last or task.state != "failed" or task.status is None:
        return str(task.last)
    return next((line for line in reversed(task.output(4000).splitlines()) if line.strip()), "").strip()[:300]


def state_of(view: RunView) -> str:
    """The run's state, in words."""
    info, left = view.info, len(view.unfinished)
    if info.state == "held":
        return f"held by {info.holder}" + ("" if left else ", which has no task for it")
    if info.state == "closed":
        return "closed"
    if view.array and left:
        return f"run by the array {view.array}: {left} of its tasks are not over"
    if view.array:
        return f"all tasks of the array {view.array} are over"
    return f"left: its script has ended before {left} of its tasks" if left else "left by its script; all its tasks are done"


def unknown(view: RunView) -> str:
    """Why nobody can tell whether jobs of a run that was left are alive; "" if that is known, or does not matter."""
    alive = _alive(view)
    return alive if isinstance(alive, str) else ""


def lost(view: RunView) -> bool:
    """Whether tasks wait for what will not come: no process holds the run, and no job of it is alive."""
    return _alive(view) is False


def _alive(view: RunView) -> bool | str | None:
    """Whether jobs of a run that was left with unfinished tasks are alive; a text says why that cannot be told.

    SLURM is asked once for a view, and not at all (None) where it does not matter.
    """
    if view.info.state == "held" or not view.unfinished:
        return None
    known: dict[str, Any] = vars(view)
    if "_alive" not in known:
        try:
            known["_alive"] = bool(view.live_jobs())
        except pools.SpoolError as error:
            known["_alive"] = str(error)
    found: bool | str = known["_alive"]
    return found


def end_of(view: RunView) -> int:
    """The exit status that stands for how a run is."""
    if view.counts["failed"]:
        return FAILED
    return LOST if unknown(view) or lost(view) else OK


def next_steps(view: RunView) -> list[str]:
    """What to type next, and what for."""
    name = view.info.name
    failed = [task for task in view.tasks if task.state == "failed"]
    steps = []
    if failed:
        steps.append(f"nornir-pools why {name} {failed[0].number}")
        steps.append(f"nornir-pools retry {name} --failed")
    if lost(view):
        steps.append(f"python -c \"import nornir_pools; nornir_pools.attach('{name}').shutdown()\"   # to go on with it")
    elif view.unfinished:
        steps.append(f"nornir-pools wait {name}")
    if not view.unfinished and not failed:
        steps.append(f"nornir-pools efficiency {name}")
    return steps


def brief(view: RunView) -> list[str]:
    """A run as a row of a table."""
    counts = view.counts
    total, done = len(view.tasks), len(view.tasks) - len(view.unfinished)
    return [
        "array" if view.array and view.info.state == "left" else view.info.state,
        f"{done}/{total}",
        str(counts["failed"] or "-"),
        str(len(view.jobs) or "-"),
        age(view.info.started),
        view.info.name,
    ]
