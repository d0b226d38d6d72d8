"""What the watcher knows about a run's jobs, and how many more it wants."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ..options import Options
from .division import guess
from .names import job_of

__all__ = ["KEPT_IDLE", "Group", "Job", "count_jobs", "patience", "resting"]

FIRST_WAVE = 32  # jobs: most of those sent before anything is known about how long tasks take
WORTH_A_JOB = 60.0  # seconds of waiting work for each job that justify more jobs
FIRST_LOOK = 3.0  # seconds from sending jobs to the first question how they are
KEPT_IDLE = 8  # jobs that may stay without work
FRUITLESS = 3  # jobs in a row that end without a task being done: the next would, too, so no more are sent


@dataclass
class Job:
    """One job: an array element, or a local worker. Of a job that runs several tasks at once, one of its workers: what the
    scheduler says holds for all of them, and all else for each by itself."""

    id: str
    group: int
    submitted: float = field(default_factory=time.monotonic)
    workers: list[str] = field(default_factory=list)
    """Its workers, one for each time it was started."""
    up: bool = False
    up_at: float = 0.0
    """When it said so, last, by the monotonic clock."""
    idle: bool = False
    left: bool = False
    """Its worker has said that it takes no more tasks."""
    interrupted_at: float | None = None
    """When its worker said that it was told to end, perhaps in the middle of a task."""
    unneeded: bool = False
    """This program has cancelled it before it started, or told it to go since it had nothing to do."""
    called_off: bool = False
    """This program has cancelled it because of the task that it ran: whatever else it had is not to suffer for that."""
    gone_since: float | None = None
    """Since when the scheduler says that it is over, or does not know it."""
    state: str = ""
    """What the scheduler said last."""
    reason: str = ""
    """What it said that the job waits for."""
    requeued: bool = False
    """The scheduler has stopped it and would start it again."""
    asked: bool = False
    """How it ended is being asked for."""
    finished: int = 0
    """Tasks that it has done."""
    log: str = ""
    host: str = ""
    node: str = ""
    """Where it ran, by the scheduler's name."""
    avoids: frozenset[str] = frozenset()
    """Nodes that it was to be kept away from."""
    at_once: int = 0
    """How many workers its job has side by side, each of them known as a job here; 0: it is alone."""
    died: str = ""
    """How it has ended though its job goes on: exit status and signal, as SLURM has it. Empty: it has not."""

    @cached_property
    def scheduled(self) -> str:
        """What the scheduler calls its job."""
        return job_of(self.id)

    @property
    def speaks(self) -> bool:
        """Whether its end tells of its job's: that of one worker among several does not."""
        return self.id == self.scheduled and not self.died

    @property
    def live(self) -> bool:
        """Whether it will yet look for waiting tasks."""
        return not self.left and not self.unneeded and self.interrupted_at is None and self.gone_since is None

    @property
    def stays(self) -> bool:
        """Whether its worker is there, or will be, as far as workers and jobs have said."""
        return not self.left and not self.died

    @property
    def serves(self) -> bool:
        """Whether its worker is up, and has not said that it ends."""
        return self.up and self.stays and self.interrupted_at is None

    @property
    def dying(self) -> bool:
        """Whether it has ended, perhaps in the middle of a task, and what becomes of that is not decided yet."""
        if self.called_off:  # what it ran is not wanted any more
            return False
        return self.up and not self.idle and not self.left and (self.interrupted_at is not None or self.gone_since is not None)

    @property
    def last_state(self) -> str:
        """What is known, without accounting, of how it ended."""
        if self.requeued:
            return "PREEMPTED"
        # A job that has run stays known for a while: one that has not was taken out of the queue.
        return "CANCELLED" if not self.up and self.state in ("", "PENDING") else self.state


def count_jobs(jobs: Iterable[Job]) -> int:
    """How many jobs they are for the scheduler."""
    return len({job.scheduled for job in jobs})


def resting(live: Iterable[Job]) -> list[str]:
    """The jobs, by the scheduler's ids, none of whose workers has anything to do."""
    busy = {job.scheduled for job in live if not job.idle}
    return list(dict.fromkeys(job.scheduled for job in live if job.idle and job.scheduled not in busy))


