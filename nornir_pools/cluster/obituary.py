"""The errors for tasks that their jobs fail: what happened, in which job, what its log says, what to do."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from ..errors import (
    InitializerError,
    JobCancelledError,
    JobError,
    JobLostError,
    JobOutOfMemoryError,
    JobPreemptedError,
    JobTimeoutError,
    NodeFailedError,
    PoolError,
    PythonMismatchError,
    SpoolError,
    SubmissionError,
    WorkerDiedError,
)
from . import slurm
from .jobs import Job
from .launching import TOO_OLD
from .spool import FORMAT

__all__ = ["initializer_error", "job_error", "mismatch", "nowhere", "refusal", "too_old", "unseen"]

_WORDS: dict[type, tuple[str, str]] = {
    JobTimeoutError: ("reached its time limit", "give it more with timeout_min="),
    JobOutOfMemoryError: ("used more memory than it had asked for", "give it more with mem_gb="),
    JobCancelledError: ("was cancelled, not by this program", "see who did: sacct -j {job} -o State%40"),
    JobPreemptedError: (
        "had to make room for a job of higher priority",
        "run it again, or in another partition or QOS",
    ),
    NodeFailedError: ("lost its node", "run it again"),
    WorkerDiedError: ("failed: its worker died", "look at the end of its log; SIGKILL may mean: out of memory"),
}
_LOST = ("is gone, and neither it nor the scheduler says how it ended", "look at its log, and at the node it ran on")
_ONE_WORKER = ("goes on, but that one of its workers has died", "look at the end of its log; SIGKILL may mean: out of memory")


def job_error(pool: str, task: str, job: Job, ending: slurm.Ending) -> JobError | WorkerDiedError:
    """The error for `task` of `pool` (or, with an empty name, for all tasks that wait for such a job)."""
    kind = slurm.error_class(ending)
    what, advice = _ONE_WORKER if job.died and kind is WorkerDiedError else _WORDS.get(kind, _LOST)
    whose = f"task {task!r} of pool {pool!r}: its job" if task else f"pool {pool!r}: the jobs do not start; the last one,"
    tail = _tail(job.log)
    log = f"\nits log, {job.log}, ends:\n{tail}" if tail else f"\nits log: {job.log or 'none was written'}"
    return kind(
        f"{whose} {job.scheduled} {what} ({ending}); {advice.format(job=job.scheduled.replace('@', ' -M '))}{log}",
        job_id=job.scheduled,
        state=ending.state,
        log=job.log,
        **({"memory": ending.memory, "memory_asked": ending.memory_asked} if kind is JobOutOfMemoryError else {}),
    )


def _tail(log: str, size: int = 2000) -> str:
    """The last lines of a log."""
    if not log:
        return ""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def unseen(pool: str, job: Job, folder: Path) -> SpoolError:
    """The error for tasks whose jobs could not even write a log."""
    return SpoolError(
        f"pool {pool!r}: the jobs do not start; the last one, {job.id}, could not write its log: the run's folder {folder} is "
        "perhaps not seen by the nodes, or cannot be written there. Set one that all nodes share with the option folder= or "
        "NORNIR_POOLS_FOLDER",
        folder=str(folder),
    )


def nowhere(pool: str, task: str, folder: Path) -> JobLostError:
    """The error for a task that is in no folder of its run."""
    return JobLostError(
        f"task {task!r} of pool {pool!r}: its file is gone from the run's folder {folder}, so no job will run it; "
        "if nobody has removed it, the filesystem has lost it. Add the task again"
    )


def refusal(pool: str, error: Exception) -> PoolError:
    """The error for tasks whose jobs cannot be sent; `error` is what sbatch said, or what is wrong with the run's folder."""
    if isinstance(error, SpoolError):
        return error
    return SubmissionError(f"pool {pool!r}: SLURM refused the job: {error}; nornir-pools doctor tells what is allowed here")


def initializer_error(pool: str, facts: dict[str, Any]) -> InitializerError:
    """The error for all tasks of a pool whose initializer has failed; `facts` are the worker's."""
    name, trace = facts["initializer"], facts["traceback"].rstrip()
    return InitializerError(
        f"pool {pool!r}: its initializer, {name}, has failed on {facts['host']} (job {facts['job']}), so it runs no task any "
        f"more: {facts['error']}\n{trace}\nMend that, shut the pool down and ask for it again to get a new one; the job's log: "
        f"{facts.get('log') or 'none'}",
        initializer=name,
    )


def too_old(pool: str, job: Job) -> PythonMismatchError | None:
    """The error for tasks whose jobs have a Python that could not even load the worker, if their log says that."""
    found = re.search(rf"Python (\d+\.\d+) {TOO_OLD}", _tail(job.log))
    return mismatch(pool, {"python": found[1], "host": job.host or job.node or "a node"}) if found else None


def mismatch(pool: str, facts: dict[str, Any]) -> PythonMismatchError:
    """The error for tasks whose jobs have another Python than the script; `facts` are the worker's."""
    mine = "{}.{}".format(*sys.version_info)
    if facts["python"] == mine:
        return PythonMismatchError(
            f"pool {pool!r}: the nornir_pools of the script and that of its jobs on {facts['host']} write runs differently "
            f"(format {FORMAT} and {facts['format']}): install the same version for both"
        )
    return PythonMismatchError(
        f"pool {pool!r}: the script runs Python {mine} and its jobs Python {facts['python']} on {facts['host']}; pickles "
        "cannot be exchanged between them. Use one version, e.g. by the option python= with the interpreter for the jobs"
    )
