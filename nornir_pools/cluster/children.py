"""Tasks of a cluster pool that wait for parents: held back in the run's folder, and published once their parents are done.

The value of a parent that is of the same run stays where its outcome was put away: the child's call says where. A value from
elsewhere is stored in the run as if it had been shared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import message
from ..errors import ArgumentError, PoolError
from ..outcome import Outcome
from ..task import CommandTask, Task

if TYPE_CHECKING:
    from .jobs import Group
    from .pool import ClusterPool
    from .run import Run

__all__ = ["fall", "hold", "release"]

_PLACE = ("file", "at", "size", "command")


def hold(pool: ClusterPool, task: Task, run: Run, group: Group, parts: Sequence[message.Buffer]) -> None:
    """Write a task down that waits for parents; like any other it survives the script."""
    assert task._parents is not None
    names = [[_name_of(pool, parent) for parent in some] for some in (task._parents.values, task._parents.after)]
    run.add(pool._number(task), task, group, parts, parents=names)


def _name_of(pool: ClusterPool, parent: Any) -> int | str:
    """What the journal calls a parent: its number in the run, or if it is not of it, its name."""
    place = getattr(parent, "_place", None)
    if getattr(parent, "_pool", None) is pool:
        number = pool._places.get(parent.task_id) or (place and pool._run and place[0] is pool._run.spool and place[1].get("n"))
        if number:
            return int(number)
    return str(getattr(parent, "name", "a future"))


def release(pool: ClusterPool, task: Task) -> None:
    """Publish a task whose parents have succeeded. (Registered and journalled it is already.)"""
    run, parents = pool._run, task._parents
    entry = run.watcher.ledger.find(pool._places.get(task.task_id, 0)) if run is not None else None
    if run is None or entry is None or parents is None:
        return  # it was ended with the run
    run.watcher.ledger.failures.check()
    places = [_place_of(run, task, parent) for parent in parents.values]
    # Where the values are must be seen by the nodes before the call is that tells of them.
    run.spool.hand_out()
    parts = message.with_header(run.spool.held(entry.file), parents=places)
    if run.watcher.release(entry.number):
        run.spool.publish(entry.group.number, entry.file, parts)
        run.spool.drop_held(entry.file)
        task._let_go()


def _place_of(run: Run, task: Task, parent: Task) -> dict[str, Any]:
    if parent._place is not None and parent._place[0] is run.spool:
        place: dict[str, Any] = {name: parent._place[1][name] for name in _PLACE if name in parent._place[1]}
        return {"command": isinstance(parent, CommandTask), **place, "task": parent.name}
    try:
        shared = run.store.share(parent.result())
    except (PoolError, OSError):
        raise
    except Exception as error:
        what = f"the value of its parent, task {parent.name!r}, cannot be sent to another process"
        raise ArgumentError(
            f"task {task.name!r} of pool {task._pool.name!r}: {what}: {type(error).__name__}: {error}"
        ) from error
    return {"file": f"shared/{shared.digest}", "task": parent.name}


def fall(pool: ClusterPool, task: Task, outcome: Outcome | None) -> None:
    """A task that waited for its parents is over without having run (None: it is cancelled)."""
    run = pool._run
    entry = run.watcher.ledger.find(pool._places.get(task.task_id, 0)) if run is not None else None
    if run is None or entry is None:
        return  # it was ended with the run
    if outcome is None:
        if run.watcher.ledger.cancel(entry.number):
            with contextlib.suppress(OSError):
                run.spool.drop_held(entry.file)
            pool._finish(task, None)
        return
    error = outcome.error
    if not isinstance(error, PoolError):
        error = PoolError(f"task {task.name!r} of pool {pool.name!r} was not run: {type(error).__name__}: {error}")
        error.__cause__ = outcome.error
    run.watcher.ledger.fall(entry.number, error)
