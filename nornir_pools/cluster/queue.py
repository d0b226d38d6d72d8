"""What jobs wait for, in words."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from . import slurm

__all__ = ["Queued", "ask_queue"]


# Reasons as squeue has them (its manual page, "JOB REASON CODES"); those not listed are shown as they are.
_WORDS = {
    "AssocGrpCpuLimit": "the CPUs that your account may use at once are in use",
    "AssocGrpMemLimit": "the memory that your account may use at once is in use",
    "AssocMaxJobsLimit": "as many jobs of yours run as your account allows",
    "BeginTime": "it is to start later; so is a job that was requeued, for two minutes",
    "Dependency": "it waits for another job to end",
    "JobArrayTaskLimit": "its array has a limit of jobs at once",
    "JobHeldAdmin": "an administrator holds it back",
    "JobHeldUser": "it is held back: scontrol release",
    "NodeDown": "a node that it needs is down",
    "None": "it has just been submitted, or is about to start",
    "PartitionDown": "its partition takes no jobs at the moment",
    "PartitionNodeLimit": "it asks for more nodes than its partition may give",
    "PartitionTimeLimit": "its time limit is longer than its partition allows: give less with --time",
    "Priority": "jobs of higher priority are before it",
    "QOSMaxCpuPerUserLimit": "the CPUs that its QOS allows a user are in use",
    "QOSMaxJobsPerUserLimit": "as many jobs of yours run as its QOS allows",
    "ReqNodeNotAvail": "nodes that it could use are reserved, down or drained",
    "Reservation": "it waits for its reservation",
    "Resources": "CPUs, memory or nodes that it asks for are in use",
}


@dataclass(frozen=True)
class Queued:
    """A job in SLURM's queue."""

    state: str
    reason: str
    """SLURM's own word for what it waits for."""
    start: float | None
    """When it is expected to start, or has, in seconds since the epoch; None if SLURM does not say."""

    @property
    def words(self) -> str:
        """The reason, for people."""
        known = _WORDS.get(self.reason.partition(",")[0].strip("()"))
        return f"{known} ({self.reason})" if known else self.reason


def ask_queue(environment: Mapping[str, str]) -> dict[str, Queued]:
    """All jobs of this user, array elements one by one. Raises slurm.SlurmError."""
    rows = slurm.queue("%T|%S|%r", environment, seconds=20)
    return {job: Queued(state, reason, _moment(start)) for job, (state, start, reason) in rows.items()}


def _moment(text: str) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
