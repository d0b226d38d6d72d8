"""The supply of jobs: every waiting task has a job that will take it, and no job stays that nobody needs.

The scheduler is talked to by a thread of its own, since a SLURM command may take a minute: orders go to it, and its answers
are taken in by the watcher's thread, which alone changes what is known here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from . import slurm
from .audit import Audit
from .endings import Endings
from .jobs import Group, Job, states_period
from .lag import Lag
from .launcher import Launcher
from .ledger import Ledger
from .obituary import mismatch, refusal
from .spool import Spool

__all__ = ["Supply"]

logger = logging.getLogger("nornir_pools")

GATHER = 0.02  # seconds: calls that come within it of each other share a submission
UNSEEN = 10.0  # seconds in which a fresh job need not show in the queue yet
GIVE_UP_SUBMITTING = 240.0  # seconds of refusals because the scheduler is busy or away
STOPPING = 3.0  # seconds that workers get to see that they are to stop


class Supply:
    """The jobs of one run. `limit` is the most at once."""

    def __init__(
        self, pool: str, spool: Spool, launcher: Launcher, limit: int, ledger: Ledger, lag: Lag, wake: Callable[[], None]
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._pool = pool
        self._spool = spool
        self._launcher = launcher
        self._limit = limit
        self._ledger = ledger
        self._lag = lag
        self._wake = wake
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._answers: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._asked_states = 0.0
        self._asking = False
        self._endings = Endings(pool, spool, ledger, self.jobs)
        self._audit = Audit(pool, spool, ledger, self.jobs, self._endings, lag)
        self._talker = threading.Thread(target=self._talk, name=f"{pool}-scheduler", daemon=True)
        self._talker.start()

    @property
    def busy_workers(self) -> int:
        """How many workers are up, each with at most one task."""
        return sum(job.up and job.live for job in list(self.jobs.values()))

    def _talk(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                order()
            except Exception:  # a fault must not leave the pool without anybody to talk to the scheduler
                logger.exception("pool %r: a fault while talking to the scheduler", self._pool)
            self._wake()

    def hear(self) -> bool:
        """Take in what the scheduler has answered; returns whether it has."""
        heard = False
        while True:
            try:
                answer = self._answers.get_nowait()
            except Empty:
                return heard
            try:
                answer()
            except OSError:  # the run's folder has a bad moment: the answer is as good the next time
                self._answers.put(answer)
                raise
            heard = True

    def take_word(self, word: str, facts: dict[str, Any]) -> None:
        """A worker says that it is up, idle, or has left."""
        job = self.jobs.get(facts["job"]) or self._endings.job_of_late(facts["worker"])
        if job is None:  # sbatch's answer is still on its way, or somebody else has sent the job
            job = self.jobs[facts["job"]] = Job(facts["job"], facts["group"])
        job.log, job.host = facts.get("log") or job.log, facts["host"]
        if word == "up":
            self._note_up(job, facts)
        elif word == "idle":
            job.idle = True
        elif facts["reason"] == "interrupted":
            job.interrupted_at = time.monotonic()
            self._asked_states = 0.0  # ask at once how the job ends
        else:
            job.left = True
            if facts["reason"] == "mismatch":
                self._ledger.fail_waiting(self._ledger.groups[job.group], mismatch(self._pool, facts))

    def _note_up(self, job: Job, facts: dict[str, Any]) -> None:
        group = self._ledger.groups[job.group]
        job.up, job.idle, job.left, job.unneeded, job.interrupted_at = True, False, False, False, None
        if facts["worker"] not in job.workers:
            job.workers.append(facts["worker"])
            group.start_delay = time.monotonic() - job.submitted
            group.first_up = group.first_up or time.monotonic()
        self._launcher.note_up(job.id, facts["pid"])

    def look_after(self) -> None:
        """Send jobs for tasks that have none, let go of jobs without tasks, give up the tasks of jobs that are gone."""
        now = time.monotonic()
        for group in list(self._ledger.groups):
            live = [job for job in self.jobs.values() if job.group == group.number and job.live]
            self._dismiss(group, live)
            if now >= group.not_before and group.unfinished and now - group.first_task >= GATHER:
                others = sum(job.live for job in self.jobs.values()) + sum(other.launching for other in self._ledger.groups)
                count = group.wanted(live, self._limit - others)
                if count:
                    self._submit(group, count)
        period = states_period(self.jobs.values(), self._launcher.poll_seconds)
        if self._ledger and not self._asking and now - self._asked_states >= period:
            self._asking, self._asked_states = True, now
            self._orders.put(self._ask_states)
            with contextlib.suppress(OSError):  # a disk that is full need not matter yet
                self._lag.note_clock(self._spool.clock(), time.time())
            for group in self._ledger.groups:
                self._spool.sweep(group.number)
        self._bury(now)

    def _submit(self, group: Group, count: int) -> None:
        group.launching = count
        group.not_before = time.monotonic() + 1.0

        def order() -> None:
            try:
                ids = self._launcher.start(group.options, group.number, count, self._spool.path.name)
            except Exception as error:
                self._answers.put(functools.partial(self._refused, group, count, error))
            else:
                self._answers.put(lambda: self._started(group, ids))

        self._orders.put(order)

    def _started(self, group: Group, ids: list[str]) -> None:
        group.launching = 0
        group.refused_since = None
        for job in ids:
            self.jobs.setdefault(job, Job(job, group.number, log=self._spool.log_path(f"{job}.log")))
        self._spool.note(t="jobs", group=group.number, ids=ids)

    def _refused(self, group: Group, count: int, error: Exception) -> None:
        """sbatch has said no: try again later with fewer, or fail the tasks that it was for."""
        group.launching = 0
        now = time.monotonic()
        kind = slurm.is_transient(str(error))
        group.refused_since = group.refused_since or now
        if kind == "limit":
            group.smaller = max(1, count // 2)
            group.not_before = now + (1.0 if count > 1 else 10.0)
        elif kind == "busy" and now - group.refused_since < GIVE_UP_SUBMITTING:
            group.not_before = now + 5.0
        else:
            if any(job.live for job in self.jobs.values() if job.group == group.number):
                group.not_before = now + 60.0  # the jobs there are will do
            else:
                self._ledger.fail_waiting(group, refusal(self._pool, error))
        if not group.said:
            group.said = True
            logger.warning("pool %r: SLURM did not take %d jobs: %s", self._pool, count, error)

    def _dismiss(self, group: Group, live: list[Job]) -> None:
        """Cancel jobs that have not started and are no longer needed; tell idle ones beyond a few to go."""
        pending, idle = group.surplus(live)
        for job in idle:
            job.left = True
            self._spool.tell_workers(group.number, f"quit.{job.workers[-1]}")
        if pending:
            for job in pending:
                job.unneeded = True
            ids = [job.id for job in pending]
            self._orders.put(lambda: self._cancel(ids, pending_only=True))

    def _cancel(self, ids: list[str], *, pending_only: bool) -> None:
        try:
            self._launcher.cancel(ids, pending_only=pending_only)
        except slurm.SlurmError as error:
            logger.info("pool %r: scancel failed: %s", self._pool, error)

    def _ask_states(self) -> None:
        asked = time.monotonic()
        try:
            states = self._launcher.states()
        except Exception as error:
            logger.info("pool %r: the scheduler does not answer: %s", self._pool, error)
            self._answers.put(self._states_unknown)
        else:
            self._answers.put(lambda: self._note_states(states, asked))

    def _states_unknown(self) -> None:
        self._asking = False

    def _note_states(self, states: dict[str, str], asked: float) -> None:
        self._asking = False
        for job in list(self.jobs.values()):
            state = states.get(job.id)
            if state is not None:
                job.state = state
            if (state is not None and slurm.is_over(state)) or (state is None and asked - job.submitted > UNSEEN):
                job.gone_since = job.gone_since or time.monotonic()
            elif state is not None and slurm.is_requeued(state) and job.up and not job.left:
                # It would run again, but not for two minutes, and its tasks need not wait for it.
                job.requeued = True
                job.gone_since = job.gone_since or time.monotonic()
            elif state is not None and not job.requeued:
                job.gone_since = None
        for job in self._audit.look(states):
            self._orders.put(functools.partial(self._ask_ending, job))

    def _bury(self, now: float) -> None:
        """See to the tasks of jobs that are gone. The inbox was listed after the grace was over."""
        for job in list(self.jobs.values()):
            told = job.interrupted_at is not None or job.left or job.requeued  # that nothing more will come from it
            if job.gone_since is None or job.asked or (not told and now - job.gone_since < self._lag.grace):
                continue
            if job.left or job.unneeded:
                del self.jobs[job.id]
            else:
                job.asked = True
                self._orders.put(functools.partial(self._ask_ending, job))

    def _ask_ending(self, job: Job) -> None:
        state = job.state
        if job.requeued:
            state = "PREEMPTED"
        elif not job.up and state in ("", "PENDING"):
            state = "CANCELLED"  # a job that has run stays known for a while: this one was taken out of the queue
        ending = slurm.Ending(state)
        try:
            ending = self._launcher.ending(job.id, state)
            if job.requeued:
                self._cancel([job.id], pending_only=False)
        finally:
            self._answers.put(lambda: self._end_of(job, ending))

    def _end_of(self, job: Job, ending: slurm.Ending) -> None:
        self._endings.see_to(job, ending)
        self.jobs.pop(job.id, None)

    def cancel_all(self) -> list[str]:
        """Cancel every job that has not left, and return their ids. Raises slurm.SlurmError."""
        ids = [job.id for job in list(self.jobs.values()) if not job.left]
        if ids:
            self._launcher.cancel(ids)
        return ids

    def _may_run(self, job: str, states: dict[str, str]) -> bool:
        return job in states and not slurm.is_over(states[job]) and not self.jobs[job].left

    def end(self, collect: Callable[[], object]) -> None:
        """All tasks are done: have workers stop, cancel what has not started, and return when no job is left.

        `collect` takes in what workers say.
        """
        with contextlib.suppress(OSError):  # the folder may be gone: then they are cancelled
            for group in self._ledger.groups:
                self._spool.tell_workers(group.number, "stop")
        self._cancel([job.id for job in self.jobs.values() if not job.up and not job.left], pending_only=True)
        until = time.monotonic() + STOPPING
        while any(group.launching for group in self._ledger.groups) or (
            time.monotonic() < until and any(job.up and not job.left for job in self.jobs.values())
        ):
            time.sleep(0.01)
            with contextlib.suppress(OSError):
                self.hear()
                collect()
        self._orders.put(None)
        self._talker.join()
        try:
            cancelled = self.cancel_all()
            until = time.monotonic() + STOPPING
            while cancelled and time.monotonic() < until:
                states = self._launcher.states()
                with contextlib.suppress(OSError):
                    collect()  # a job that comes up only now finds that it is to stop, and says so
                cancelled = [job for job in cancelled if self._may_run(job, states)]
                time.sleep(0.05 if cancelled else 0)
        except slurm.SlurmError as error:
            ids = " ".join(job.id for job in self.jobs.values() if not job.left)
            logger.error("pool %r: its jobs could not be cancelled (%s); run: scancel %s", self._pool, error, ids)
        self._launcher.close()
