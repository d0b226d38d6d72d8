"""The roll: which workers there are, by what they say of themselves, and what that tells of their jobs."""

from __future__ import annotations

import time
from typing import Any

from .endings import Endings
from .history import PastJob
from .jobs import Group, Job
from .launching import Launcher
from .ledger import Ledger
from .names import job_of, post_of
from .spool import Spool

__all__ = ["Roll"]

_DIED = "died "  # with what the reason begins that a job gives for a worker of its that has ended unasked


class Roll:
    """The workers of one run, noted in `jobs`."""

    def __init__(self, spool: Spool, ledger: Ledger, endings: Endings, launcher: Launcher, jobs: dict[str, Job]) -> None:
        self._spool = spool
        self._ledger = ledger
        self._endings = endings
        self._launcher = launcher
        self._jobs = jobs
        self._called: set[str] = set()  # jobs, with how often they were started, all of whose workers were noted

    def restore(self, past: PastJob, finished: int) -> None:
        """Take over a job, or one worker of one that has several, which another process knew; it has done so many tasks."""
        job = Job(past.id, past.group, workers=past.workers, log=past.log, host=past.host, at_once=past.at_once)
        job.finished = finished
        job.submitted -= time.time() - past.since
        job.node = past.node
        job.up, job.idle = bool(past.word), past.word == "idle"
        job.interrupted_at = time.monotonic() if past.word == "left" else None
        if past.reason.startswith(_DIED):
            job.died, job.gone_since = past.reason.removeprefix(_DIED), time.monotonic()
        job.log = job.log or self._spool.log_path(f"{job.id}.log")
        self._jobs[job.id] = job
        if past.cpus:
            self._ledger.groups[job.group].set_aside = past.cpus
        if job.at_once:
            self._ledger.groups[job.group].seen = job.at_once
            self._called |= {_start_of(worker) for worker in past.workers}
        if past.pid:
            self._launcher.note_up(job.scheduled, past.pid, past.born)

    def take_word(self, word: str, facts: dict[str, Any]) -> bool:
        """A worker says that it is up, idle, or has left; returns whether its job is coming to an end."""
        post = post_of(facts["worker"])
        job = self._jobs.get(post) or self._endings.job_of_late(facts["worker"])
        if job is None:  # sbatch's answer is still on its way, or somebody else has sent the job
            job = self._jobs[post] = Job(post, facts["group"])
        job.log, job.host, job.node = facts.get("log") or job.log, facts["host"], facts["node"]
        if word == "up":
            self._note_up(job, facts)
        elif word == "idle":
            job.idle = True
        elif facts["reason"] == "interrupted":
            job.interrupted_at = time.monotonic()
            return True
        elif facts["reason"].startswith(_DIED):
            job.died, job.gone_since = facts["reason"].removeprefix(_DIED), time.monotonic()
        else:
            job.left = True
            self._endings.note_leave(job, facts)
        return False

    def _note_up(self, job: Job, facts: dict[str, Any]) -> None:
        group, now = self._ledger.groups[job.group], time.monotonic()
        job.up, job.idle, job.left, job.unneeded, job.interrupted_at = True, False, False, False, None
        job.up_at = now
        group.set_aside = facts.get("cpus") or 0.0
        if facts["worker"] not in job.workers:
            job.workers.append(facts["worker"])
            job.at_once = facts.get("at_once") or 0
            if not job.at_once or self._call_mates(job, group):
                group.start_delay = now - job.submitted
            group.first_up = group.first_up or now
            if int(job.id.partition("+")[2] or 0) >= (job.at_once or 1):
                job.finished = 1  # it has taken the place of another: what it begins may be cut short, though it is its first
        self._launcher.note_up(job.scheduled, facts["pid"], facts["born"], facts.get("bare", False))

    def _call_mates(self, job: Job, group: Group) -> bool:
        """If this is the first worker of its job, which runs several, note the others as well; returns whether it is.

        They come up within a moment: no more jobs are to be sent meanwhile for what they will run.
        """
        start = _start_of(job.workers[-1])
        if start in self._called:
            return False
        self._called.add(start)
        group.seen = job.at_once
        first = self._jobs.get(job.scheduled, job)
        job.submitted, job.avoids = first.submitted, first.avoids
        for number in range(job.at_once):
            post = f"{job.scheduled}+{number}" if number else job.scheduled
            mate = self._jobs.setdefault(post, Job(post, job.group, job.submitted, log=self._spool.log_path(f"{post}.log")))
            mate.up, mate.at_once, mate.avoids, mate.host, mate.node = True, job.at_once, job.avoids, job.host, job.node
            mate.up_at, mate.state = job.up_at, first.state
        return True


def _start_of(worker: str) -> str:
    """The job of a worker, and how often it was started."""
    return f"{job_of(post_of(worker))}-r{worker.rpartition('-r')[2]}"
