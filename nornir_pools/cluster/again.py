"""Running calls of a run again: those that have failed, as a new run; or one of them here, to find out why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import message
from ..calls import load_call
from ..cpus import usable_cpus
from ..errors import PoolError, RunNotFoundError
from ..message import Buffer
from ..options import Options
from ..outcome import Outcome
from ..parents import Parents
from ..task import Task
from .adopting import task_of
from .children import hold
from .context import Surroundings
from .freezing import with_todays_code
from .frozen import FrozenCode
from .history import History, PastTask, read_history
from .jobs import Group
from .places import find_run
from .pool import ClusterPool
from .reading import view_run
from .run import Run, read_facts
from .shared import SharedStore, use_store, values_of
from .spool import Spool
from .views import TaskView

__all__ = ["pool_like", "recorded_call", "run_again", "tasks_to_retry"]


def tasks_to_retry(run: str | os.PathLike[str], wanted: Sequence[str | int] | None) -> tuple[Path, list[TaskView]]:
    """The tasks of a run that are to be run again: those wanted, else all that have failed.

    Raises RunNotFoundError if there is no such task, or it has not failed, PoolError if its call is gone.
    """
    view = view_run(run)
    tasks = [task for task in view.tasks if task.state == "failed"]
    if wanted is not None:
        tasks = [view.task(word) for word in wanted]
        for task in tasks:
            if task.state != "failed":
                raise RunNotFoundError(
                    f"task {task.number} ({task.name}) of run {view.info.name} has not failed: it is {task.state}"
                )
    spool = Spool(view.info.path)
    try:
        calls = spool.failed_calls()
    finally:
        spool.close()
    gone = [task for task in tasks if task.number not in calls]
    if gone:
        names = ", ".join(task.name for task in gone[:3]) + (" …" if len(gone) > 3 else "")
        raise PoolError(
            f"run {view.info.name}: the calls of {len(gone)} failed tasks ({names}) are not in its folder any more, so they "
            "cannot be run again: add them again in a script"
        )
    return view.info.path, tasks


def pool_like(path: Path, given: Mapping[str, Any]) -> ClusterPool:
    """A new pool with the name and the options of a run, but for those given. Raises PythonMismatchError."""
    spool = Spool(path)
    try:
        facts = read_facts(spool)
    finally:
        spool.close()
    pool = ClusterPool(facts["pool"], facts["num_threads"], executor=facts["executor"], folder=str(path.parent))
    pool.options = Options(**{**facts["options"], "stop_after": 0, "resume": False}).with_task(given)
    pool._given = {}
    pool._initializer_name = facts.get("initializer", "")
    return pool


def run_again(
    pool: ClusterPool, path: Path, tasks: Sequence[TaskView], given: Mapping[str, Any], *, new_code: bool = False
) -> None:
    """Add calls of another run to a pool, as they were recorded, each with the options it had last but for those given."""
    spool = Spool(path)
    try:
        history, calls = read_history(spool), spool.failed_calls()
        run = pool._started()
        run.store.adopt(spool)
        if pool._initializer_name:
            run.spool.write("initializer", [spool.read("initializer")], "pool")
        made: dict[int, Task] = {}
        for number in sorted(task.number for task in tasks):  # parents have smaller numbers than their children
            past = history.tasks[number]
            options = Options(**{**history.groups[past.group], "stop_after": 0}).with_task(given)
            group = run.watcher.ledger.group_for(options)
            call: Sequence[Buffer] = [spool.read(calls[number])]
            if new_code:
                call = message.with_header(call[0], context=_todays(run.store, message.read_header(call[0])["context"]))
            family = _parents(pool, run, spool, history, past, call[0], made) if any(past.parents) else None
            task = made[number] = task_of(pool, past)
            try:
                _add(pool, run, task, group, call, family)
            except BaseException:  # nobody is to wait for what is not there
                pool._unfinished.pop(task.task_id, None)
                raise
    finally:
        spool.close()


def _add(
    pool: ClusterPool, run: Run, task: Task, group: Group, call: Sequence[Buffer], family: tuple[list[Task], list[Task]] | None
) -> None:
    if family is None:
        run.add(pool._number(task), task, group, call)
        return
    parents = task._parents = Parents(task, *family)
    hold(pool, task, run, group, call)
    pool._held[task.task_id] = parents
    parents.listen()


def _parents(
    pool: ClusterPool, run: Run, spool: Spool, history: History, past: PastTask, call: Buffer, made: Mapping[int, Task]
) -> tuple[list[Task], list[Task]]:
    """The parents of a task that is run again: those that are as well, and the values of the others. Raises PoolError."""
    known: list[dict[str, Any]] = message.read_header(call).get("parents", [])
    values, after = past.parents
    found = []
    for index, word in enumerate(values):
        other = history.tasks.get(word) if isinstance(word, int) else None
        if isinstance(word, int) and word in made:
            found.append(made[word])
        elif other is not None and other.outcome is not None and other.outcome["ok"] and not other.outcome.get("status"):
            place = {"file": f"shared/{run.store.put(spool.kept(other.outcome))}", "command": other.command is not None}
            found.append(_known(pool, run, other.name, place))
        elif other is None and index < len(known):  # it was stored as if it had been shared
            found.append(_known(pool, run, str(word), known[index]))
        else:
            raise _no_value(spool, past, other.name if other is not None else str(word))
    for word in after:
        other = history.tasks.get(word) if isinstance(word, int) else None
        if other is not None and word not in made and not (other.outcome is not None and other.outcome["ok"]):
            raise _no_value(spool, past, other.name)
    return found, [made[word] for word in after if isinstance(word, int) and word in made]


def _known(pool: ClusterPool, run: Run, name: str, place: dict[str, Any]) -> Task:
    """Stands for a parent whose value is in the run."""
    task = Task(pool, name, _known, (), {})
    outcome = Outcome()
    outcome.place = run.spool, place
    task._complete(outcome)
    return task


def _no_value(spool: Spool, past: PastTask, parent: str) -> PoolError:
    return PoolError(
        f"task {past.number} ({past.name}) of run {spool.path.name} cannot be run again without a value of its parent, task "
        f"{parent!r}, which has not succeeded: run both again"
    )


def _todays(store: SharedStore, context: str) -> str:
    """Where a task's context is stored, with today's code."""
    return store.put(with_todays_code(store, bytes(store.read(context))))


def recorded_call(run: str | os.PathLike[str], task: str | int) -> Callable[[], Any]:
    """See `nornir_pools.recorded_call`."""
    path = find_run(run)
    view = view_run(path)
    wanted = view.task(task)
    spool = Spool(path)
    facts = read_facts(spool)
    place = spool.failed_calls().get(wanted.number)
    if place is None:
        there = {
            int(name.partition(".")[0]): f"{folder}/{name}" for name, folder in spool.unanswered().items() if folder != "inbox"
        }
        place = there.get(wanted.number)
    if wanted.waits_for or wanted.cause == "ParentFailedError":
        raise RunNotFoundError(
            f"task {wanted.number} ({wanted.name}) of run {view.info.name} has not got all its arguments: they are values of "
            "other tasks, which have not succeeded"
        )
    if place is None:
        why = "those of tasks that have succeeded are not kept" if wanted.state == "succeeded" else "it was removed"
        raise RunNotFoundError(
            f"the call of task {wanted.number} ({wanted.name}) is not in run {view.info.name} any more: {why}"
        )
    store = SharedStore(spool, "debug")

    def call_of(file: str) -> Any:
        header, parts = message.unpack(spool.read(file), store.read)
        context = json.loads(bytes(store.read(header["context"])))
        Surroundings(facts["environment"], usable_cpus()).enter(context)
        FrozenCode(store).use(context.get("code", []))
        func, args, kwargs = load_call(parts, values_of(spool, header.get("parents", ())))
        return func(*args, **kwargs)

    def call() -> Any:
        use_store(store)
        if facts.get("initializer"):
            call_of("initializer")
        return call_of(place)

    return call
