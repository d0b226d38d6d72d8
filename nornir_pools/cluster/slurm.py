"""What the package knows about SLURM: its commands, states, ids and refusals. (How jobs are sent is in launcher.py.)

Every call of a SLURM command has a time limit. Read with SLURM 22.05 and 24.11; sources are the manual pages of the commands.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import (
    JobCancelledError,
    JobError,
    JobLostError,
    JobOutOfMemoryError,
    JobPreemptedError,
    JobTimeoutError,
    NodeFailedError,
    SubmissionError,
    WorkerDiedError,
)

__all__ = [
    "SlurmError",
    "accounting",
    "cancel",
    "error_class",
    "find_by_name",
    "is_over",
    "is_transient",
    "looks_installed",
    "max_array_size",
    "read_job_id",
    "refusal",
    "run",
    "states",
]

TIME_LIMIT = 60.0  # seconds for a call of a SLURM command

# Job states after which no process of the job runs (squeue's manual page, "JOB STATE CODES"). A state that is not listed,
# one of a newer SLURM, counts as alive: a job that is gone from the queue is found out about in any case.
_OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
_CLASSES: Mapping[str, type[JobError] | type[WorkerDiedError]] = {
    "TIMEOUT": JobTimeoutError,
    "DEADLINE": JobTimeoutError,
    "OUT_OF_MEMORY": JobOutOfMemoryError,
    "CANCELLED": JobCancelledError,
    "PREEMPTED": JobPreemptedError,
    "NODE_FAIL": NodeFailedError,
    "BOOT_FAIL": NodeFailedError,
    "LAUNCH_FAILED": NodeFailedError,
    "FAILED": WorkerDiedError,
    "COMPLETED": JobLostError,
}
# What sbatch says when it may well say something else later.
_BUSY = (
    "socket timed out",
    "unable to contact slurm controller",
    "resource temporarily unavailable",
    "connect failure",
    "connection refused",
    "zero bytes were transmitted",
    "transport endpoint",
    "slurm temporarily unable to accept job",
    "slurmctld daemon is in standby",
    "timed out after",
)
_LIMITS = ("submitjob", "maxjobsperuser", "job submit limit", "qosmaxsubmit", "assocmaxsubmit", "maxjobcount")


class SlurmError(Exception):
    """A SLURM command failed; the text is what it said."""


def looks_installed() -> bool:
    """Whether this machine evidently belongs to a SLURM cluster, although ``sbatch`` may not be on PATH."""
    files = [os.environ.get("SLURM_CONF") or "/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf"]
    return any(Path(file).is_file() for file in files) or shutil.which("squeue") is not None


def run(
    command: Sequence[str], environment: Mapping[str, str], *, folder: str | None = None, seconds: float = TIME_LIMIT
) -> str:
    """Run a SLURM command and return what it printed. Raises SlurmError if it fails or takes longer than `seconds`."""
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C must not end it halfway
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} timed out after {seconds:g} s") from error
    except OSError as error:
        raise SlurmError(f"{command[0]} cannot be started: {error}") from error
    if done.returncode:
        raise SlurmError(done.stderr.strip() or done.stdout.strip() or f"{command[0]} gave exit status {done.returncode}")
    return done.stdout


def read_job_id(output: str) -> str:
    """The job's id in what sbatch printed, whatever a site's wrapper has printed around it. Raises SlurmError."""
    sentences = re.findall(r"^Submitted batch job (\d+)", output, re.MULTILINE)
    numbers = sentences or re.findall(r"^(\d+)(?:;\S*)?\s*$", output, re.MULTILINE)  # --parsable, or a wrapper's own way
    if not numbers:
        raise SlurmError(f"sbatch's answer holds no job id: {output.strip()!r}")
    return str(numbers[-1])


def is_transient(text: str) -> str:
    """Whether a refusal may pass: "limit" (submit fewer, or later), "busy" (ask again later), or "" for a final one."""
    low = text.lower()
    if any(word in low for word in _BUSY):
        return "busy"
    return "limit" if any(word in low for word in _LIMITS) else ""


def states(environment: Mapping[str, str]) -> dict[str, str]:
    """The state of each of this user's jobs that the controller still knows, array elements one by one."""
    output = run(["squeue", "-h", "-r", "-t", "all", "-u", str(os.geteuid()), "-o", "%i|%T"], environment)
    return dict(line.strip().split("|", 1) for line in output.splitlines() if "|" in line)


def find_by_name(name: str, environment: Mapping[str, str]) -> str | None:
    """The id of the job (for an array, of the whole) with this unique name, or None."""
    output = run(["squeue", "-h", "-r", "-t", "all", "--name", name, "-o", "%i|%T"], environment)
    ids = {line.split("|")[0].split("_")[0].strip() for line in output.splitlines() if "|" in line}
    return max(ids, key=int) if ids else None


def cancel(jobs: Iterable[str], environment: Mapping[str, str], *, pending_only: bool = False) -> None:
    """Cancel jobs; `pending_only`: those that have not started."""
    jobs = list(jobs)
    for start in range(0, len(jobs), 500):  # a command line has room for that many
        run(["scancel", *(["--state=PENDING"] if pending_only else []), *jobs[start : start + 500]], environment)


def is_over(state: str) -> bool:
    """Whether no process of a job in this state runs. ("CANCELLED by 1000" is sacct's way of putting it.)"""
    return state.split(" ")[0].rstrip("+") in _OVER


def error_class(state: str) -> type[JobError] | type[WorkerDiedError]:
    """The class of error that stands for a job having ended in this state before its task."""
    return _CLASSES.get(state.split(" ")[0].rstrip("+"), JobLostError)


def max_array_size(environment: Mapping[str, str]) -> int:
    """How many elements an array that starts at 0 may have here (its largest index is MaxArraySize - 1); 1,000 if unknown."""
    try:
        match = re.search(r"MaxArraySize\s*=\s*(\d+)", run(["scontrol", "show", "config"], environment, seconds=20))
    except SlurmError:
        match = None
    return max(1, int(match[1])) if match else 1000


def accounting(job: str, environment: Mapping[str, str]) -> str:
    """The state that accounting has on record for a job; "" where there is no accounting or it does not answer."""
    try:
        output = run(["sacct", "-n", "-X", "-P", "-D", "-j", job, "-o", "JobID,State"], environment, seconds=15)
    except SlurmError:
        return ""
    rows = [line.split("|") for line in output.splitlines() if "|" in line]
    return rows[-1][1] if rows else ""


def refusal(text: str, pool: str) -> SubmissionError:
    """The error for tasks whose jobs SLURM does not take."""
    return SubmissionError(f"pool {pool!r}: SLURM refused the job: {text}")
