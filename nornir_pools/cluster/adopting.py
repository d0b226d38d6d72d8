"""Making the tasks of a run anew in a process that has taken it over, from its journal and its folder."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import message
from .. import outcome as outcomes
from ..task import CommandTask, Task
from .history import History, PastTask, error_of
from .spool import Spool, task_attempt, task_number

if TYPE_CHECKING:
    from .pool import ClusterPool
    from .run import Run

__all__ = ["adopt", "outcome_of", "task_of"]

logger = logging.getLogger("nornir_pools")


def adopt(pool: ClusterPool, run: Run, history: History, *, finished: bool) -> dict[int, Task]:
    """Make the tasks that are not over, where they stand, and with `finished` those that are, with their values and errors;
    returns them by their numbers in the run."""
    places = _places(run, history)
    pool._numbers = itertools.count(max(history.tasks, default=0) + 1)
    made: dict[int, Task] = {}
    for past in history.tasks.values():
        if past.over:
            if finished and not past.superseded:
                task = made[past.number] = task_of(pool, past)
                pool._finish(task, outcome_of(run.spool, past))
        elif past.number in places:
            made[past.number] = _under_way(pool, run, past, *places[past.number])
        else:
            if not history.closed:  # else its script was interrupted, and has cancelled what was left
                what = "its script died while it was being added"
                logger.warning("run %s: the task %r is not in it: %s", run.spool.path.name, past.name, what)
            run.watcher.ledger.note_cancelled(past.number)
            past.cancelled, past.cut = True, not history.closed
    return made


def _under_way(pool: ClusterPool, run: Run, past: PastTask, folder: str, name: str) -> Task:
    ledger = run.watcher.ledger
    group = ledger.groups[int(folder.split("/")[1]) if folder.startswith("todo/") else past.group]
    task = task_of(pool, past)
    pool._places[task.task_id] = past.number
    ledger.restore(past, task, group, task_attempt(name))
    return task


def _places(run: Run, history: History) -> dict[int, tuple[str, str]]:
    """Where the calls of unfinished tasks are, as (folder, name), after putting right what was cut in half."""
    spool = run.spool
    for name in spool.moved_outcomes():
        outcome = name.rpartition("/")[2]
        if not history.tasks[task_number(outcome)].over:
            spool.move(name, f"inbox/{outcome}")  # it was moved, but that was not journalled any more
    spool.restore_seized()
    for group in run.watcher.ledger.groups:
        for name in spool.withdrawn(group.number):
            spool.restore(group.number, name)
    places = _latest(spool.unanswered())
    if not history.closed and any(not task.over and task.number not in places for task in history.tasks.values()):
        time.sleep(1.0)  # it may have been given back from one folder to another while they were listed
        places.update(_latest(spool.unanswered()))
    return places


def task_of(pool: ClusterPool, past: PastTask) -> Task:
    """A task of the pool that stands for one of another process."""
    kind = Task if past.command is None else CommandTask
    task = kind(pool, past.name, _sent, (past.command,), {})
    task._take_call()
    pool._unfinished[task.task_id] = task
    pool._added += 1
    return task


def outcome_of(spool: Spool, past: PastTask) -> outcomes.Outcome | None:
    """How a task ended, as the journal has it. Raises OSError or ValueError if its outcome is gone or damaged."""
    if past.outcome is not None:
        facts, parts = message.unpack(spool.kept(past.outcome))
        facts["log"] = spool.log_path_of(facts)
        return outcomes.thaw(facts, parts, past.name)
    return None if past.error is None else outcomes.failure(error_of(past.error), past.name)


def _latest(found: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """Where each task stands, as (folder, name); of several tries the last."""
    return {task_number(name): (folder, name) for name, folder in sorted(found.items())}


def _sent(*_: Any) -> None:
    """Stands for the function of a task that another process has added: that is in the run's folder."""
