"""Running a script again: its tasks are bound to those of the earlier run of that name, and only the rest is run.

::

    add_task ── key ──> the earlier task with it ─┬─ has succeeded ──> its outcome
                                                  ├─ is under way ───> the new task takes its place
                                                  ├─ waits for its parents: the new task is added instead
                                                  └─ has failed, or there is none: run, and the journal has why
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import outcome as outcomes
from ..errors import PoolError, SpoolError
from ..task import CommandTask, Task
from .adopting import adopt, outcome_of
from .history import History, PastTask
from .keys import Key, Keys
from .names import run_prefix
from .reading import view_run
from .spool import FORMAT, Spool, task_name

if TYPE_CHECKING:
    from .pool import ClusterPool
    from .run import Run

__all__ = ["Resumption", "resume"]

logger = logging.getLogger("nornir_pools")

_SECONDS = 60.0  # in which a task that is being completed is


def resume(pool: ClusterPool) -> Run:
    """The newest run of the pool's name that can be resumed, taken over; a new one if there is none.

    Raises RunBusyError if a live process holds it.
    """
    from .run import Run  # submitit: 70 ms

    path, other = _earlier_run(pool)
    if path is None:
        run = Run.create(pool, pool.runs_folder, pool._finish)
        pool._resumption = Resumption(pool, run, History(), {})
        return run
    run, history = Run.reopen(pool, Spool(path), pool._finish, resuming=True, of_other_jobs=other)
    unfinished = adopt(pool, run, history, finished=False)
    pool._resumption = Resumption(pool, run, history, unfinished)
    run.watcher.start()
    counts = Counter(_state(past) for past in history.tasks.values() if not past.superseded)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    logger.info("pool %r goes on with the run %s (tasks: %s)", pool.name, path.name, states or "none")
    return run


def _earlier_run(pool: ClusterPool) -> tuple[Path | None, bool]:
    """The run to go on with, if there is one, and whether its jobs were of another kind."""
    found: list[tuple[float, Path, dict[str, Any]]] = []
    folder = pool.runs_folder
    for path in folder.glob(f"{run_prefix(pool.name)}-*") if folder.is_dir() else ():
        try:
            spool = Spool(path)
            try:
                facts = json.loads(spool.read("run.json"))
            finally:
                spool.close()
        except (OSError, ValueError, PoolError):  # no run, or not this user's
            continue
        if facts["pool"] == pool.name and facts["options"].get("resume"):
            found.append((facts["started"], path, facts))
    if not found:
        return None, False
    _, path, facts = max(found)
    other = _other_jobs(pool, facts)
    if problem := _problem(path, facts, other):
        logger.warning("pool %r: the run %s cannot be resumed, so all is run anew: %s", pool.name, path.name, problem)
        return None, False
    return path, bool(other)


def _other_jobs(pool: ClusterPool, facts: Mapping[str, Any]) -> str:
    """How the jobs of a run are others than this pool's; "" if they are of one kind, and in reach."""
    if facts["executor"] != pool.executor:
        return f"its executor is {facts['executor']}, not {pool.executor}"
    here = os.uname().nodename
    if pool.executor == "local" and facts["host"] != here:
        return f"its jobs are processes of {facts['host']}, not of {here}"
    return ""


def _problem(path: Path, facts: Mapping[str, Any], other: str) -> str:
    """Why a run cannot be gone on with; "" if it can."""
    mine = {"format": FORMAT, "python": "{}.{}".format(*sys.version_info)}
    differing = ", ".join(f"its {name} is {facts[name]}, not {value}" for name, value in mine.items() if facts[name] != value)
    if differing or not other or _is_over(path):
        return differing
    return f"{other}, and not all of it is over; nornir-pools cancel {path.name} ends it, and then it can be gone on with"


def _is_over(path: Path) -> bool:
    """Whether a run has nothing left to do, and no jobs. (What cannot be reached from here may be alive.)"""
    try:
        view = view_run(path)
        return not view.unfinished and not view.live_jobs()
    except SpoolError:
        return False


