"""The supply of jobs: every waiting task has a job that will take it, and no job stays that nobody needs.

The scheduler is talked to by a thread of its own, since a SLURM command may take a minute: orders go to it, and its answers
are taken in by the watcher's thread, which alone changes what is known here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import SpoolError
from . import slurm
from .endings import Endings
from .jobs import Group, Job, patience
from .launcher import Launcher
from .ledger import Ledger
from .obituary import mismatch
from .refusals import Refusals
from .spool import Spool

__all__ = ["Supply"]

logger = logging.getLogger("nornir_pools")

GATHER = 0.02  # seconds: calls that come within it of each other share a submission
GRACE = 5.0  # seconds from a job being gone to its tasks being given up
UNSEEN = 10.0  # seconds in which a fresh job need not show in the queue yet
STOPPING = 3.0  # seconds that workers get to see that they are to stop


class Supply:
    """The jobs of one run. `limit` is the most at once."""

    def __init__(
        self, pool: str, spool: Spool, launcher: Launcher, limit: int, ledger: Ledger, wake: Callable[[], None]
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._pool = pool
        self._spool = spool
        self._launcher = launcher
        self._limit = limit
        self._ledger = ledger
        self._wake = wake
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._answers: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._asked_states = time.monotonic()
        self._dismissed = 0.0
        self._silent = False
        self._asking = False
        self.endings = Endings(pool, spool, ledger, self.jobs)
        self._refusals = Refusals(pool, ledger)
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
        with contextlib.suppress(Empty):
            while True:
                self._answers.get_nowait()()
                heard = True
        return heard

    def take_word(self, word: str, facts: dict[str, Any]) -> None:
        """A worker says that it is up, idle, or has left."""
        job = self.jobs.get(facts["job"])
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
                elif others >= self._limit and group.wanted(live, 1):
                    self._make_room(group)
        waited = now - self._asked_states
        if self._ledger and not self._asking and waited >= patience(self.jobs.values(), self._launcher.poll_seconds):
            self._asking, self._asked_states = True, now
            self._orders.put(self._ask_states)
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
                text = str(error)
                self._answers.put(lambda: self._refused(group, count, text))
            else:
                self._answers.put(lambda: self._started(group, ids))

        self._orders.put(order)

    def _started(self, group: Group, ids: list[str]) -> None:
        group.launching = 0
        group.refused_since = None
        self._spool.note(t="jobs", group=group.number, ids=ids)
        for job in ids:
            self.jobs.setdefault(job, Job(job, group.number, log=self._spool.log_path(f"{job}.log")))

    def _refused(self, group: Group, count: int, text: str) -> None:
        group.launching = 0
        served = any(job.live for job in self.jobs.values() if job.group == group.number)
        self._refusals.note(group, count, text, served=served)

    def _dismiss(self, group: Group, live: list[Job]) -> None:
        """Cancel jobs that have not started and are no longer needed; tell idle ones beyond a few to go."""
        pending, idle = group.surplus(live)
        for job in idle:
            self._send_away(job)
        if pending and time.monotonic() - self._dismissed >= 1.0:  # by few calls, though there are less tasks every moment
            self._dismissed = time.monotonic()
            for job in pending:
                job.unneeded = True
            ids = [job.id for job in pending]
            self._orders.put(lambda: self._cancel(ids, pending_only=True))

    def _make_room(self, group: Group) -> None:
        """Have a job without work end, if there is one: another group's tasks wait for its place."""
        for job in self.jobs.values():
            if job.idle and job.live and job.group != group.number:
                self._send_away(job)
                return

    def _send_away(self, job: Job) -> None:
        job.left = True
        self._spool.tell_workers(job.group, f"quit.{job.workers[-1]}")

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
            if not self._silent:
                logger.info("pool %r: the scheduler does not answer: %s", self._pool, error)
            self._silent = True
            self._answers.put(self._states_unknown)
        else:
            self._silent = False
            self._answers.put(lambda: self._note_states(states, asked))

    def _states_unknown(self) -> None:
        self._asking = False

    def _note_states(self, states: dict[str, str], asked: float) -> None:
        self._asking = False
        hopeless: dict[str, str] = {}
        for job in list(self.jobs.values()):
            state, _, reason = states[job.id].partition(" ") if job.id in states else (None, "", "")
            if state is not None:
                job.state = state
            if reason and job.live:
                hopeless[job.id] = reason
                job.unneeded = True
            if (state is not None and slurm.is_over(state)) or (state is None and asked - job.submitted > UNSEEN):
                job.gone_since = job.gone_since or time.monotonic()
            elif state is not None and slurm.is_requeued(state) and job.up and not job.left:
                # It would run again, but not for two minutes, and its tasks need not wait for it.
                job.requeued = True
                job.gone_since = job.gone_since or time.monotonic()
            elif state is not None and not job.requeued:
                job.gone_since = None
        if hopeless:
            self._drop_hopeless(hopeless)

    def _drop_hopeless(self, reasons: dict[str, str]) -> None:
        """These jobs will never start, says the scheduler."""
        self._orders.put(lambda: self._cancel(list(reasons), pending_only=True))
        for number in {self.jobs[job].group for job in reasons}:
            if not any(job.live for job in self.jobs.values() if job.group == number):
                self._refusals.note_hopeless(self._ledger.groups[number], ", ".join(set(reasons.values())))

    def _bury(self, now: float) -> None:
        """See to the tasks of jobs that are gone. The inbox was listed after the grace was over."""
        ended = []
        for job in list(self.jobs.values()):
            told = job.interrupted_at is not None or job.left or job.requeued  # that nothing more will come from it
            if job.gone_since is None or job.asked or (not told and now - job.gone_since < GRACE):
                continue
            if job.left or job.unneeded:
                del self.jobs[job.id]
            else:
                job.asked = True
                ended.append(job)
        if ended:  # in one question, though it be all jobs of an array
            self._orders.put(lambda: self._ask_endings(ended))

    def _ask_endings(self, jobs: list[Job]) -> None:
        endings = {job.id: slurm.Ending(job.last_state) for job in jobs}
        try:
            endings = self._launcher.endings({job.id: job.last_state for job in jobs})
            if requeued := [job.id for job in jobs if job.requeued]:
                self._cancel(requeued, pending_only=False)
        finally:
            self._answers.put(lambda: self._see_to(jobs, endings))

    def _see_to(self, jobs: list[Job], endings: dict[str, slurm.Ending]) -> None:
        for job in jobs:
            self.jobs.pop(job.id, None)
        for job in jobs:
            self.endings.see_to(job, endings[job.id])

    def cancel_all(self) -> list[str]:
        """Cancel every job that has not left, and return their ids. Raises slurm.SlurmError."""
        ids = [job.id for job in list(self.jobs.values()) if not job.left]
        if ids:
            self._launcher.cancel(ids)
        return ids

    def end(self, collect: Callable[[], object]) -> None:
        """All tasks are done: have workers stop, cancel what has not started, and return when no job is left.

        `collect` takes in what workers say.
        """
        with contextlib.suppress(SpoolError):  # the folder may be gone: then they are cancelled
            for group in self._ledger.groups:
                self._spool.tell_workers(group.number, "stop")
        self._cancel([job.id for job in self.jobs.values() if not job.up and not job.left], pending_only=True)
        until = time.monotonic() + STOPPING
        while any(group.launching for group in self._ledger.groups) or (
            time.monotonic() < until and any(job.up and not job.left for job in self.jobs.values())
        ):
            time.sleep(0.01)
            self.hear()
            with contextlib.suppress(SpoolError):
                collect()
        self._orders.put(None)
        self._talker.join()
        try:
            cancelled = self.cancel_all()
            until = time.monotonic() + STOPPING
            while cancelled and time.monotonic() < until:
                states = self._launcher.states()
                with contextlib.suppress(SpoolError):
                    collect()  # a job that comes up only now finds that it is to stop, and says so
                alive = {job for job, state in states.items() if not slurm.is_over(state)}
                cancelled = [job for job in cancelled if job in alive and not self.jobs[job].left]
                time.sleep(0.05 if cancelled else 0)
        except slurm.SlurmError as error:
            ids = " ".join(job.id for job in self.jobs.values() if not job.left)
            logger.error("pool %r: its jobs could not be cancelled (%s); run: scancel %s", self._pool, error, ids)
        self._launcher.close()
