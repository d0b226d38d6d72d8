"""How a job begins: what it is told, and what it sees to before its workers serve a run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .context import leave_step
from .folder import FULL, PASSING
from .signals import signals
from .spool import Spool

__all__ = ["arguments_of_jobs", "prepare"]

_PATIENCE = 60.0  # seconds in which the folder may have a bad moment, or be full, before a worker gives up


def _job_id(given: str) -> str:
    """The job's id as squeue shows it: ARRAY_INDEX for an array element."""
    if given:
        return given
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", f"p{os.getpid()}")


def arguments_of_jobs(program: str, what: str) -> argparse.ArgumentParser:
    """What a job may be told."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=what)
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--group", type=int, default=0, help="which tasks: those of one set of options")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to stay without work")
    parser.add_argument("--one", action="store_true", help="run one task and end")
    parser.add_argument("--job", default="", help="the job's id, where no scheduler gives it, or with its cluster")
    parser.add_argument("--task-timeout", type=float, help="seconds that a task may take, if not as the run says; 0: no limit")
    return parser


def prepare(options: argparse.Namespace) -> tuple[Spool, int, str] | None:
    """Begin a job: returns the folder of its run, its group, and its id; None if the run was closed before it started."""
    signals.install()
    os.umask(0o077)  # tasks have that of the script
    job = _job_id(options.job)
    for name in [name for name in os.environ if name.startswith("SUBMITIT_")]:
        del os.environ[name]  # a task may use submitit for itself
    leave_step(os.environ)
    spool = Spool(options.folder)
    spool.patience, spool.passing = _PATIENCE, PASSING | FULL
    return (spool, options.group, job) if "todo" in spool.names(".") else None
