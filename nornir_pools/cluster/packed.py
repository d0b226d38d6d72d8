"""All lines of a list in one job that somebody has sent by hand, as a run of its own on the job's CPUs.

``python -m nornir_pools.cluster.packed LIST`` is what slurm/packed.sbatch calls.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path

from ..cpus import usable_cpus
from ..errors import PoolError
from ..lines import CommandList, RunLine
from ..task import CommandTask, Task
from .pool import ClusterPool

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the lines without a mark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nornir_pools.cluster.packed", description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path, help="a file with one shell command a line")
    given = parser.parse_args(arguments).list
    try:
        lines = CommandList(given)
        return _run(lines, given)
    except OSError as error:
        sys.stderr.write(f"{given}: {error}\n")
        return 2
    except PoolError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(lines: CommandList, given: Path) -> int:
    marked = lines.marked()
    wanted = {number: command for number, command in lines.commands.items() if number not in marked}
    if not wanted:
        return 0
    pool = ClusterPool(lines.path.stem, usable_cpus(), executor="local", stop_after=0, resume=False)
    tasks: list[CommandTask] = []
    for number, command in wanted.items():
        run_line = RunLine(str(lines.mark(number)), str(lines.log(number)))
        task = pool._add(CommandTask, f"line {number}", run_line, (command,), {"cwd": os.getcwd()})
        task.add_done_callback(functools.partial(_tell, number, f"{given}.logs/{number}"))
        tasks.append(task)
    pool.shutdown()
    return int(any(task.failed for task in tasks))


def _tell(number: int, log: str, task: Task) -> None:
    assert isinstance(task, CommandTask)
    if task.failed:
        error = task.exception()
        what = f"{type(error).__name__}: {error}" if error else f"exit status {task.returncode}"
        sys.stderr.write(f"line {number} failed ({what}): see {log}\n")


if __name__ == "__main__":
    sys.exit(main())