def patience(jobs: Collection[Job], usual: float) -> float:
    """Seconds from one question for the states of all jobs to the next; `usual` while they run."""
    now = time.monotonic()
    if any(job.interrupted_at is not None and now - job.interrupted_at < 30 for job in jobs):
        return 1.0
    if any(not job.state for job in jobs) and not any(job.up for job in jobs):
        return min(FIRST_LOOK, usual)  # perhaps they end before their workers are up
    # (A worker may be up, and come to an end, though the scheduler's last word was that its job waits.)
    return usual * (6 if jobs and all(job.state == "PENDING" and not job.up for job in jobs) else 1)


@dataclass
class Group:
    """The tasks that share options, and how their jobs are doing."""

    number: int
    options: Options
    unfinished: int = 0
    launching: int = 0
    """Jobs that are being sent right now."""
    not_before: float = 0.0
    """When the next submission may be made."""
    first_task: float = 0.0
    """When the oldest task that no job was sent for was added."""
    seconds: float = 0.0
    finished: int = 0
    """How many tasks have run, and for how long in all."""
    longest: float = 0.0
    """Seconds that the longest of them took."""
    crowd: int = 1
    """How many workers there are, as these were told."""
    seen: int = 0
    """How many tasks its jobs run at once, as the last one has said; 0: none has said it."""
    set_aside: float = 0.0
    """CPUs that SLURM has set aside for a worker of its jobs, as the last one has said; 0: none has said it."""
    start_delay: float = 1.0
    """Seconds from sending a job to its worker being up, as last seen."""
    first_up: float | None = None
    fruitless: int = 0
    """Jobs in a row that ended by themselves without any task being done."""
    smaller: int = 0
    """After a refusal because of a limit: the most jobs to ask for at once; 0 for no such limit."""
    avoided: frozenset[str] = frozenset()
    """Nodes that workers are told to leave."""
    unavoidable: frozenset[str] = frozenset()
    """Nodes that jobs came up on though they were to be kept away from all of them: there are no others."""
    refused_since: float | None = None
    said: bool = False

    def wanted(self, live: list[Job], room: int, dying: int = 0) -> int:
        """How many more jobs to send. `live` are the group's jobs that will yet look for tasks, `room` the most allowed.

        The tasks of jobs that are `dying` get no other job before it is known why: whoever has cancelled them all does not
        want to see as many again.
        """
        each = self.at_once
        jobs = count_jobs(live) + self.launching
        places = sum(1 if job.up else each for job in live) + each * self.launching
        waiting = self.unfinished - places - dying
        more = math.ceil(waiting / each)
        if self.launching or more <= 0 or (live and self.fruitless >= FRUITLESS):
            return 0
        if self.options.strict:
            pass  # each task has a job of its own, at once
        elif jobs < FIRST_WAVE:
            more = min(more, FIRST_WAVE - jobs)
        elif not any(job.up for job in live):
            return 0  # nothing is known yet about jobs and tasks
        else:
            # A waiting task is served sooner by a job of its own if that starts before another job has time for it.
            seconds = self._task_seconds()
            if seconds <= self.start_delay and waiting * seconds / places <= WORTH_A_JOB:
                return 0
            more = min(more, jobs)  # at most twice as many
        if self.smaller:
            more = min(more, self.smaller)
        return max(0, min(more, room))

    @property
    def at_once(self) -> int:
        """How many tasks a job runs at once, as far as that is known."""
        return self.seen or guess(self.options)

    def _task_seconds(self) -> float:
        """How long a task takes, going by those that are done; before that, by how long the first ones run already."""
        if self.finished:
            return self.seconds / self.finished
        return 0.0 if self.first_up is None else time.monotonic() - self.first_up

    def surplus(self, live: list[Job], kept: int = KEPT_IDLE) -> tuple[list[Job], list[Job]]:
        """Jobs that are not needed: (those that have not started, those that are idle); so many may be kept without work.

        A job with several workers is idle if all of them are: it is there, and paid for, as long as one works.
        """
        pending = [job for job in live if not job.up]
        idle = [job for job in live if job.up and job.idle]
        busy = [job for job in live if job.up and not job.idle]
        waiting = max(0, self.unfinished - len(busy))
        unneeded = pending[math.ceil(max(0, waiting - len(idle)) / self.at_once) :]
        away = set(resting([*idle, *busy])[max(kept, math.ceil(waiting / self.at_once)) :])
        return unneeded, [job for job in idle if job.scheduled in away]
