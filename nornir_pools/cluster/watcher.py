"""The watcher: one thread of a pool that takes in what workers deliver, completes Futures, and keeps the jobs coming.

Results first: a poll lists one folder, the inbox, whatever the number of tasks. Only then come the jobs. The scheduler's
silence alone proves nothing: a task is given up only if its job is gone from the queue, the grace is over, and the inbox,
listed again, still has no outcome.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ..errors import PoolClosedError, PoolError, RunBusyError, SpoolError
from ..outcome import Outcome
from ..task import CommandTask, Task
from ..turns import join
from .budget import Budget
from .cancelling import Cancelling
from .failures import Failures
from .folder import FULL, PASSING
from .history import values_of_failures
from .inbox import Inbox
from .jobs import Group
from .lag import Lag
from .launching import Launcher
from .lease import Lease
from .ledger import Ledger
from .spool import Spool
from .supply import Supply
from .values import Values

__all__ = ["Watcher"]

logger = logging.getLogger("nornir_pools")

SHORTEST_POLL, LONGEST_POLL = 0.002, 0.5  # seconds
PATIENCE = 5.0  # seconds of faults, one after the other, until the tasks are given up
LONG_PATIENCE = 75.0  # seconds, if they are of the kind that a shared filesystem has in a bad moment, or the disk is full


class Watcher:
    """Watches one run. `finish` completes a task of the pool; `limit` is the most jobs at once;
    `keep_all` leaves everything in the folder when the run is closed."""

    def __init__(
        self,
        pool: str,
        spool: Spool,
        lease: Lease,
        launcher: Launcher,
        limit: int,
        finish: Callable[[Task, Outcome | None], None],
        failures: Failures,
        *,
        keep_all: bool,
        budget: Budget | None = None,
    ) -> None:
        self.ledger = Ledger(spool, finish, failures, budget)
        self.values = Values(spool)
        self._pool = pool
        self._spool = spool
        self._lease = lease
        self._wake = threading.Event()
        self._relaxed = False  # the watcher sleeps long: whoever adds a task wakes it
        self._closing = self._interrupted = False
        self._given_up = False  # a second interrupt has ended the wait for the end
        self._leaving: PoolError | None = None  # the run is somebody else's from now on: what to tell who waits for a task
        self._failing_since: float | None = None
        self._keep_all = keep_all
        lag = Lag()
        self.supply = Supply(pool, spool, launcher, limit, self.ledger, lag, self._wake.set)
        self.cancelling = Cancelling(spool, self.ledger, self.supply, self._wake.set)
        self._inbox = Inbox(pool, spool, self.ledger, self.values, self.supply, self.cancelling, lag)
        self._thread = threading.Thread(target=self._watch, name=f"{pool}-watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def expect(self, number: int, task: Task, group: Group, **more: Any) -> None:
        """A task is about to be published, or, with `parents`, held back. (Registered before it can be claimed, that is.)"""
        if isinstance(task, CommandTask):
            more["command"] = task.cmd
        self._spool.note(t="task", n=number, name=task.name, group=group.number, **more, **task._noted)
        self.ledger.expect(number, task, group, held="parents" in more)
        if self._relaxed:
            self._wake.set()

    def release(self, number: int) -> bool:
        """A task that was held back is about to be published; returns whether it is still there."""
        released = self.ledger.release(number)
        if self._relaxed:
            self._wake.set()
        return released

    def close(self, wait: bool) -> None:
        """Once all tasks are done, end the jobs and clear the folder; `wait` for that."""
        self._closing = True
        self._wake.set()
        if wait and not self._given_up and threading.current_thread() is not self._thread:
            join(self._thread)

    def abandon(self) -> None:
        """The script was interrupted: cancel all tasks and jobs, and wait until that is done.

        A second interrupt ends the wait, and leaves the jobs to run.
        """
        self._interrupted = True
        try:
            self.close(wait=True)
        except KeyboardInterrupt:
            self._given_up = True  # (joined again, the thread would be waited for from Python 3.13 on)
            logger.error(
                "pool %r: interrupted again, while its jobs were being cancelled; %s", self._pool, self._what_is_left()
            )
            raise

    def detach(self) -> None:
        """Leave the run to itself, and to whoever attaches to it."""
        self._leaving = PoolClosedError(
            f"pool {self._pool!r} has left its run {self._spool.path.name}, whose tasks go on; "
            f"nornir_pools.attach({self._spool.path.name!r}) gives a pool with them"
        )
        self.close(wait=True)
        logger.warning("pool %r: its %s", self._pool, self._what_is_left())

    def _what_is_left(self) -> str:
        jobs = sum(not job.left for job in list(self.supply.jobs.values()))
        return f"{jobs} jobs go on; to come back to them: nornir_pools.attach({str(self._spool.path)!r})"

    def _watch(self) -> None:
        interval = SHORTEST_POLL
        while self._leaving is None and not self._interrupted and not (self._closing and not len(self.ledger)):
            try:
                self._lease.renew()
                active = self._inbox.collect() | self.supply.hear()
                self.cancelling.carry_out()
                self.ledger.heed_budget(self.supply.jobs)
                self.supply.look_after()
                self._failing_since = None
            except RunBusyError as error:
                self._leaving = error
                break
            except Exception as error:  # nothing may hang because of a fault in here
                active = False
                self._recover(error)
            interval = SHORTEST_POLL if active else min(interval * 1.5, LONGEST_POLL)
            self._relaxed = interval > 0.02
            if self._wake.wait(interval):
                self._wake.clear()
                interval = SHORTEST_POLL
        self._end()

    def _recover(self, error: Exception) -> None:
        """A fault may pass, as those of a shared filesystem do; if it goes on, every task gets it as its error."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            logger.warning("pool %r: its watcher tries again after: %s", self._pool, error, exc_info=error)
        passing = isinstance(error, OSError) and error.errno in PASSING | FULL
        if now - self._failing_since >= (LONG_PATIENCE if passing else PATIENCE):
            self.ledger.finish_all(
                error
                if isinstance(error, PoolError)
                else SpoolError(
                    f"pool {self._pool!r}: its run in {self._spool.path} cannot go on: {error}", folder=str(self._spool.path)
                )
            )

    def _end(self) -> None:
        if self._leaving is not None:
            self.ledger.failures.error = self._leaving  # for who adds more
            self.ledger.finish_all(self._leaving)
            self.supply.leave()
        else:
            try:
                self.supply.end(self._take_last, interrupted=self._interrupted)
                self._lease.renew()  # what follows is for the run's holder alone
                self._spool.note(t="closed")
                self.values.fetch_all()
                if not self._keep_all:
                    values = values_of_failures(self._spool) if self.ledger.families else ()
                    self._spool.discard(keep_logs=self._inbox.failed_logs, keep_values=values)
            except Exception as error:  # whatever it is, nobody is to wait for ever because of it
                logger.warning("pool %r: its run's folder could not be cleared: %s", self._pool, error)
            self.ledger.finish_all(None)  # there are none, unless the script was interrupted
        self.values.fetch_all()
        with contextlib.suppress(OSError):
            self._lease.release()
        self._spool.close()

    def _take_last(self) -> None:
        """Take in what comes while jobs are being ended, which may take minutes: the run is held meanwhile."""
        self._lease.renew()
        self._inbox.collect()
