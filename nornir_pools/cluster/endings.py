"""What becomes of the tasks of a job that has ended before them: another try, or an error that says why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from ..errors import JobError, JobTimeoutError, PoolError, WorkerDiedError
from . import slurm
from .jobs import FRUITLESS, Job
from .ledger import Entry, Ledger
from .obituary import job_error, unseen
from .retries import cause_of, next_options
from .spool import Spool, task_name, task_number

__all__ = ["Endings"]

logger = logging.getLogger("nornir_pools")

REMEMBERED = 10_000  # jobs


class Endings:
    """The ends of one run's jobs; `jobs` are those that have not ended."""

    def __init__(self, pool: str, spool: Spool, ledger: Ledger, jobs: Mapping[str, Job]) -> None:
        self._pool = pool
        self._spool = spool
        self._ledger = ledger
        self._jobs = jobs
        self._ended: dict[str, tuple[Job, slurm.Ending]] = {}  # the last of them: more of them may yet come to light

    def of(self, job: str) -> tuple[Job, slurm.Ending] | None:
        """A job that has ended not long ago, and how."""
        return self._ended.get(job)

    def job_of_late(self, worker: str) -> Job | None:
        """The job that has ended of a worker whose word is here only now; None if the worker may be alive."""
        job, _ = self._ended.get(worker.rpartition("-r")[0], (None, None))
        return job if job is not None and (worker in job.workers or worker == f"{job.id}-r0") else None

    def see_to(self, job: Job, ending: slurm.Ending) -> None:
        """A job has ended, not by its own will. It may be seen to again when more of its claims come to light."""
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
        again = self._ended.pop(job.id, None)
        self._ended[job.id] = job, ending
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]
        # (Its worker's folder was never looked for before, so that it is seen if it is there.)
        heard = job.up or not self._spool.has(f"claimed/{job.id}-r0")
        if heard and not claims and not job.finished and again is None:
            self._note_fruitless(job, ending)

    def _judge(self, job: Job, ending: slurm.Ending, entry: Entry, worker: str) -> None:
        """Try the task again or give it up: by moving its claim away, which only one can do.

        If the claim is gone though a listing has shown it, the listing was old, and the outcome is on its way. Or its worker
        was started once more by the scheduler and has given it back.
        """
        error = job_error(self._pool, entry.task.name, job, ending)
        cause = cause_of(error)
        claim = entry.file
        entry.history.append(
            f"try {entry.attempt + 1}, job {job.id} on {job.host or 'an unknown node'}: {ending.state or cause}"
        )
        if isinstance(error, JobTimeoutError) and job.finished:
            # It was taken over by a job that had less time left than it needs: not its fault, so it gets one of its own.
            options = replace(entry.group.options, tasks_per_job=1)
        else:
            again = next_options(entry.group.options, cause, entry.retried[cause])
            if again is None:
                if self._spool.seize(worker, claim):
                    self._ledger.give_up(entry.number, self._with_history(error, entry))
                else:
                    entry.history.pop()
                return
            options = again
        group = self._ledger.group_for(options)
        if not self._spool.try_again(worker, claim, group.number, task_name(entry.number, entry.attempt + 1)):
            entry.history.pop()
            return
        entry.retried[cause] += 1
        self._ledger.again(entry, group)
        self._spool.note(t="again", n=entry.number, file=entry.file, cause=cause, job=job.id, group=group.number)
        logger.info("pool %r: task %r is tried again: %s", self._pool, entry.task.name, entry.history[-1])

    def _with_history(self, error: JobError | WorkerDiedError, entry: Entry) -> JobError | WorkerDiedError:
        if len(entry.history) > 1:
            tries = "\n  ".join(entry.history)
            error.args = (f"{error.args[0]}\nit was tried {len(entry.history)} times:\n  {tries}",)
        error.tries = tuple(entry.history)
        return error

    def _note_fruitless(self, job: Job, ending: slurm.Ending) -> None:
        """A job has ended and no task was ever done in it."""
        group = self._ledger.groups[job.group]
        error: PoolError = job_error(self._pool, "", job, ending)
        if cause_of(error) == "cancelled":  # somebody has cancelled a job that waited: so ends one of those that wait for it
            self._ledger.fail_waiting(group, error, most=1)
            return
        if not isinstance(error, JobTimeoutError) and not self._spool.has(f"jobs/{job.log.rpartition('/')[2]}"):
            error = unseen(self._pool, job, self._spool.path)
        group.fruitless += 1
        if group.fruitless >= FRUITLESS and not any(other.live for other in self._jobs.values() if other.group == job.group):
            self._ledger.fail_waiting(group, error)
            group.fruitless = 0  # tasks that are added from now on have a chance of their own
