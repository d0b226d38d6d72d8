"""Making the tasks of a run anew in a process that has taken it over, from its journal and its folder."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import outcome as outcomes
from ..errors import PoolError, SpoolError
from ..parents import Parents
from ..task import CommandTask, Task
from .history import History, PastTask, error_of, latest
from .spool import task_attempt, task_number

if TYPE_CHECKING:
    from .pool import ClusterPool
    from .run import Run

__all__ = ["adopt", "outcome_of", "task_of"]

logger = logging.getLogger("nornir_pools")


def adopt(pool: ClusterPool, run: Run, history: History, *, finished: bool) -> dict[int, Task]:
    """Make the tasks that are not over, where they stand, and with `finished` those that are, with their values and errors;
    returns them by their numbers in the run.

    Without `finished`, those that wait for parents stay as they are: no worker sees them, and whoever wants them adds them.
    """
    try:
        return _adopt(pool, run, history, finished=finished)
    except BaseException:  # this process holds the run by now: it lets it go, so that it can be tried again
        pool._unfinished.clear()
        run.watcher.start()
        run.watcher.detach()
        raise


def _adopt(pool: ClusterPool, run: Run, history: History, *, finished: bool) -> dict[int, Task]:
    places = _places(run, history)
    pool._numbers = itertools.count(max(history.tasks, default=0) + 1)
    made: dict[int, Task] = {}
    held = []
    for past in history.tasks.values():
        folder, name = places.get(past.number, ("", ""))
        if past.over:
            if finished and not past.superseded:
                task = made[past.number] = task_of(pool, past)
                pool._finish(task, _outcome_or_loss(run, past, task))
        elif folder.startswith("held/"):
            if finished:
                made[past.number] = _under_way(pool, run, past, folder, name)
                held.append(past)
        elif folder:
            made[past.number] = _under_way(pool, run, past, folder, name)
        else:
            if not history.closed:  # else its script was interrupted, and has cancelled what was left
                what = "its script died while it was being added"
                logger.warning("run %s: the task %r is not in it: %s", run.spool.path.name, past.name, what)
            run.watcher.ledger.note_cancelled(past.number)
            past.cancelled, past.cut = True, not history.closed
    for past in held:
        task = made[past.number]
        values, after = ([_parent(pool, run, history, word, made) for word in some] for some in past.parents)
        parents = task._parents = pool._held[task.task_id] = Parents(task, values, after)
        parents.listen()
    return made


def _under_way(pool: ClusterPool, run: Run, past: PastTask, folder: str, name: str) -> Task:
    ledger = run.watcher.ledger
    group = ledger.groups[int(folder.split("/")[1]) if folder.startswith("todo/") else past.group]
    task = task_of(pool, past)
    pool._places[task.task_id] = past.number
    if folder.startswith("held/"):
        ledger.expect(past.number, task, group, held=True)
    else:
        ledger.restore(past, task, group, task_attempt(name))
    return task


def _places(run: Run, history: History) -> dict[int, tuple[str, str]]:
    """Where the calls of unfinished tasks are, as (folder, name), after putting right what was cut in half."""
    spool = run.spool
    for name in spool.moved_outcomes():
        outcome = name.rpartition("/")[2]
        past = history.tasks.get(task_number(outcome))
        if past is not None and not past.over:
            spool.move(name, f"inbox/{outcome}")  # it was moved, but that was not journalled any more
    spool.restore_seized()
    for group in run.watcher.ledger.groups:
        for name in spool.withdrawn(group.number):
            past = history.tasks.get(task_number(name))
            if past is None or past.over:  # its fate was journalled, and only the call is left
                spool.drop(group.number, name, failed=past is not None and past.error is not None)
            else:
                spool.restore(group.number, name)
    places = latest(spool.unanswered())
    if not history.closed and any(not task.over and task.number not in places for task in history.tasks.values()):
        time.sleep(1.0)  # it may have been given back from one folder to another while they were listed
        places.update(latest(spool.unanswered()))
    return places


def _parent(pool: ClusterPool, run: Run, history: History, word: int | str, made: Mapping[int, Task]) -> Task:
    """The parent that the journal names so."""
    if isinstance(word, int) and word in made:
        return made[word]
    task = Task(pool, str(word), _sent, (), {})
    past = history.tasks.get(word) if isinstance(word, int) else None
    if past is not None and past.over:  # another was run instead
        task.name = past.name
        task._complete(_outcome_or_loss(run, past, task))
    else:
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


def outcome_of(run: Run, past: PastTask, task: Task) -> outcomes.Outcome | None:
    """How the task of a run ended, as the journal has it, for the one that stands for it. Raises OSError or ValueError if its
    outcome is gone or damaged."""
    if past.outcome is not None:
        return run.watcher.values.recall(past.outcome, task)
    return None if past.error is None else outcomes.failure(error_of(past.error), past.name)


def _outcome_or_loss(run: Run, past: PastTask, task: Task) -> outcomes.Outcome | None:
    """As `outcome_of`; an error of this task alone where its outcome is gone."""
    try:
        return outcome_of(run, past, task)
    except (OSError, ValueError) as error:
        what = f"task {past.name!r} of run {run.spool.path.name} has ended, but its outcome cannot be read any more: {error}"
        return outcomes.failure(SpoolError(f"{what}. Add the task again", folder=str(run.spool.path)), past.name)


def _sent(*_: Any) -> None:
    """Stands for the function of a task that another process has added: that is in the run's folder."""
