"""The commands that run things: run."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nornir_pools as pools

from .amounts import job_options
from .background import in_background
from .facts import end_of, next_steps, run_facts, task_facts, task_line, what
from .output import INTERRUPTED, as_json, command, complain, duration, fail, say, short, styled
from .progress import Progress
from .taskfile import Line, read_lines

if TYPE_CHECKING:
    from nornir_pools.cluster.pool import ClusterPool

__all__ = ["add_to", "finish", "interrupted"]

_LIST = "tasks.txt"  # the copy of the task list in the run's folder
_REST = "rest.txt"  # the commands that a pool that has stopped did not take any more, in its folder as well
_SHOWN = 20  # failed commands that are listed at the end


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools run tasks.txt -n 32 --mem 2G --time 30")(run)


@command
def run(
    taskfile: Annotated[Path, typer.Argument(metavar="TASKFILE", help="One shell command a line; # begins a comment line.")],
    jobs: Annotated[int | None, typer.Option("-n", "--jobs", min=1, help="Most jobs at once.", show_default=False)] = None,
    slurm: Annotated[bool | None, typer.Option("--slurm/--local", help="As SLURM jobs, or on this machine.")] = None,
    partition: Annotated[str, typer.Option(help="SLURM partition.", metavar="NAME")] = "",
    account: Annotated[str, typer.Option(help="SLURM account.", metavar="NAME")] = "",
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of each command.", show_default=False)] = None,
    mem: Annotated[str, typer.Option(help="Memory of each command: 4G, 500M.", metavar="AMOUNT")] = "",
    time: Annotated[str, typer.Option(help="Time limit of a job: 30 (minutes), 2h, 1:30:00.", metavar="TIME")] = "",
    retries: Annotated[int | None, typer.Option(min=0, help="Tries more for what a job took down.", show_default=False)] = None,
    budget: Annotated[
        float | None, typer.Option(help="Begin no further command once the jobs have used so much.", metavar="CORE_HOURS")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run; else that of the file.", metavar="NAME")] = "",
    wait: Annotated[bool, typer.Option("--wait/--detach", help="Wait here, or go on in the background.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the sbatch script and the most it can cost.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the run and its failed commands as JSON at the end.")] = False,
) -> None:
    """Run the commands of a file, as SLURM jobs or here.

    Each is run once. Ends with status 1 if some failed.
    """
    lines, content = read_lines(taskfile)
    options: dict[str, Any] = {
        "slurm_partition": partition or None,
        "slurm_account": account or None,
        "cpus_per_task": cpus,
        "retries": retries,
        "budget_core_hours": budget,
        "executor": None if slurm is None else "slurm" if slurm else "local",
        "stop_after": 0,  # a list is run to its end
        **job_options(mem, time),
    }
    options = {key: value for key, value in options.items() if value is not None}
    pool_name = name or taskfile.stem
    if dry_run:
        _show_plan(pools.GetClusterPool(pool_name, jobs, **options), len(lines))
        return

    def work(started: Callable[[Path], None] | None = None) -> int:
        pool = pools.GetClusterPool(pool_name, jobs, **options)
        return _work(pool, lines, content, json=json, started=started)

    raise typer.Exit(work() if wait else in_background(work))


def _show_plan(pool: ClusterPool, count: int) -> None:
    plan = pool.plan(count)
    if plan.script:
        say(plan.script.rstrip("\n"))
        say()
    cpus = f"{plan.cpus} CPU{'s' if plan.cpus > 1 else ''}"
    say(f"{count} commands, at most {plan.jobs} at once, {cpus} each; time limit of a job: {plan.limit}")
    if plan.core_hours is not None:
        say(f"at most {plan.core_hours:,.1f} core-hours, if each command had a job of its own that ran to its limit")
    if plan.budget is not None:
        say(f"no further command is begun once the jobs have used the budget of {plan.budget:g} core-hours")
    say("Nothing was submitted.")


def _work(
    pool: ClusterPool, lines: Sequence[Line], content: bytes, *, json: bool, started: Callable[[Path], None] | None
) -> int:
    """Run all lines to their end; returns the exit status."""
    if pool.executor == "debug":
        pool.shutdown()
        fail('executor="debug" is for Python scripts, and leaves no run to be looked at: give --local, or --slurm')
    tasks: list[pools.Task] = []
    with Progress(len(lines)) as progress:
        try:
            with contextlib.suppress(pools.BudgetSpentError, pools.TasksFailedError):  # the log has said so
                for line in lines:
                    task = pool.add_process(f"line {line.number}", line.command, stdout=1, stderr=2)  # into the job's log
                    task.add_done_callback(progress.note)
                    tasks.append(task)
                    if len(tasks) == 1:
                        _begin(pool, len(lines), content)
            if started is not None and pool.folder is not None:
                say(f"It goes on in the background. next: nornir-pools status {pool.folder.name}")
                started(pool.folder / "run.log")
            pool.wait_completion()
        except KeyboardInterrupt:
            return interrupted(pool)
    rest = lines[len(tasks) :]
    if rest:
        _keep_rest(pool, rest)
    return finish(pool, json=json) or int(bool(rest))


def _keep_rest(pool: ClusterPool, lines: Sequence[Line]) -> None:
    """The pool has stopped before these lines were added: make a list of them, to be run some time."""
    assert pool.folder is not None
    rest = pool.folder / _REST
    _write(rest, "".join(f"{line.command}\n" for line in lines).encode())
    complain(f"the last {len(lines)} commands were not begun either: nornir-pools run {shlex.quote(str(rest))}")


def _begin(pool: ClusterPool, count: int, content: bytes) -> None:
    """Note what is run, in the run's folder: the file may be changed meanwhile."""
    assert pool.folder is not None
    _write(pool.folder / _LIST, content)
    complain(f"run {pool.folder.name}: {count} commands, {'on this machine' if pool.executor == 'local' else 'SLURM jobs'}")


def _write(path: Path, content: bytes) -> None:
    # (A run that is resumed has one of its last time.)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(content)


def interrupted(pool: ClusterPool) -> int:
    """Ctrl-C: end the jobs, and tell what was done; returns the exit status."""
    complain("interrupted: ending its jobs …")
    pool.abandon()
    if pool.folder is not None:
        view = pools.look(pool.folder)
        done, cancelled = view.counts["succeeded"], view.counts["cancelled"]
        complain(f"{done} had succeeded, {cancelled} were cancelled: nornir-pools tasks {view.info.name}")
    return INTERRUPTED


def finish(pool: ClusterPool, *, json: bool = False) -> int:
    """Close a pool whose tasks are done, and tell how they ended; returns the exit status."""
    pool.shutdown()
    if pool.folder is None:
        fail("nothing was run")
    view = pools.look(pool.folder)
    failed = [task for task in view.tasks if task.state == "failed"]
    if json:
        as_json({**run_facts(view), "failed": [task_facts(task) for task in failed]})
        return end_of(view)
    took = max((task.finished or 0 for task in view.tasks), default=0) - view.info.started
    count = len(view.tasks)
    say(f"{count} task{'s' * (count > 1)} in {duration(took)}: {view.counts['succeeded']} succeeded, {len(failed)} failed")
    for task in failed[:_SHOWN]:
        say(f"  {styled(task.name, 'bold red')}: {task_line(task)}")
        say(f"      {short(what(task), 120)}")
    if len(failed) > _SHOWN:
        say(f"  … and {len(failed) - _SHOWN} more: nornir-pools tasks {view.info.name} --failed")
    for step in next_steps(view):
        say(f"next: {step}")
    return end_of(view)
