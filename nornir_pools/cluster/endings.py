"""What becomes of the tasks of a job that has ended before them: another try, or an error that says why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from ..errors import JobError, JobTimeoutError, WorkerDiedError, WorkerOutOfMemoryError
from ..options import Options
from ..outcome import Outcome
from . import slurm
from .jobs import FRUITLESS, Job
from .ledger import Entry, Ledger
from .obituary import job_error
from .retries import cause_of, next_options
from .spool import Spool, task_name, task_number

__all__ = ["Endings"]

logger = logging.getLogger("nornir_pools")


class Endings:
    """The ends of one run's jobs; `jobs` are those that have not ended."""

    def __init__(self, pool: str, spool: Spool, ledger: Ledger, jobs: Mapping[str, Job]) -> None:
        self._pool = pool
        self._spool = spool
        self._ledger = ledger
        self._jobs = jobs

    def see_to(self, job: Job, ending: slurm.Ending) -> None:
        """A job has ended, not by its own will."""
        claims = [
            (worker, claim)
            for worker in self._spool.names("claimed")
            if worker.startswith(f"{job.id}-r")
            for claim in self._spool.claims(worker)
        ]
        if job.interrupted_at is not None and ending.state == "COMPLETED":
            ending = slurm.Ending("FAILED", "0:15")  # its worker was told to end, though not by the scheduler
        self._spool.note(t="ended", job=job.id, state=ending.state, claims=[claim for _, claim in claims])
        for worker, claim in claims:
            entry = self._ledger.find(task_number(claim))
            if entry is not None and entry.file == claim:
                self._judge(job, ending, entry, worker)
        if not claims and not job.finished:
            self._note_fruitless(job, ending)

    def _judge(self, job: Job, ending: slurm.Ending, entry: Entry, worker: str) -> None:
        """Try the task again or give it up."""
        error = job_error(self._pool, entry.task.name, job, ending)
        cause = cause_of(error)
        entry.history.append(
            f"try {entry.attempt + 1}, job {job.id} on {job.host or 'an unknown node'}: {ending.state or cause}"
        )
        if isinstance(error, JobTimeoutError) and job.finished:
            # It was taken over by a job that had less time left than it needs: not its fault, so it gets one of its own.
            options = replace(entry.group.options, tasks_per_job=1)
        else:
            again = next_options(entry.group.options, cause, entry.retried[cause])
            if again is None:
                _add_history(error, entry)
                self._ledger.give_up(entry.number, error)
                return
            options = again
        # If the claim is gone, its worker has been started once more by the scheduler and has given it back by itself.
        self._try_again(entry, worker, options, cause, job.id)

    def see_to_death(self, entry: Entry, outcome: Outcome) -> bool:
        """The kernel has killed a task's process for want of memory; returns whether the task is tried again.

        If it is not, this outcome is the task's, and its error tells what was tried.
        """
        facts, error = outcome.facts, outcome.error
        cause = facts["cause"]
        known = slurm.Ending("OUT_OF_MEMORY")
        if isinstance(error, WorkerOutOfMemoryError):
            known = replace(known, memory=error.memory, memory_asked=error.memory_asked)
        entry.history.append(f"try {entry.attempt + 1}, job {facts['job']} on {facts['host']}: {known}")
        options = next_options(entry.group.options, cause, entry.retried[cause])
        if options is not None and self._try_again(entry, facts["worker"], options, cause, facts["job"]):
            return True
        self._spool.drop_claim(facts["worker"], entry.file)
        if isinstance(error, WorkerDiedError):
            _add_history(error, entry)
        return False

    def _try_again(self, entry: Entry, worker: str, options: Options, cause: str, job: str) -> bool:
        """Let a call that was claimed wait again, for a job with these options; False if its claim is not there."""
        group = self._ledger.group_for(options)
        if not self._spool.try_again(worker, entry.file, group.number, task_name(entry.number, entry.attempt + 1)):
            return False
        before = entry.group.options.job
        changed = {name: value for name, value in options.job.items() if before.get(name) != value}
        if changed:
            entry.history[-1] += "; then with " + ", ".join(f"{name}={value}" for name, value in changed.items())
        entry.retried[cause] += 1
        self._ledger.again(entry, group)
        self._spool.note(
            t="again",
            n=entry.number,
            file=entry.file,
            cause=cause,
            job=job,
            group=group.number,
            options=changed,
            history=entry.history[-1],
        )
        logger.info("pool %r: task %r is tried again: %s", self._pool, entry.task.name, entry.history[-1])
        return True

    def _note_fruitless(self, job: Job, ending: slurm.Ending) -> None:
        """A job has ended and no task was ever done in it."""
        group = self._ledger.groups[job.group]
        error = job_error(self._pool, "", job, ending)
        if cause_of(error) == "cancelled":  # somebody has cancelled a job that waited: so ends one of those that wait for it
            self._ledger.fail_waiting(group, error, most=1)
            return
        group.fruitless += 1
        if group.fruitless >= FRUITLESS and not any(other.live for other in self._jobs.values() if other.group == job.group):
            self._ledger.fail_waiting(group, error)
            group.fruitless = 0  # tasks that are added from now on have a chance of their own


def _add_history(error: JobError | WorkerDiedError, entry: Entry) -> None:
    """Let the error tell what was tried."""
    if len(entry.history) > 1:
        tries = "\n  ".join(entry.history)
        error.args = (f"{error.args[0]}\nit was tried {len(entry.history)} times:\n  {tries}",)
    error.tries = tuple(entry.history)