class Resumption:
    """What an earlier script has left in the pool's run, for the tasks of this one. Every task gets its key here."""

    def __init__(self, pool: ClusterPool, run: Run, history: History, unfinished: dict[int, Task]) -> None:
        self._pool = pool
        self._run = run
        self._keys = Keys()
        self._lock = threading.Lock()  # guards what follows: tasks are added from any thread
        self._earlier = bool(history.tasks)
        self._standing_in = unfinished  # until this script adds them, by number
        self._held = {number for number, past in history.tasks.items() if not past.over} - unfinished.keys()
        self._of_key: dict[str, deque[PastTask]] = defaultdict(deque)
        self._of_name: dict[str, list[PastTask]] = defaultdict(list)
        self._taken: set[int] = set()  # tasks that this script has added again, as they were or changed
        self._counts: Counter[str] = Counter()
        for past in sorted((past for past in history.tasks.values() if not past.superseded), key=lambda past: past.place):
            self._of_name[past.name].append(past)
            if past.key:
                self._of_key[past.key].append(past)  # the n-th call with a key belongs to the n-th task with it

    @property
    def standing_in(self) -> int:
        """How many tasks are under way that this script has not added (yet)."""
        return len(self._standing_in)

    def bind(self, task: Task, version: Any) -> bool:
        """Give a task the outcome, or the place, of an earlier one; False: it has to be run."""
        assert task.func is not None
        try:
            key = self._keys.key_of(task.func, task.args, task.kwargs, version, task._parents)
        except Exception as error:
            self._note_unlike(task, f"its arguments cannot be compared with earlier ones: {type(error).__name__}: {error}")
            return False
        with self._lock:
            waiting = self._of_key.get(str(key))
            past = waiting.popleft() if waiting else None
            if past is None:
                self._note_new(task, key)
                return False
            self._taken.add(past.number)
            standing_in = self._standing_in.pop(past.number, None)
        task._noted = {"key": str(key)}
        if self._drop_held(past):
            task._noted = {"key": str(key), "instead": past.number}
            self._counts["had waited for others"] += 1
            return False
        if standing_in is not None and self._take_place(past, standing_in, task):
            self._counts["were still under way"] += 1
            return True
        outcome, why = self._outcome(past, standing_in, task)
        if outcome is not None:
            self._run.spool.note(t="reused", n=past.number)
            self._counts["results were reused"] += 1
            task._let_go()
            self._pool._finish(task, outcome)
            return True
        self._run.spool.drop_failed(past.number, past.attempt + 1)
        self._run_again(task, {"key": str(key), "instead": past.number}, why)
        return False

    def _drop_held(self, past: PastTask) -> bool:
        """If an earlier task still waits for its parents, end it: one that waits for those of this script follows."""
        if past.number not in self._held:
            return False
        self._held.discard(past.number)
        self._run.watcher.ledger.note_cancelled(past.number)
        self._run.spool.drop_held(task_name(past.number))
        return True

    def _take_place(self, past: PastTask, standing_in: Task, task: Task) -> bool:
        """Put a task in the place of the one that stands in for it; False if that is over."""
        pool = self._pool
        pool._places[task.task_id] = past.number
        if not self._run.watcher.ledger.replace(past.number, task):
            del pool._places[task.task_id]
            return False
        pool._places.pop(standing_in.task_id, None)
        pool._unfinished.pop(standing_in.task_id, None)
        task._let_go()
        return True

    def _outcome(self, past: PastTask, standing_in: Task | None, task: Task) -> tuple[outcomes.Outcome | None, str]:
        """The outcome of an earlier task that has succeeded, or why there is none."""
        if standing_in is not None:
            outcome = _outcome_of_task(standing_in)
        elif past.cancelled:
            outcome = None
        else:
            try:
                outcome = outcome_of(self._run, past, task)
            except (OSError, ValueError) as error:
                return None, f"its result is gone: {error}"
        if outcome is None:
            return None, "its script died while it was being added" if past.cut else "it was cancelled"
        if outcome.error is not None:
            return None, f"it had failed: {_first_line(outcome.error)}"
        status = outcome.facts.get("status")
        return (None, f"it had failed: exit status {status}") if status else (outcome, "")

    def _note_new(self, task: Task, key: Key) -> None:
        """No earlier call has this key."""
        noted = {"key": str(key)}
        past = self._namesake(task)
        if past is None:
            task._noted = noted
            self._counts["are new"] += self._earlier
            return
        earlier = Key.read(past.key)
        why = key.difference(earlier) if earlier else "the earlier script did not say what it was, without resume=True"
        self._replace(past, task, noted, why)

    def _note_unlike(self, task: Task, why: str) -> None:
        """It cannot be known whether there was such a call."""
        with self._lock:
            past = self._namesake(task)
            if past is not None:
                self._replace(past, task, {}, why)
            elif self._earlier:
                self._run_again(task, {}, why)

    def _namesake(self, task: Task) -> PastTask | None:
        """The only earlier task with the task's name: it is the same task, and something has changed."""
        found = self._of_name.get(task.name, [])
        return found[0] if len(found) == 1 and found[0].number not in self._taken else None

    def _replace(self, past: PastTask, task: Task, noted: dict[str, Any], why: str) -> None:
        """Have a task be run instead of an earlier one."""
        self._taken.add(past.number)
        if past in self._of_key[past.key]:
            self._of_key[past.key].remove(past)
        self._run_again(task, {**noted, "instead": past.number}, why)
        self._drop_held(past)
        standing_in = self._standing_in.pop(past.number, None)
        if standing_in is not None:
            standing_in.cancel()  # if it runs, let it: its outcome is nobody's

    def _run_again(self, task: Task, noted: dict[str, Any], why: str) -> None:
        task._noted = {**noted, "why": why}
        self._counts[f"are run again, since {why.partition(':')[0]}"] += 1
        logger.info("pool %r: task %r is run again: %s", self._pool.name, task.name, why)

    def tell(self) -> None:
        """Say, once, how many tasks were reused, or run again and why."""
        counts, self._counts = self._counts, Counter()
        if self._earlier and counts.total():
            what = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            logger.info("pool %r, which went on with an earlier run, in all: %s", self._pool.name, what)


def _outcome_of_task(task: Task) -> outcomes.Outcome | None:
    """How a task of this process has ended; None if it was cancelled."""
    try:
        task._wait_until_done(_SECONDS)
    except futures.CancelledError:
        return None
    task._pool._was_asked(task)
    value: Any = (task._returncode, task.stdoutdata, task.stderrdata) if isinstance(task, CommandTask) else task._result
    if task._unread is not None:
        value = task._unread
    outcome = outcomes.Outcome(value=value, error=task._exception, facts=dict(task.facts))
    outcome.place = task._place
    return outcome


def _state(past: PastTask) -> str:
    if past.outcome is not None:
        return "succeeded" if past.outcome["ok"] and not past.outcome.get("status") else "failed"
    return "cancelled" if past.cancelled else "unfinished" if past.error is None else "failed"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}".splitlines()[0]
