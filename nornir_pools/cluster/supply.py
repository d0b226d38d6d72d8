"""The supply of jobs: every waiting task has a job that will take it, and no job stays that nobody needs.

The scheduler is talked to by a thread of its own, since a SLURM command may take a minute: orders go to it, and its answers
are taken in by the watcher's thread, which alone changes what is known here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..errors import RunBusyError
from ..options import Options
from . import clusters, slurm
from .audit import Audit
from .dismissals import Dismissals
from .endings import Endings
from .history import History
from .jobs import FRUITLESS, Job, count_jobs, patience
from .lag import Lag
from .launching import Launcher
from .ledger import Ledger
from .names import job_of, post_of
from .polling import States
from .refusals import Refusals
from .roll import Roll
from .spool import Spool
from .submissions import Submissions
from .talker import Answer, Talker

__all__ = ["Supply"]

logger = logging.getLogger("nornir_pools")

GATHER = 0.02  # seconds: calls that come within it of each other share a submission
UNSEEN = 10.0  # seconds in which a fresh job need not show in the queue yet
STOPPING = 3.0  # seconds that workers get to see that they are to stop


class Supply:
    """The jobs of one run. `limit` is the most at once; 0: others send them."""

    def __init__(
        self, pool: str, spool: Spool, launcher: Launcher, limit: int, ledger: Ledger, lag: Lag, wake: Callable[[], None]
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._pool, self._spool = pool, spool
        self._launcher = launcher
        self._limit = limit
        self._ledger = ledger
        self._lag = lag
        self._asked_states = time.monotonic()
        self._silent = self._asking = False
        self.endings = Endings(pool, spool, ledger, self.jobs)
        self._roll = Roll(spool, ledger, self.endings, launcher, self.jobs)
        self._audit = Audit(pool, spool, ledger, self.jobs, self.endings, lag)
        self._talker = Talker(pool, wake)
        self.hear, self.hand_over = self._talker.hear, self._talker.ask
        self._dismissals = Dismissals(spool, ledger, self.jobs, self._cancel_pending)
        self._refusals = Refusals(pool, ledger)
        self._submissions = Submissions(spool, launcher, self._talker, self.endings, self._refusals, self.jobs)

    def restore(self, history: History) -> None:
        """Take over the jobs that another process has sent for this run."""
        self._launcher.resume(history)
        for number in sorted(history.groups):
            self._ledger.restore_group(Options(**history.groups[number]))
        done = Counter(past.outcome.get("job") for past in history.tasks.values() if past.outcome is not None)
        for past in history.jobs.values():
            if past.word != "left" or past.reason.startswith(("interrupted", "died")):
                self._roll.restore(past, done[job_of(past.id)])
        self._submissions.restore(history, self._ledger.groups)
        self._asked_states = 0.0  # ask at once how they are

    @property
    def busy_workers(self) -> int:
        """How many workers are up, each with at most one task."""
        return sum(job.up and job.live for job in list(self.jobs.values()))

    def take_word(self, word: str, facts: dict[str, Any]) -> None:
        """A worker says that it is up, idle, or has left."""
        if self._roll.take_word(word, facts):
            self._asked_states = 0.0  # ask at once how the job ends

    def note_done(self, worker: str) -> None:
        """An outcome of this worker's has come."""
        job = self.jobs.get(post_of(worker))
        if job is not None:
            job.idle = False
            job.finished += 1

    def look_after(self) -> None:
        """Send jobs for tasks that have none, let go of jobs without tasks, give up the tasks of jobs that are gone."""
        now = time.monotonic()
        for group in list(self._ledger.groups):
            mine = [job for job in self.jobs.values() if job.group == group.number]
            live = [job for job in mine if job.live]
            self._dismissals.dismiss(group, live)
            self._dismissals.tell_crowd(group, sum(job.up for job in live))
            if now >= group.not_before and group.unfinished and now - group.first_task >= GATHER:
                others = count_jobs(job for job in self.jobs.values() if job.live)
                others += sum(other.launching for other in self._ledger.groups)
                room = self._ledger.budget.room(group, len(live), self._limit - others)
                count = group.wanted(live, room, sum(job.dying for job in mine))
                # What has become of the last one of jobs that were of no use is to be known before another is sent.
                unjudged = group.fruitless >= FRUITLESS and any(job.gone_since is not None and not job.left for job in mine)
                if count and not unjudged:
                    self._submissions.send(group, count)
                elif 0 < self._limit <= others and group.wanted(live, 1):
                    self._dismissals.make_room(group)
        interval = patience(self.jobs.values(), self._launcher.poll_seconds)
        if self._ledger and not self._asking and now - self._asked_states >= interval:
            age = interval / 2 if self._asked_states else 0.0  # of an answer that another pool of this process has got
            self._asking, self._asked_states = True, now
            self._talker.ask(functools.partial(self._ask_states, age))
            with contextlib.suppress(OSError):  # a disk that is full need not matter yet
                self._lag.note_clock(self._spool.clock(), time.time())
            for group in self._ledger.groups:
                self._spool.sweep(group.number)
        self._bury(now)

    def _cancel_pending(self, ids: list[str]) -> None:
        self._talker.ask(lambda: self.cancel(ids, pending_only=True))

    def cancel(self, ids: list[str], *, pending_only: bool) -> None:
        try:
            self._launcher.cancel(dict.fromkeys(map(job_of, ids)), pending_only=pending_only)
        except slurm.SlurmError as error:
            logger.info("pool %r: scancel failed: %s", self._pool, error)

    def _ask_states(self, age: float) -> Answer:
        try:
            states = self._launcher.states(age)
        except Exception as error:
            if not self._silent:
                logger.info("pool %r: the scheduler does not answer: %s", self._pool, error)
            self._silent = True
            return functools.partial(setattr, self, "_asking", False)
        self._silent = False
        return lambda: self._note_states(states)

    def _note_states(self, states: States) -> None:
        self._asking = False
        if self._asked_states:  # else it is to be asked again at once
            self._asked_states = states.asked  # it may have waited for its turn, or another pool has asked
        hopeless: dict[str, str] = {}
        for job in list(self.jobs.values()):
            if job.died:
                continue
            state, _, reason = states[job.scheduled].partition(" ") if job.scheduled in states else (None, "", "")
            if state is not None:
                job.state, job.reason = state, reason
                self._refusals.note_reason(self._ledger.groups[job.group], reason)
            if slurm.is_hopeless(reason) and job.live:
                hopeless[job.id] = reason
                job.unneeded = True
            if (state is not None and slurm.is_over(state)) or (state is None and states.asked - job.submitted > UNSEEN):
                job.gone_since = job.gone_since or time.monotonic()
            elif state is not None and slurm.is_requeued(state) and job.up and job.up_at < states.asked and not job.left:
                # It would run again, but not for two minutes. (One that is up since then was only just started.)
                job.requeued = True
                job.gone_since = job.gone_since or time.monotonic()
            elif state is not None and not job.requeued:
                job.gone_since = None
        if orphaned := self._audit.look(states):
            self._talker.ask(lambda: self._ask_endings(orphaned))
        if hopeless:
            self._drop_hopeless(hopeless)

    def _drop_hopeless(self, reasons: dict[str, str]) -> None:
        """These jobs will never start, says the scheduler."""
        self._cancel_pending(list(reasons))
        for number in {self.jobs[job].group for job in reasons}:
            if not any(job.live for job in self.jobs.values() if job.group == number):
                self._refusals.note_hopeless(self._ledger.groups[number], ", ".join(set(reasons.values())))

    def _bury(self, now: float) -> None:
        """See to the tasks of jobs that are gone. The inbox was listed after the grace was over."""
        ended = []
        for job in list(self.jobs.values()):
            told = job.interrupted_at is not None or job.left or job.requeued or job.died  # that nothing more will come from it
            if job.gone_since is None or job.asked or (not told and now - job.gone_since < self._lag.grace):
                continue
            if job.left or (job.unneeded and not job.called_off):
                self._dismissals.forget(job)
                del self.jobs[job.id]
            else:
                job.asked = True
                ended.append(job)
        if ended:  # in one question, though it be all jobs of an array
            self._talker.ask(lambda: self._ask_endings(ended))

    def _ask_endings(self, jobs: list[Job]) -> Answer:
        states = {job.scheduled: job.last_state for job in sorted(jobs, key=lambda job: slurm.is_over(job.last_state))}
        endings = {name: slurm.Ending(state) for name, state in states.items()}
        try:
            endings = self._launcher.endings(states)
            if requeued := [job.id for job in jobs if job.requeued]:
                self.cancel(requeued, pending_only=False)
        except Exception:
            logger.exception("pool %r: a fault while asking how %d jobs have ended", self._pool, len(jobs))
        return lambda: self._see_to(jobs, endings)

    def _see_to(self, jobs: list[Job], endings: dict[str, slurm.Ending]) -> None:
        for job in jobs:
            self.endings.see_to(job, endings[job.scheduled])
            self._dismissals.forget(job)
            self.jobs.pop(job.id, None)

    def cancel_all(self) -> list[str]:
        """Cancel every job that has not left, and return their ids. Raises slurm.SlurmError."""
        ids = list(dict.fromkeys(job.scheduled for job in list(self.jobs.values()) if job.stays))
        self._launcher.cancel(ids)
        return ids

    def leave(self) -> None:
        """Leave the jobs to themselves."""
        self._talker.close(5.0)
        with contextlib.suppress(OSError):
            self.hear()  # what was still being sent is journalled, or will be found by its name
        self._launcher.close()

    def _take_in(self, collect: Callable[[], object]) -> None:
        """Hear what the scheduler and workers say; whatever may be wrong with that, jobs are to be cancelled.

        Raises RunBusyError if the run is another process's by now: so are its jobs.
        """
        for take in (self.hear, collect):
            try:
                take()
            except RunBusyError:
                raise
            except Exception:
                continue  # `end` goes on without

    def end(self, collect: Callable[[], object], *, interrupted: bool = False) -> None:
        """All tasks are done: have workers stop, cancel what has not started, and return when no job is left.

        `collect` takes in what workers say. `interrupted`: tasks are not done, so there is no use in waiting for workers.
        Raises RunBusyError, and leaves the jobs, if the run has been taken over by another process.
        """
        try:
            self._take_in(collect)
            self._stop_workers(collect, 0 if interrupted else STOPPING)
            self._end_jobs(collect, interrupted)
        except RunBusyError:
            self.leave()
            raise
        self._launcher.close()

    def _stop_workers(self, collect: Callable[[], object], seconds: float) -> None:
        with contextlib.suppress(OSError):  # the folder may be gone: then they are cancelled
            for group in self._ledger.groups:
                self._spool.tell_workers(group.number, "stop")
        self.cancel([job.id for job in self.jobs.values() if not job.up and not job.left], pending_only=True)
        until = time.monotonic() + seconds
        while any(group.launching for group in self._ledger.groups) or (
            time.monotonic() < until and any(job.serves for job in self.jobs.values())
        ):
            time.sleep(0.01)
            self._take_in(collect)
        self._talker.close()
        self._take_in(collect)

    def _end_jobs(self, collect: Callable[[], object], interrupted: bool) -> None:
        try:
            told = {job.scheduled for job in self.jobs.values() if job.up}
            cancelled = self.cancel_all()
            self._launcher.cancel_doubtful()  # last: it may fail because there are none
            if interrupted and cancelled:
                logger.warning("pool %r: interrupted, so its %d jobs were cancelled", self._pool, len(cancelled))
            until = time.monotonic() + STOPPING
            while cancelled and time.monotonic() < until:
                states = self._launcher.states()
                self._take_in(collect)  # a job that comes up only now finds that it is to stop, and says so
                staying = {job.scheduled for job in self.jobs.values() if job.stays}
                cancelled = [job for job in cancelled if job in staying and not slurm.is_over(states.get(job, "COMPLETED"))]
                up = {job.scheduled for job in self.jobs.values() if job.up}
                late = up.intersection(cancelled) - told  # it may be in the middle of a task
                told |= late
                self._launcher.cancel(late)
                time.sleep(0.05 if cancelled else 0)
        except slurm.SlurmError as error:
            order = clusters.by_hand(dict.fromkeys(job.scheduled for job in self.jobs.values() if job.stays))
            logger.error("pool %r: its jobs could not be cancelled (%s); run: %s", self._pool, error, order)
