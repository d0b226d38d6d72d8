"""Coming back to a run whose script has ended, or died: its jobs go on without it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import registry
from .errors import PoolKindError

if TYPE_CHECKING:
    from .cluster.places import RunInfo
    from .cluster.pool import ClusterPool

__all__ = ["attach", "runs"]


def attach(run: str | os.PathLike[str] = "last") -> ClusterPool:
    """The pool of a run that another process has left, with its tasks: those that are done have their values and errors,
    the others go on, and jobs are sent for them as far as they are missing.

    `run` is a path, a run's name or its unique beginning, the name of a pool (its newest run), or "last" (of all). Every
    task whose `add_task` had returned is in ``pool.tasks``. Raises RunNotFoundError if there is no such run or it was
    closed, RunBusyError if a live process holds it, PythonMismatchError if it was begun with another Python.
    """
    from .cluster.places import find_run, look_at
    from .cluster.pool import ClusterPool

    path = find_run(run)
    name = look_at(path).pool
    pool = registry.get(name, ClusterPool, lambda: ClusterPool.of_run(path))
    if pool.folder != path:
        raise PoolKindError(
            f"a pool {name!r} is open in this process, with another run: shut it down before attaching to {path}"
        )
    return pool


def runs() -> list[RunInfo]:
    """This user's runs, the oldest first, whether a process holds them or not. Nothing is changed by looking."""
    from .cluster.places import known_runs

    return known_runs()
