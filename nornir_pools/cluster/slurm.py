"""What the package knows about SLURM: its commands, states, ids and refusals. (How jobs are sent is in launcher.py.)

Every call of a SLURM command has a time limit. Read with SLURM 22.05 and 24.11; sources are the manual pages of the commands.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..errors import (
    JobCancelledError,
    JobError,
    JobLostError,
    JobOutOfMemoryError,
    JobPreemptedError,
    JobTimeoutError,
    NodeFailedError,
    WorkerDiedError,
)

__all__ = [
    "Ending",
    "SlurmError",
    "accounting",
    "cancel",
    "default_time",
    "error_class",
    "find_by_name",
    "is_available",
    "is_over",
    "is_requeued",
    "is_transient",
    "job_end",
    "looks_installed",
    "max_array_size",
    "read_job_id",
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


def is_available() -> bool:
    """Whether jobs can be submitted from here: ``sbatch`` is on PATH, and a cluster is behind it.

    SLURM's packages alone, without a configuration, are no cluster. One whose controller is down for the moment is.
    """
    if shutil.which("sbatch") is None:
        return False
    if looks_installed():
        return True
    try:  # a cluster may also give its configuration by DNS
        run(["scontrol", "ping"], os.environ, seconds=20)
    except SlurmError as error:
        return "configuration source" not in str(error)
    return True


def looks_installed() -> bool:
    """Whether this machine evidently belongs to a SLURM cluster, although ``sbatch`` may not be on PATH."""
    files = [
        os.environ.get("SLURM_CONF") or "/etc/slurm/slurm.conf",
        "/etc/slurm-llnl/slurm.conf",
        "/run/slurm/conf/slurm.conf",
    ]
    return any(Path(file).is_file() for file in files)


def run(
    command: Sequence[str], environment: Mapping[str, str], *, folder: str | None = None, seconds: float = TIME_LIMIT
) -> str:
    """Run a SLURM command and return what it printed. Raises SlurmError if it fails or takes longer than `seconds`."""
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            cwd=folder,
            umask=-1 if folder is None else 0o077,  # of sbatch: a job's log is made with it
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
    output = run(
        ["squeue", "-h", "-r", "-t", "all", "-u", str(os.geteuid()), "-o", "%i|%j"], environment
    )  # a name may have commas
    ids = {line.split("_")[0].strip() for line in output.splitlines() if line.partition("|")[2] == name}
    return max(ids, key=int) if ids else None


def cancel(jobs: Iterable[str], environment: Mapping[str, str], *, pending_only: bool = False) -> None:
    """Cancel jobs; `pending_only`: those that have not started."""
    jobs = list(jobs)
    for start in range(0, len(jobs), 500):  # a command line has room for that many
        run(["scancel", *(["--state=PENDING"] if pending_only else []), *jobs[start : start + 500]], environment)


def is_over(state: str) -> bool:
    """Whether no process of a job in this state runs. ("CANCELLED by 1000" is sacct's way of putting it.)"""
    return _word(state) in _OVER


def is_requeued(state: str) -> bool:
    """Whether a job that had been running waits to run again."""
    return _word(state) in ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def _word(state: str) -> str:
    return state.split(" ")[0].rstrip("+")


@dataclass(frozen=True)
class Ending:
    """How a job has ended, as far as the scheduler tells."""

    state: str = ""
    exit_code: str = ""
    """Exit status and signal of the batch script, as in "0:9"."""
    memory: int = 0
    """Most bytes it was seen to use; 0 if unknown."""
    memory_asked: int = 0

    @property
    def over_memory(self) -> bool:
        """Whether it used more memory than it had asked for."""
        return 0 < self.memory_asked < self.memory

    def __str__(self) -> str:
        words = [f"state {self.state or 'unknown'}"]
        if self.exit_code not in ("", "0:0"):
            words.append(f"exit code {self.exit_code}")
        if self.memory:
            asked = f" of {self.memory_asked / 1e6:.0f} MB asked for" if self.memory_asked else ""
            words.append(f"it used {self.memory / 1e6:.0f} MB{asked}")
        return ", ".join(words)


def error_class(ending: Ending) -> type[JobError] | type[WorkerDiedError]:
    """The class of error that stands for a job having ended this way before its task.

    Without cgroups SLURM kills a job that uses too much memory, and says FAILED or CANCELLED with signal 9.
    """
    state = _word(ending.state)
    if state in ("FAILED", "CANCELLED") and ending.exit_code.endswith(":9") and ending.over_memory:
        return JobOutOfMemoryError
    return _CLASSES.get(state, JobLostError)


def max_array_size(environment: Mapping[str, str]) -> int:
    """How many elements an array that starts at 0 may have here (its largest index is MaxArraySize - 1); 1,000 if unknown."""
    try:
        match = re.search(r"MaxArraySize\s*=\s*(\d+)", run(["scontrol", "show", "config"], environment, seconds=20))
    except SlurmError:
        match = None
    return max(1, int(match[1])) if match else 1000


def accounting(job: str, environment: Mapping[str, str]) -> Ending | None:
    """What accounting has on record about the last run of a job that is over; None where there is none, or it does not answer.

    Raises SlurmError if the call fails, so that it can be left alone for a while.
    """
    columns = "JobID,State,ExitCode,MaxRSS,ReqMem"
    output = run(["sacct", "-n", "-P", "-D", "-j", job, "-o", columns], environment, seconds=15)
    rows = [line.split("|") for line in output.splitlines() if line.count("|") == 4]
    whole = [row for row in rows if "." not in row[0] and is_over(row[1])]
    if not whole:
        return None
    _, state, exit_code, _, asked = whole[-1]
    used = max((_bytes(row[3]) for row in rows), default=0)
    return Ending(state, exit_code, used, _bytes(asked))


def _bytes(text: str) -> int:
    """Bytes from SLURM's "1234K", "100M", "4Gn" (a trailing n or c: per node, per CPU)."""
    match = re.fullmatch(r"([\d.]+)([KMGTP]?)[nc]?", text)
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2] or " ")) if match else 0


def job_end(environment: Mapping[str, str]) -> float:
    """Inside a job: when it ends, in seconds since the epoch; infinite if it has no limit, or nobody says.

    SLURM sets SLURM_JOB_END_TIME from 23.02 on.
    """
    known = environment.get("SLURM_JOB_END_TIME", "")
    if known.isdigit():
        return float(known)
    try:
        said = run(["squeue", "-h", "-j", environment["SLURM_JOB_ID"], "-o", "%e"], environment, seconds=20).strip()
        return datetime.fromisoformat(said).timestamp()  # in the node's own time zone
    except (KeyError, SlurmError, ValueError):
        return math.inf


def default_time(partition: str | None, environment: Mapping[str, str]) -> str:
    """The time limit that a job gets that asks for none, in words."""
    columns = ["sinfo", "-h", "-o", "%P %L", *(["-p", partition] if partition else [])]
    try:
        rows = [line.split() for line in run(columns, environment, seconds=20).splitlines()]
    except SlurmError:
        return "the partition's default"
    for name, limit in (row for row in rows if len(row) == 2):
        if partition or name.endswith("*"):
            return f"{limit} (the default of partition {name.rstrip('*')})"
    return "the partition's default"
