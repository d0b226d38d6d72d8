"""What a run's jobs have used, in core-hours, and what they may."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import BudgetSpentError
from ..options import Options
from .history import History
from .jobs import Group, Job

__all__ = ["Budget", "cpus_of"]


@dataclass
class _Clock:
    """Of a job whose worker is up; in seconds since the epoch."""

    start: float
    seen: float
    """Until when it is known to have run."""
    cpus: float


class Budget:
    """Adds up what the jobs of a run use: CPUs × time from the worker being up to its leaving, its job's end, or now.

    The CPUs are those that the scheduler has set aside, as the worker tells: of a job that has a node to itself, all of the
    node's. Where there is no scheduler, they are those that were asked for. `hours` is the pool's option `budget_core_hours`;
    without one, nothing is added up.
    """

    def __init__(self, pool: str, run: str, hours: float | None) -> None:
        self._pool = pool
        self._run = run
        self._hours = hours
        self._spent = 0.0  # core-seconds, by workers that are gone
        self._clocks: dict[str, _Clock] = {}  # by job

    def restore(self, history: History) -> None:
        """Count what the jobs have used that another process has sent, as the journal has it."""
        asked = {number: cpus_of(Options(**plain)) for number, plain in history.groups.items()}
        self._spent += sum(seconds * (cpus or asked[group]) for (group, cpus), seconds in history.used.items())
        for job in history.jobs.values():
            if self._hours is not None and job.up_since:
                self._clocks[job.id] = _Clock(job.up_since, job.up_since, job.cpus or asked[job.group])

    def note(self, word: str, job: str, group: Group, at: float) -> None:
        """A worker has said a word, at this time."""
        if self._hours is None or word == "idle":
            return
        if word == "left" and job in self._clocks:
            self._clocks[job].seen = at
        self._stop(job)  # also if it was up before: its job was started once more
        if word == "up":
            self._clocks[job] = _Clock(at, at, group.set_aside or cpus_of(group.options))

    def look(self, jobs: Mapping[str, Job]) -> None:
        """Time has passed. `jobs` are those that have not ended, or of which it is not yet decided what they leave behind."""
        now, ticks = time.time(), time.monotonic()
        for name, clock in list(self._clocks.items()):
            job = jobs.get(name)
            if job is None:
                self._stop(name)
            else:
                clock.seen = now if job.gone_since is None else now - (ticks - job.gone_since)

    def _stop(self, job: str) -> None:
        clock = self._clocks.pop(job, None)
        if clock is not None:
            self._spent += max(0.0, clock.seen - clock.start) * clock.cpus

    @property
    def used(self) -> float:
        """Core-hours."""
        running = sum(max(0.0, clock.seen - clock.start) * clock.cpus for clock in self._clocks.values())
        return (self._spent + running) / 3600

    def room(self, group: Group, jobs: int, room: int) -> int:
        """How many of so many more jobs what is left can pay for, if each runs one task as long as those that are done took.

        The group has so many `jobs` already, or where a job has several, workers. (One more is always paid for, while anything
        is left: it is all that is known.)
        """
        if self._hours is None:
            return room
        left = (self._hours - self.used) * 3600
        if left <= 0:
            return 0
        cost = (group.set_aside or cpus_of(group.options)) * group.seconds / group.finished if group.finished else 0.0
        return min(room, math.ceil((math.ceil(left / cost) - jobs) / group.at_once)) if cost else room

    def verdict(self, done: int, left: int) -> BudgetSpentError | None:
        """The error that says that the budget is spent, if it is. So many tasks are `done` and `left`."""
        used = self.used
        if self._hours is None or used < self._hours:
            return None
        return BudgetSpentError(
            f"pool {self._pool!r} has stopped, since its budget of {self._hours:g} core-hours is spent: its jobs have used "
            f"{_amount(used)}. {done} of its tasks are done and {left} are left; "
            "of these, what runs goes on to its end, and what waited was not run"
            f"\nTo go on: nornir-pools retry {self._run} --failed, which may use as much again; or give the next run a larger "
            "budget_core_hours= (on the command line --budget)",
            budget=self._hours,
            used=used,
            done=done,
            left=left,
        )


def _amount(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3g}"


def cpus_of(options: Options) -> int:
    """The CPUs that a job with these options asks for; of one that runs several tasks at once, those of one of these."""
    if options.several:
        return int(options.job.get("cpus_per_task") or 1)
    count = 1
    for name, slurm_name in (("cpus_per_task", ""), ("tasks_per_node", "ntasks_per_node"), ("nodes", "")):
        value = str(options.job.get(f"slurm_{slurm_name or name}") or options.job.get(name) or 1)
        count *= int(value) if value.isdigit() else 1
    return count
