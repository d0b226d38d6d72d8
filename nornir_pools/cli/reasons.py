"""The command that says why: a task waits, or has failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

import nornir_pools as pools

from .facts import lost, task_facts, task_line, unknown, what
from .naming import Json, Run, TaskWord
from .output import as_json, clock, command, duration, memory, say, short, styled

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["add_to"]

_TAIL = 10  # lines of the log that are shown

# What to do, by the class of the error that a task's job, or the process that ran it, has left.
_ADVICE = {
    "JobTimeoutError": "give it more time: nornir-pools retry {run} --task {task} --time 2h",
    "JobOutOfMemoryError": "give it more memory: nornir-pools retry {run} --task {task} --mem 8G",
    "WorkerOutOfMemoryError": "give it more memory: nornir-pools retry {run} --task {task} --mem 8G",
    "JobPreemptedError": "run it again, perhaps in another partition: nornir-pools retry {run} --task {task}",
    "NodeFailedError": "its node failed; run it again: nornir-pools retry {run} --task {task}",
    "JobLostError": "run it again: nornir-pools retry {run} --task {task}",
    "JobCancelledError": "somebody has cancelled its job; run it again: nornir-pools retry {run} --task {task}",
    "ParentFailedError": "run both again, once what failed is mended: nornir-pools retry {run} --failed",
    "SubmissionError": "correct the option that SLURM refuses, and run it again",
}


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools why last 17")(why)


@command
def why(run: Run, task: TaskWord, json: Json = False) -> None:
    """Say why a task waits, or has failed.

    And what to do. For one that is well, say how it is.
    """
    view = pools.look(run)
    one = view.task(task)
    lines = (
        _of_waiting(view, one) if one.state == "waiting" else _of_failed(view, one) if one.state == "failed" else _of_other(one)
    )
    lines += _of_resumption(one)
    if json:
        as_json({**task_facts(one), "why": lines, "asked": dict(one.options)})
        return
    say(f"{styled(one.state)}: task {one.number} ({one.name}) of run {view.info.name}")
    if one.command is not None:
        say(f"  command   {what(one)}")
    for line in lines:
        say(f"  {line}")


def _of_waiting(view: RunView, task: TaskView) -> list[str]:
    if lost(view):
        return ["waits in vain: no process holds its run, and no job of the run is alive (nornir_pools.attach goes on with it)"]
    if task.waits_for:
        some = ", ".join(_parent(view, word) for word in task.waits_for[:3]) + (" …" if len(task.waits_for) > 3 else "")
        count = f"{len(task.waits_for)} tasks" if len(task.waits_for) > 1 else "a task"
        return [f"waits      for {count} whose values it gets, or that it comes after: {some}"]
    waiting = view.counts["waiting"]
    busy = [job for job in view.jobs if job.state != "sent"]
    lines = [f"waits      for its turn: {waiting} tasks wait, {view.counts['running']} run in {len(busy)} jobs"]
    if why := unknown(view):
        return [*lines, f"jobs       {why}"]
    try:
        queue = view.queue()
    except pools.SpoolError as error:
        return [*lines, f"jobs       {error}"]
    pending = [queue[job.id] for job in view.jobs if job.id in queue and queue[job.id].state == "PENDING"]
    reasons: dict[str, int] = {}
    for job in pending:
        reasons[job.words] = reasons.get(job.words, 0) + 1
    lines += [f"pending    {count} jobs: {words}" for words, count in reasons.items()]
    if starts := [job.start for job in pending if job.start is not None]:
        lines.append(f"expected   to start {clock(min(starts))} (in {duration(max(0, min(starts) - time.time()))}), says SLURM")
    elif pending:
        lines.append("expected   SLURM does not say yet when it will start")
    if not view.jobs:
        lines.append("jobs       none yet: they are being sent")
    return lines


def _parent(view: RunView, word: int | str) -> str:
    if isinstance(word, str):
        return f"{word} (of another pool of its script)"
    return f"{word} ({view.task(word).name}), {view.task(word).state}"


def _of_failed(view: RunView, task: TaskView) -> list[str]:
    lines = [f"cause     {task_line(task)}"]
    if task.cause:
        lines.append(f"kind      {task.cause}")
    lines.append(f"ran       {_where(task)}")
    asked = ", ".join(f"{name}={value}" for name, value in task.options.items()) or "nothing in particular"
    lines.append(f"asked     {asked}")
    if task.cpu is not None or task.memory:
        lines.append(f"used      {memory(task.memory)}, {duration(task.cpu)} of CPU, {duration(task.seconds)} in all")
    lines += [f"try       {words}" for words in task.tries]
    tail = [line for line in task.output(20_000).splitlines() if line.strip()][-_TAIL:]
    lines += ["log       ends:", *(f"  | {line}" for line in tail)] if tail else [f"log       {task.log or 'none'}"]
    name = view.info.name
    advice = _ADVICE.get(task.cause, "run it again once that is mended: nornir-pools retry {run} --task {task}")
    lines.append(f"next      {advice.format(run=name, task=task.number)}")
    if not task.cause and task.command is None:
        lines.append(f"          or look at it where it fails: nornir-pools debug {name} {task.number}")
    return lines


def _of_other(task: TaskView) -> list[str]:
    if task.state == "running":
        since = None if task.started is None else time.time() - task.started
        return [f"ran       for {duration(since)} so far, {_where(task)}", f"log       {task.log}"]
    if task.state == "cancelled":
        return ["cancelled by its script, by nornir-pools cancel, or with its run"]
    return [
        f"ran       {_where(task)}",
        f"used      {memory(task.memory)}, {duration(task.cpu)} of CPU, {duration(task.seconds)} in all",
    ]


def _of_resumption(task: TaskView) -> list[str]:
    """What a script that was run again (resume=True) has made of it."""
    lines = [f"again     though an earlier script had added it: {task.again}"] if task.again else []
    if task.reused:
        lines.append(f"reused    its result, last at {clock(task.reused)}, by a script that was run again")
    return lines


def _where(task: TaskView) -> str:
    if not task.job:
        return "never"
    return short(
        f"in job {task.job} on {task.node or 'an unknown node'}" + (f", started {clock(task.started)}" if task.started else "")
    )
