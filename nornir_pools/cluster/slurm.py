"""What the package knows about SLURM: its commands, states, ids and refusals. (How jobs are sent is in launcher.py.)

Every call of a SLURM command has a time limit. Sources are the manual pages, and what was seen on 22.05.8 and on 24.11.5,
which have the same states, options and words for what is used here, but for:

- SLURM_JOB_END_TIME: only 24.11 sets it in jobs; squeue's %e is the same time on both
- sacct's MaxRSS: 3584K on 22.05 is 3.50M on 24.11, all else is in K on both
- sacct's exit code of a job whose node went down: 0:0 on 22.05, 1:0 on 24.11
- sacct's id of an array cancelled before it started: 7 on 22.05, 7_[0-3] on 24.11
- a job with more CPUs than any node: 22.05 lets it wait for "PartitionConfig", 24.11 refuses it
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

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
from ..hosts import looks_installed

__all__ = [
    "Ending",
    "SlurmError",
    "accounting",
    "cancel",
    "default_time",
    "error_class",
    "find_by_name",
    "is_available",
    "is_hopeless",
    "is_over",
    "is_requeued",
    "job_end",
    "looks_installed",
    "max_array_size",
    "run",
    "states",
]

TIME_LIMIT = 60.0  # seconds for a call of a SLURM command

# Job states after which no process of the job runs (squeue's manual page, "JOB STATE CODES"), and what they mean for a task.
# A state that is not listed, one of a newer SLURM, counts as alive: a job that is gone from the queue is found out about in
# any case.
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
    "REVOKED": JobLostError,
}
# What a job waits for that will not come, as long as nobody changes the job or the cluster's rules.
_HOPELESS = frozenset(
    {
        "AccountNotAllowed",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "MaxMemPerLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
    }
)


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


def run(
    command: Sequence[str], environment: Mapping[str, str], *, folder: str | None = None, seconds: float | None = None
) -> str:
    """Run a SLURM command and return what it printed. Raises SlurmError if it fails or takes longer than `seconds`."""
    seconds = TIME_LIMIT if seconds is None else seconds
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            umask=-1 if folder is None else 0o077,  # of sbatch: a job's log is made with it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C must not end it halfway
        )
    except OSError as error:
        raise SlurmError(f"{command[0]} cannot be started: {error}") from error
    with process:
        try:
            output, complaint = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            # With all that it has started: a site's wrapper must not go on to submit what we have given up.
            os.killpg(process.pid, signal.SIGKILL)
            raise SlurmError(f"{command[0]} timed out after {seconds:g} s") from error
    if process.returncode:
        raise SlurmError(complaint.strip() or output.strip() or f"{command[0]} gave exit status {process.returncode}")
    return output


def states(environment: Mapping[str, str]) -> dict[str, str]:
    """The state of each of this user's jobs that the controller still knows, array elements one by one.

    A job that waits has the reason behind its state, if there is one yet, as in "PENDING Resources".
    """
    output = run(["squeue", "-h", "-r", "-t", "all", "-u", str(os.geteuid()), "-o", "%i|%T|%r"], environment)
    rows = [line.strip().split("|", 2) for line in output.splitlines() if line.count("|") >= 2]
    return {job: f"{state} {reason}" if state == "PENDING" and reason != "None" else state for job, state, reason in rows}


def is_hopeless(reason: str) -> bool:
    """Whether a job that waits for this will wait for ever."""
    return reason in _HOPELESS or "PerJob" in reason


def find_by_name(name: str, environment: Mapping[str, str]) -> str | None:
    """The id of the job (for an array, of the whole) with this unique name, behind the user's own if there is one; or None."""
    # (with --name=, a name that has commas would be taken for several)
    output = run(["squeue", "-h", "-r", "-t", "all", "-u", str(os.geteuid()), "-o", "%i|%j"], environment)
    ids = re.findall(rf"^\s*(\d+)\S*\|(?:.*-)?{re.escape(name)}$", output, re.MULTILINE)
    return max(ids, key=int) if ids else None


def cancel(jobs: Iterable[str], environment: Mapping[str, str], *, pending_only: bool = False) -> None:
    """Cancel jobs; `pending_only`: those that have not started."""
    with contextlib.ExitStack() as calls:  # each is made, whatever SLURM says to another
        for part in _parts(jobs):
            calls.callback(run, ["scancel", *(["--state=PENDING"] if pending_only else []), *part], environment)


def _parts(jobs: Iterable[str]) -> Iterator[list[str]]:
    """The jobs in parts for which a command line has room."""
    jobs = list(jobs)
    for start in range(0, len(jobs), 500):
        yield jobs[start : start + 500]


def is_over(state: str) -> bool:
    """Whether no process of a job in this state runs. ("CANCELLED by 1000" is sacct's way of putting it.)"""
    return _word(state) in _CLASSES


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
    nodes: str = ""
    """Where it ran, as SLURM writes lists of nodes."""

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
    """How many elements an array that starts at 0 may have here (its largest index is MaxArraySize - 1); 0 if unknown."""
    try:
        match = re.search(r"MaxArraySize\s*=\s*(\d+)", run(["scontrol", "show", "config"], environment, seconds=20))
    except SlurmError:
        match = None
    return max(1, int(match[1])) if match else 0


def accounting(jobs: Iterable[str], environment: Mapping[str, str]) -> dict[str, Ending]:
    """What accounting has on record about the last runs of jobs that are over; nothing on those of which it does not know.

    Raises SlurmError if a call fails, so that it can be left alone for a while.
    """
    columns = "JobID,State,ExitCode,MaxRSS,ReqMem,NodeList"
    found: dict[str, Ending] = {}
    for part in _parts(jobs):
        output = run(["sacct", "-n", "-P", "-D", "-j", ",".join(part), "-o", columns], environment, seconds=15)
        rows = [line.split("|") for line in output.splitlines() if line.count("|") == 5]
        used: dict[str, int] = {}
        for name, _, _, most, _, _ in rows:
            job = name.partition(".")[0]
            used[job] = max(used.get(job, 0), _bytes(most))
        for job, state, exit_code, _, asked, nodes in rows:
            if "." not in job and is_over(state):
                found[job] = Ending(state, exit_code, used[job], _bytes(asked), nodes)
    return found


def _bytes(text: str) -> int:
    """Bytes from SLURM's "1234K", "100M", "4Gn" (a trailing n or c: per node, per CPU)."""
    match = re.fullmatch(r"([\d.]+)([KMGTP]?)[nc]?", text)
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2] or " ")) if match else 0


def job_end(environment: Mapping[str, str]) -> float:
    """Inside a job: when it ends, in seconds since the epoch; infinite if it has no limit, or nobody says."""
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
