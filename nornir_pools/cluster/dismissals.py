"""What workers are told by words in the run's folder: that they are to go, and how many they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .jobs import KEPT_IDLE, Group, Job, resting
from .ledger import Ledger
from .spool import Spool

__all__ = ["Dismissals"]

# Seconds from one cancellation of jobs that are no longer needed to the next: there are less tasks every moment, and each time
# SLURM's commands are called.
BETWEEN = 10.0


class Dismissals:
    """Lets the jobs of one run go that nobody needs. `cancel` takes jobs out of the queue that have not started."""

    def __init__(self, spool: Spool, ledger: Ledger, jobs: Mapping[str, Job], cancel: Callable[[list[str]], None]) -> None:
        self._spool = spool
        self._ledger = ledger
        self._jobs = jobs
        self._cancel = cancel
        self._cancelled = 0.0  # when
        self._told: dict[str, str] = {}  # jobs that were told to go -> where that stands

    def dismiss(self, group: Group, live: list[Job]) -> None:
        """Cancel jobs that have not started and are no longer needed; tell idle ones beyond a few to go."""
        pending, idle = group.surplus(live, KEPT_IDLE if self._ledger.failures.error is None else 0)
        for job in idle:
            self._send_away(job)
        if pending and time.monotonic() - self._cancelled >= BETWEEN:
            self._cancelled = time.monotonic()
            for job in pending:
                job.unneeded = True
            self._cancel([job.id for job in pending])

    def make_room(self, group: Group) -> None:
        """Have a job without work end, if there is one: another group's tasks wait for its place."""
        others = [job for job in self._jobs.values() if job.up and job.live and job.group != group.number]
        for name in resting(others):
            workers = [job for job in others if job.scheduled == name]
            if self._can_spare(workers):
                for job in workers:
                    self._send_away(job)
                return

    def _can_spare(self, workers: list[Job]) -> bool:
        """Whether their group has others for all its tasks. (One that has said that it is idle may have taken a task since.)"""
        number = workers[0].group
        all_of_them = sum(job.up and job.live for job in self._jobs.values() if job.group == number)
        return all_of_them - len(workers) >= self._ledger.groups[number].unfinished

    def _send_away(self, job: Job) -> None:
        word = f"quit.{job.workers[-1]}"
        self._spool.tell_workers(job.group, word)
        self._told[job.id] = f"todo/{job.group}/{word}"
        job.unneeded = True  # it has not left before it says so

    def forget(self, job: Job) -> None:
        """The job is gone: what it was told stands in the way of others that look for tasks."""
        if (told := self._told.get(job.id)) is not None:
            self._spool.remove(told)
            del self._told[job.id]

    def tell_crowd(self, group: Group, workers: int) -> None:
        """Let workers know how many they are, to the next power of two: the more, the less each takes, and looks, at once."""
        if not group.crowd // 2 < workers <= group.crowd and workers > 0:
            crowd = 1 << (workers - 1).bit_length()
            self._spool.tell_workers(group.number, f"crowd.{crowd}")
            self._spool.remove(f"todo/{group.number}/crowd.{group.crowd}")
            group.crowd = crowd
