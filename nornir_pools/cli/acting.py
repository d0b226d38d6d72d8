"""Commands that change what a run does: retry, cancel, debug."""

from __future__ import annotations

import sys
import time as clock
from typing import Annotated

import typer

import nornir_pools as pools

from .amounts import job_options
from .naming import Run, TaskWord
from .output import FAILED, LOST, OK, command, complain, fail, say, short
from .progress import Progress
from .runs import finish, interrupted

__all__ = ["add_to"]

_HEEDED = 20.0  # seconds in which the process that holds a run should have heeded a request


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: nornir-pools retry last --failed --mem 8G")(retry)
    app.command(epilog="Example: nornir-pools cancel last --task 17")(cancel)
    app.command(epilog="Example: nornir-pools debug last 17")(debug)


@command
def retry(
    run: Run,
    failed: Annotated[bool, typer.Option("--failed", help="All tasks that failed.")] = False,
    task: Annotated[
        list[str] | None, typer.Option(help="This failed task; may be given more than once.", metavar="TASK")
    ] = None,
    mem: Annotated[str, typer.Option(help="Memory for each: 4G, 500M.", metavar="AMOUNT")] = "",
    time: Annotated[str, typer.Option(help="Time limit of a job: 30 (minutes), 2h, 1:30:00.", metavar="TIME")] = "",
    new_code: Annotated[bool, typer.Option("--new-code", help="With your modules as they are now.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the run and what failed again as JSON at the end.")] = False,
) -> None:
    """Run failed tasks again, as a new run.

    They are run exactly as they were added, also with the code of then, but for the options given here. The first run stays
    as it is.
    """
    if failed == bool(task):
        fail("which tasks? Give --failed for all that failed, or --task with a number or name")
    view = pools.look(run)
    if failed and not view.counts["failed"]:
        say(f"No task of run {view.info.name} has failed: there is nothing to retry.")
        return
    pool = pools.retry(view.info.path, None if failed else task, new_code=new_code, **job_options(mem, time))
    tasks = list(pool.tasks)
    assert pool.folder is not None
    complain(f"run {pool.folder.name}: {len(tasks)} tasks of run {view.info.name} again")
    try:
        with Progress(len(tasks)) as progress:
            for one in tasks:
                one.add_done_callback(progress.note)
            pool.wait_completion()
    except KeyboardInterrupt:
        raise typer.Exit(interrupted(pool)) from None
    raise typer.Exit(finish(pool, json=json))


@command
def cancel(
    run: Run,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given more than once.", metavar="TASK")] = None,
) -> None:
    """Cancel unfinished tasks, and the jobs that run them.

    The script that waits for them goes on, without them.
    """
    view = pools.look(run)
    wanted = view.unfinished if not task else [view.task(word) for word in task]
    over = [one for one in wanted if one.over]
    if over:
        fail(f"task {over[0].number} ({over[0].name}) is over: {over[0].state}")
    if not wanted and not view.jobs:
        say(f"All tasks of run {view.info.name} are over: there is nothing to cancel.")
        return
    numbers = {one.number for one in wanted}
    if not pools.cancel(view.info.path, numbers if task else None):
        say(f"{len(numbers)} tasks of run {view.info.name} were cancelled; no process holds it.")
        return
    until = clock.monotonic() + _HEEDED
    while left := [one for one in pools.look(view.info.path).unfinished if one.number in numbers]:
        if clock.monotonic() > until:
            fail(
                f"{view.info.holder}, which holds the run, was asked to cancel, but has not yet done so ({len(left)} left)",
                LOST,
            )
        clock.sleep(0.1)
    states = [one.state for one in pools.look(view.info.path).tasks if one.number in numbers]
    say(f"{states.count('cancelled')} tasks of run {view.info.name} were cancelled by {view.info.holder}.")


@command
def debug(run: Run, task: TaskWord) -> None:
    """Run a failed task here, under the debugger.

    Where it fails, pdb shows its variables. A task whose call is not in the run's folder any more cannot be run.
    """
    view = pools.look(run)
    one = view.task(task)
    call = pools.recorded_call(view.info.path, one.number)  # ("last" may be another run by now)
    complain(f"task {one.number} ({one.name}) runs here now, in its own folder and environment, with the code it ran with")
    try:
        value = call()
    except Exception:
        import pdb
        import traceback

        traceback.print_exc()
        _, _, trace = sys.exc_info()
        complain("it has failed here as well: 'up' and 'down' go through the calls, 'p NAME' shows a variable, 'q' ends")
        pdb.post_mortem(trace)
        raise typer.Exit(FAILED) from None
    if one.command is not None:
        complain(f"the command {short(str(one.command))} ended with status {value[0]}")
        raise typer.Exit(FAILED if value[0] else OK)
    complain(f"it has succeeded here and returned {short(repr(value))}")
