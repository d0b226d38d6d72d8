"""Taking over the run of another process: its tasks are made anew, finished and unfinished."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import outcome as outcomes
from ..errors import PoolError
from ..parents import Parents
from ..task import CommandTask, Task
from .history import History, PastTask, error_of, latest
from .spool import task_attempt, task_number

if TYPE_CHECKING:
    from .pool import ClusterPool
    from .run import Run

__all__ = ["adopt", "task_of"]

logger = logging.getLogger("nornir_pools")


def adopt(pool: ClusterPool, run: Run, history: History) -> None:
    """Make the tasks of a run anew: those that are over with their values and errors, the others where they stand."""
    places = _places(run, history)
    pool._numbers = itertools.count(max(history.tasks, default=0) + 1)
    tasks: dict[int, Task] = {}
    held = []
    for past in history.tasks.values():
        place = places.get(past.number)
        if not past.over and place is None:
            logger.warning(
                "run %s: the task %r is not in it: its script died while it was being added", run.spool.path.name, past.name
            )
            run.watcher.ledger.note_cancelled(past.number)
            continue
        task = tasks[past.number] = task_of(pool, past)
        pool._kept.append(task)
        if past.over:
            pool._finish(task, _outcome_of(run, past, task))
            continue
        folder, name = place or ("", "")
        group = run.watcher.ledger.groups[int(folder.split("/")[1]) if folder.startswith("todo/") else past.group]
        pool._places[task.task_id] = past.number
        if folder.startswith("held/"):
            run.watcher.ledger.expect(past.number, task, group, held=True)
            held.append((past, task))
        else:
            run.watcher.ledger.restore(past, task, group, task_attempt(name))
    for past, task in held:
        values, after = ([_parent(pool, run, word, tasks) for word in some] for some in past.parents)
        parents = task._parents = pool._held[task.task_id] = Parents(task, values, after)
        parents.listen()


def _places(run: Run, history: History) -> dict[int, tuple[str, str]]:
    """Where each unfinished task stands, what lay aside being put back."""
    spool = run.spool
    for name in spool.moved_outcomes():
        outcome = name.rpartition("/")[2]
        if not history.tasks[task_number(outcome)].over:
            spool.move(name, f"inbox/{outcome}")  # it was moved, but that was not journalled any more
    spool.restore_seized()
    for group in run.watcher.ledger.groups:
        for name in spool.withdrawn(group.number):
            spool.restore(group.number, name)
    places = latest(spool.unanswered())
    if any(not task.over and task.number not in places for task in history.tasks.values()):
        time.sleep(1.0)  # it may have been given back from one folder to another while they were listed
        places.update(latest(spool.unanswered()))
    return places


def _parent(pool: ClusterPool, run: Run, word: int | str, tasks: Mapping[int, Task]) -> Task:
    """The parent that the journal names so."""
    task = tasks.get(word) if isinstance(word, int) else None
    if task is None:
        task = Task(pool, str(word), _sent, (), {})
        gone = PoolError(f"it was no task of run {run.spool.path.name}, and its value has gone with the script that died")
        task._complete(outcomes.failure(gone, task.name))
    return task


def task_of(pool: ClusterPool, past: PastTask) -> Task:
    """A task of the pool that stands for one of a run's."""
    kind = Task if past.command is None else CommandTask
    task = kind(pool, past.name, _sent, (past.command,), {})
    task._take_call()
    pool._unfinished[task.task_id] = task
    pool._added += 1
    return task


def _outcome_of(run: Run, past: PastTask, task: Task) -> outcomes.Outcome | None:
    """How a task ended, as the journal has it."""
    if past.outcome is not None:
        return run.watcher.values.recall(past.outcome, task)
    return None if past.error is None else outcomes.failure(error_of(past.error), past.name)


def _sent(*_: Any) -> None:
    """Stands for the function of a task that another process has added: that is in the run's folder."""
