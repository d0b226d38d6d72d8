"""The audit: claims of jobs that have ended, and tasks that are nowhere. Nothing may be waited for that nobody answers for.

Jobs are seen to when they end, but a listing may be old, or a worker may claim a task in its last moment. So what stands in
the run's folder is compared with what is known, each time the scheduler has told the states of all jobs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from . import lag as lags
from . import slurm
from .endings import Endings
from .jobs import Job
from .lag import Lag
from .ledger import Ledger
from .names import job_of, post_of
from .obituary import nowhere
from .spool import Spool, task_number

__all__ = ["Audit"]


class Audit:
    """The audit of one run. `jobs` are those that are known not to have ended."""

    def __init__(self, pool: str, spool: Spool, ledger: Ledger, jobs: Mapping[str, Job], endings: Endings, lag: Lag) -> None:
        self._pool = pool
        self._spool = spool
        self._ledger = ledger
        self._jobs = jobs
        self._endings = endings
        self._lag = lag
        self._orphaned: dict[str, float] = {}  # workers whose jobs have ended -> since when that is known
        self._missing: dict[int, float] = {}  # tasks that were in no folder -> since when

    def look(self, states: Mapping[str, str]) -> list[Job]:
        """The scheduler has just told the states of all jobs that it knows. Returns jobs to be seen to when it is known how
        they have ended."""
        now = time.monotonic()
        workers = [name for name in self._spool.names("claimed") if not self._may_live(post_of(name), states)]
        self._orphaned = {worker: self._orphaned.get(worker, now) for worker in workers}
        jobs = [self._clear(worker) for worker, since in self._orphaned.items() if now - since >= self._lag.grace]
        if not any(job.up and job.live and not job.idle for job in self._jobs.values()):
            self._look_for_missing(now)
        return [job for job in jobs if job is not None]

    def _may_live(self, post: str, states: Mapping[str, str]) -> bool:
        job = job_of(post)
        if post in self._jobs or job not in states:
            return post in self._jobs
        # (A job may be started once more under its id; one worker among several that has ended is not.)
        return not slurm.is_over(states[job]) and (post == job or self._endings.of(post) is None)

    def _clear(self, worker: str) -> Job | None:
        """See to what a worker has left, and remove its folder; returns its job if it is not known how that has ended."""
        orphans = []
        for claim in self._spool.claims(worker):
            entry = self._ledger.find(task_number(claim))
            if entry is not None and entry.file == claim:
                orphans.append(entry)
            else:
                self._spool.remove(f"claimed/{worker}/{claim}")  # its task is over, or at another try
        if not orphans:
            for draft in self._spool.names("inbox", drafts=True):
                if draft.startswith(f".{worker}."):  # an outcome that it did not come to deliver, of any size
                    self._spool.forget(f"inbox/{draft}")
            self._spool.remove_folder(f"claimed/{worker}")
            return None
        name = post_of(worker)
        ended = self._endings.of(name)
        if ended is None:
            return Job(name, orphans[0].group.number, up=True, log=self._spool.log_path(f"{name}.log"))
        self._endings.see_to(*ended)
        return None

    def _look_for_missing(self, now: float) -> None:
        """Fail tasks whose files have been gone for longer than listings are old (a task goes through two while it is run)."""
        present = set(map(task_number, self._spool.unanswered()))
        self._missing = {number: self._missing.get(number, now) for number in self._ledger.numbers() if number not in present}
        for number, since in self._missing.items():
            entry = self._ledger.find(number)
            if entry is not None and now - since >= lags.LONGEST_GRACE + self._lag.grace:
                self._ledger.give_up(number, nowhere(self._pool, entry.task.name, self._spool.path))
