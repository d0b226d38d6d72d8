"""What the states of SLURM's jobs, and the reasons for which they wait, mean for a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

__all__ = ["Ending", "error_class", "is_hopeless", "is_over", "is_requeued"]

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


def is_hopeless(reason: str) -> bool:
    """Whether a job that waits for this will wait for ever."""
    return reason in _HOPELESS or "PerJob" in reason


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
