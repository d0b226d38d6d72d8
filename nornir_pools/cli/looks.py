"""Commands that look at runs and change nothing: status, tasks, logs, wait."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

import nornir_pools as pools

from .facts import brief, end_of, lost, next_steps, run_facts, state_of, task_facts, task_line, unknown, what
from .naming import Json, Run
from .output import LOST, age, as_json, command, complain, duration, fail, on_terminal, say, short, styled, suggest, table

if TYPE_CHECKING:
    from nornir_pools.cluster.views import RunView, TaskView

__all__ = ["add_to"]

_SHOWN = 5  # failed tasks that status names
_PAUSE = 1.0  # seconds between two looks
_SHARE = 10  # times as long as a look takes is the pause to the next
_ASK = 10.0  # seconds between two questions to the scheduler whether jobs are alive


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: nornir-pools status last --watch")(status)
    app.command(epilog="Example: nornir-pools tasks last --failed")(tasks)
    app.command(epilog="Example: nornir-pools logs last 17 -f")(logs)
    app.command(epilog="Example: nornir-pools wait last && echo all succeeded")(wait)


@command
def status(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="A run, as for the other commands; without it, all runs.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show what changes until all tasks are over.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All runs, not only the ten newest.")] = False,
    json: Json = False,
) -> None:
    """Show a run, or a table of the runs. Ends with status 1 if tasks of the run failed, 3 if nobody works on it any more."""
    if not run:
        _list(None if every else 10, json)
        return
    view = pools.look(run)
    if json:
        as_json(run_facts(view))
    elif watch:
        view = _watch(view)
    else:
        for line in _describe(view):
            say(line)
    raise typer.Exit(end_of(view))


def _list(count: int | None, json: bool) -> None:
    found = pools.runs()
    views = [pools.look(run.path) for run in (found if count is None else found[-count:])]
    if json:
        as_json([run_facts(view) for view in views])
        return
    if not views:
        say("There are no runs yet. To make one: nornir-pools run TASKFILE, or a cluster pool in Python.")
        return
    table(["STATE", ">DONE", ">FAILED", ">JOBS", ">STARTED", "RUN"], [brief(view) for view in views])
    if count is not None and len(found) > count:
        say(f"({len(found) - count} older ones: nornir-pools status --all)")
    say()
    say("One of them: nornir-pools status last")


def _describe(view: RunView) -> list[str]:
    counts, name = view.counts, view.info.name
    parts = [styled(f"{state} {count}") for state, count in counts.items() if count]
    lines = [
        f"run    {name}",
        f"state  {styled(state_of(view))}, started {age(view.info.started)}",
        f"tasks  {len(view.tasks)}: {', '.join(parts)}" if parts else "tasks  none",
    ]
    if view.jobs:
        up = sum(job.state != "sent" for job in view.jobs)
        lines.append(f"jobs   {len(view.jobs)} ({view.executor}): {up} up, {len(view.jobs) - up} not started")
    lines.append(f"folder {view.info.path}")
    failed = [task for task in view.tasks if task.state == "failed"]
    if failed:
        lines += ["", "failed:"]
        lines += [f"  {task.number} {task.name}: {task_line(task)}" for task in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"  … and {len(failed) - _SHOWN} more: nornir-pools tasks {name} --failed")
    if why := unknown(view):
        lines += ["", f"No process holds this run; {why}"]
    elif lost(view):
        lines += ["", "No process holds this run and none of its jobs is alive: its unfinished tasks wait for nobody."]
    return [*lines, "", "next:", *(f"  {step}" for step in next_steps(view))]


def _line(view: RunView) -> str:
    parts = ", ".join(f"{count} {state}" for state, count in view.counts.items() if count)
    return f"{view.info.name}: {parts or 'no tasks'}, {len(view.jobs)} jobs"


def _looks(view: RunView, pause: float = _PAUSE) -> Iterator[RunView]:
    """The run as it is now and then, until its tasks are over or nobody works on them."""
    asked = took = 0.0
    while True:
        yield view
        if _is_over(view):
            return
        if time.monotonic() - asked > _ASK and view.info.state != "held":
            asked = time.monotonic()
            if lost(view):
                return
        time.sleep(max(pause, _SHARE * took))
        begun = time.monotonic()
        view = pools.look(view.info.path)
        took = time.monotonic() - begun


def _is_over(view: RunView) -> bool:
    """Whether no task is left; a live script without any may still add some."""
    return not view.unfinished and (bool(view.tasks) or view.info.state != "held")


def _watch(view: RunView) -> RunView:
    """Show the run until all its tasks are over; returns how it is then."""
    if not on_terminal():
        before = ""
        for now in _looks(view):
            view = now
            if (line := _line(view)) != before:
                say(line)
                before = line
        return view
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False) as live:
        for now in _looks(view):
            view = now
            live.update(Text.from_ansi("\n".join(_describe(view))), refresh=True)
    return view


@command
def wait(
    run: Run,
    timeout: Annotated[float | None, typer.Option(help="Give up after so many seconds (status 3).", metavar="SECONDS")] = None,
) -> None:
    """Wait until all tasks of a run are over. Ends with status 0, 1 if some failed, 3 if nobody works on it any more."""
    begun = time.monotonic()
    for view in _looks(pools.look(run), pause=0.2):
        if timeout is not None and not _is_over(view) and time.monotonic() - begun > timeout:
            fail(f"{_line(view)}: not over after {timeout:g} s", LOST)
    say(_line(view))
    for step in next_steps(view):
        say(f"next: {step}")
    raise typer.Exit(end_of(view))


@command
def tasks(
    run: Run,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Only those that run.")] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that have not started.")] = False,
    succeeded: Annotated[bool, typer.Option("--succeeded", help="Only those that succeeded.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Only those that were cancelled.")] = False,
    json: Json = False,
) -> None:
    """List the tasks of a run."""
    view = pools.look(run)
    given = {"failed": failed, "running": running, "waiting": waiting, "succeeded": succeeded, "cancelled": cancelled}
    wanted = {state for state, chosen in given.items() if chosen} or set(given)
    chosen = [task for task in view.tasks if task.state in wanted]
    if json:
        as_json([task_facts(task) for task in chosen])
        return
    if not chosen:
        say(f"No task of run {view.info.name} is {' or '.join(sorted(wanted))}." if len(wanted) < len(given) else "No tasks.")
        return
    table([">NO", "STATE", ">TIME", "NODE", "NAME", "WHAT"], map(_row, chosen))
    if broken := [task for task in chosen if task.state == "failed"]:
        say()
        say(f"Why: nornir-pools why {view.info.name} {broken[0].number}")


def _row(task: TaskView) -> list[str]:
    seconds = task.seconds
    if task.state == "running" and task.started is not None:
        seconds = time.time() - task.started
    text = task_line(task) if task.state == "failed" else what(task) if task.command is not None else ""
    return [str(task.number), task.state, duration(seconds), task.node or "-", short(task.name, 40), text]


@command
def logs(
    run: Run,
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="A task's number or name.", show_default=False)] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task is over.")] = False,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="Those of all failed tasks.")] = False,
) -> None:
    """Print what a task has written to the log of its job."""
    view = pools.look(run)
    if all_failed:
        for one in view.tasks:
            if one.state == "failed":
                say(styled(f"==> {one.number} {one.name}: {task_line(one)} <==", "bold"))
                say(one.output().rstrip("\n"))
        for step in next_steps(view):
            suggest(step)
        return
    if not task:
        fail("which task? Give its number or name, or --all-failed")
    one = view.task(task)
    if follow and not one.over:
        one = _follow_log(view, one)
    else:
        text = one.output()
        sys.stdout.write(text)
        if not text:
            complain(_why_empty(one))
    suggest(_after_log(view.info.name, one))


def _after_log(run: str, task: TaskView) -> str:
    if task.state == "failed":
        return f"nornir-pools retry {run} --task {task.number}"
    if task.state == "running":
        return f"nornir-pools logs {run} {task.number} -f"
    return f"nornir-pools why {run} {task.number}" if task.state == "waiting" else f"nornir-pools tasks {run}"


def _why_empty(task: TaskView) -> str:
    if task.state == "waiting":
        return f"task {task.number} has not started, so there is no log of it"
    if not task.log:
        return f"task {task.number} has no log: {task_line(task) or task.state}"
    if not os.path.exists(task.log):
        return f"the log of task {task.number} was removed when its run was closed: only those of failed tasks are kept"
    if task.command is not None and task.state == "succeeded":
        return f"task {task.number} wrote nothing here: what its command printed went to the script that has added it"
    return f"task {task.number} has written nothing to its log"


def _follow_log(view: RunView, task: TaskView) -> TaskView:
    """Print the log as it grows, and that of another try after it; returns the task as it has ended.

    The log is kept open: when its run is closed, the logs of successes are removed.
    """
    text = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be written in two pieces
    with contextlib.ExitStack() as stack:
        file: BinaryIO | None = None
        while True:
            if (file is None or task.log != file.name) and task.log and os.path.exists(task.log):
                stack.close()
                file = stack.enter_context(open(task.log, "rb"))
                file.seek(task.log_start)
                text.reset()
            if file is not None:
                data = file.read() if task.log_end is None else file.read(max(0, task.log_end - file.tell()))
                sys.stdout.write(text.decode(data, final=task.over))
                sys.stdout.flush()
            if task.over:
                say(f"[task {task.number} {task.state}]")
                return task
            time.sleep(0.3)
            task = pools.look(view.info.path).task(task.number)
