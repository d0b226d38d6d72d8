"""The watcher: one thread of a pool that takes in what workers deliver, completes Futures, and keeps the jobs coming.

Results first: a poll lists one folder, the inbox, whatever the number of tasks. Only then come the jobs. The scheduler's
silence alone proves nothing: a task is given up only if its job is gone from the queue, the grace is over, and the inbox,
listed again, still has no outcome.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from .. import message
from ..errors import PoolClosedError, PoolError, RunBusyError, SpoolError
from ..outcome import Outcome
from ..task import CommandTask, Task
from .budget import Budget
from .cancelling import Cancelling
from .failures import Failures
from .folder import FULL, PASSING
from .history import told, values_of_failures
from .jobs import Group
from .lag import Lag
from .launching import Launcher
from .lease import Lease
from .ledger import Ledger
from .names import post_of
from .spool import HANDED_BACK, IN_DOUBT, Spool, task_number
from .supply import Supply
from .values import Values

__all__ = ["Watcher"]

logger = logging.getLogger("nornir_pools")

SHORTEST_POLL, LONGEST_POLL = 0.002, 0.5  # seconds
_JOURNALLED = ("job", "group", "worker", "host", "node", "log", "pid", "born", "reason", "at", "at_once")  # of words
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
        self._failed_logs: set[str] = set()
        self._lag = Lag()
        self._accepted: dict[int, tuple[Outcome, dict[str, Any]]] = {}  # by task: outcomes, with what to journal of them
        self.supply = Supply(pool, spool, launcher, limit, self.ledger, self._lag, self._wake.set)
        self.cancelling = Cancelling(spool, self.ledger, self.supply, self._wake.set)
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
            self._thread.join()

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
                active = self._collect() | self.supply.hear()
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
            self.ledger.finish_all(self._leaving)
            self.supply.leave()
        else:
            try:
                self.supply.end(self._collect, interrupted=self._interrupted)
                self._spool.note(t="closed")
                self.values.fetch_all()
                if not self._keep_all:
                    values = values_of_failures(self._spool) if self.ledger.families else ()
                    self._spool.discard(keep_logs=self._failed_logs, keep_values=values)
            except OSError as error:
                logger.warning("pool %r: its run's folder could not be cleared: %s", self._pool, error)
            self.ledger.finish_all(None)  # there are none, unless the script was interrupted
        self.values.fetch_all()
        with contextlib.suppress(OSError):
            self._lease.release()
        self._spool.close()

    def _collect(self) -> bool:
        """Take what is in the inbox; returns whether there was anything."""
        begun = time.time()
        names = self._spool.inbox()
        self._lag.note_listing(begun, names)
        taken, fault = self._take_each(names)
        # Journalled, then removed, then told: whatever happens in between, the outcome stands somewhere. What cannot be
        # journalled now is journalled the next time.
        if self._accepted:
            self._spool.note_all([entry for _, entry in self._accepted.values()])
        for name in taken:
            self._spool.remove(f"inbox/{name}")
        accepted, self._accepted = self._accepted, {}
        for number, (outcome, _) in accepted.items():
            task = self.ledger.take(number)
            if task is not None:
                self.ledger.complete(task, outcome)
        if fault is not None:
            raise fault
        return bool(taken)

    def _take_each(self, names: list[str]) -> tuple[list[str], OSError | None]:
        """Take words, in the order they were said, then outcomes; returns what was taken, and the first fault there was.

        A file that cannot be read now is taken the next time, and does not keep the others.
        """
        words = sorted((name for name in names if name.startswith("+")), key=_word_order)
        taken: list[str] = []
        fault: OSError | None = None
        for name in [*words, *(name for name in names if not name.startswith("+"))]:
            try:
                (self._take_word if name.startswith("+") else self._accept)(name)
                taken.append(name)
            except FileNotFoundError:  # over NFS, a name may be listed and yet be thought of as missing for a while
                continue
            except OSError as error:
                fault = fault or error
        return taken, fault

    def _take_word(self, name: str) -> None:
        data, renamed = self._spool.read_dated(f"inbox/{name}")
        self._lag.note_file(name, renamed)
        at = self._lag.here(renamed)
        facts = {**json.loads(data), "at": at}
        facts["log"] = self._spool.log_path_of(facts)
        word = name.rpartition(".")[2]
        if word == "cancel":
            self.cancelling.ask(facts["tasks"])
            return
        self.supply.take_word(word, facts)
        self.ledger.budget.note(word, post_of(facts["worker"]), self.ledger.groups[facts["group"]].options, at)
        self._spool.note(t=word, **{name: facts.get(name) for name in _JOURNALLED})

    def _accept(self, name: str) -> None:
        number = task_number(name)
        entry = self.ledger.find(number)
        if number in self._accepted:
            return  # another try was faster
        try:
            data, renamed = self.values.read_head(name, entry.task if entry else None)
            self._lag.note_file(name, renamed)
            facts = message.read_header(data)
            if "ok" not in facts:  # it is the call: see Spool.draft_outcome
                raise ValueError("there was no room for it (disk full, or quota)")
        except ValueError as error:  # perhaps a file server has crashed, and what it had taken is not all there
            if entry is not None:
                where = f"is not in the run's folder {self._spool.path}, or not whole"
                what = f"task {entry.task.name!r}: its outcome {where}: {error}"
                self.ledger.give_up(number, SpoolError(what, folder=str(self._spool.path)))
            return
        facts["log"] = self._spool.log_path_of(facts)
        if name.endswith((HANDED_BACK, IN_DOUBT)) and self.supply.endings.take_back(name, facts):
            return
        if entry is None:
            return  # another try was faster, or the task was given up
        outcome = self.values.outcome(data, facts, entry.task)
        if name.startswith(f"{entry.file}."):
            if "cause" in facts and self.supply.endings.see_to_death(entry, outcome):
                return
        elif "cause" in facts:  # of an earlier try, which another has followed already
            return
        else:  # an earlier try, given up for dead, has made it after all
            self._spool.withdraw(entry.group.number, entry.file)
            self._spool.drop(entry.group.number, entry.file)
        record = {"t": "done", "n": number, "outcome": name, **told(facts, self._spool)}
        record |= self.values.put_away(name, data, outcome, entry.task)
        self._accepted[number] = outcome, record
        if entry.attempt and facts["ok"]:
            self._spool.drop_failed(number, entry.attempt)
        self.supply.note_done(facts["worker"])
        if (not facts["ok"] or facts.get("status")) and facts["log"]:
            self._failed_logs.add(facts["log"].rpartition("/")[2])
        group = entry.group
        group.fruitless = 0
        if "started" in facts:
            self.supply.endings.note_end(number, facts)
            self.ledger.note_time(group, facts["finished"] - facts["started"])


def _word_order(name: str) -> tuple[str, int]:
    worker, number, _ = name.rsplit(".", 2)
    return worker, int(number)
