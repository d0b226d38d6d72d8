"""What can be done with a run from outside: by its name, whoever holds it, from any machine that sees its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import registry
from .errors import PoolKindError

if TYPE_CHECKING:
    from .cluster.clearing import Cleared
    from .cluster.pool import ClusterPool
    from .cluster.views import RunView

__all__ = ["cancel", "clean", "look", "recorded_call", "retry"]


def look(run: str | os.PathLike[str] = "last") -> RunView:
    """What is known of a run: its state, its tasks and its jobs, from its journal and its folder. Changes nothing.

    `run` is a path, a run's name or its unique beginning, the name of a pool (its newest run), or "last" (of all). It may
    be held by a live script, here or elsewhere, left by a dead one, or closed. Raises RunNotFoundError if there is none.
    """
    from .cluster.reading import view_run

    return view_run(run)


def clean(run: str | os.PathLike[str], *, keep_failed: bool = False, dry_run: bool = False) -> Cleared:
    """Remove a run's folder, and return what that frees; with `dry_run` only tell.

    With `keep_failed`, what tells of its failed tasks stays: journal, logs, and their calls. Raises RunBusyError if a live
    process holds the run or jobs of it are alive, RunNotFoundError if there is none, SpoolError if nobody can tell.
    """
    from .cluster.clearing import clear_run

    return clear_run(run, keep_failed=keep_failed, dry_run=dry_run)


def cancel(run: str | os.PathLike[str], tasks: Iterable[str | int] | str | int | None = None) -> bool:
    """Cancel a task of a run, or several, by number or name (None: all that are not over), and end the jobs that run them.

    Where a process holds the run, which may be on another machine, it is asked to, and does so within a second or two:
    True is returned. Else it has been done when this returns, and False is returned. Raises RunNotFoundError if there is
    no such run or task, or the run was closed, SpoolError if the jobs cannot be reached from here.
    """
    from .cluster.cancelling import cancel_run

    return cancel_run(run, _several(tasks))[1]


def retry(
    run: str | os.PathLike[str],
    tasks: Iterable[str | int] | str | int | None = None,
    *,
    new_code: bool = False,
    **options: Any,
) -> ClusterPool:
    """Run the failed tasks of a run again (or the one, or those, with these numbers or names), as a new run.

    Returns its pool, with these tasks: the recorded calls, with the options they had, but for job options given here, such
    as ``mem_gb=8``. They run the code they were added with; with `new_code` your own modules as they are now (functions of
    the script itself are part of the calls). The first run stays as it is, and may still be held. What the calls see of the
    environment is what their script had changed in it, on top of this process's. Raises RunNotFoundError if there is no such
    run, nothing of it has failed or a task has not, PoolError if the calls are gone, PythonMismatchError if this is another
    Python.
    """
    from .cluster.again import pool_like, run_again, tasks_to_retry
    from .cluster.pool import ClusterPool
    from .errors import RunNotFoundError

    path, chosen = tasks_to_retry(run, _several(tasks))
    if not chosen:
        raise RunNotFoundError(f"no task of run {path.name} has failed")
    made: list[ClusterPool] = []

    def make() -> ClusterPool:
        made.append(pool_like(path, options))
        return made[0]

    name = look(path).info.pool
    pool = registry.get(name, ClusterPool, make)
    if pool not in made:
        raise PoolKindError(f"a pool {name!r} is open in this process: shut it down before retrying tasks of {path.name}")
    run_again(pool, path, chosen, options, new_code=new_code)
    return pool


def _several(tasks: Iterable[str | int] | str | int | None) -> Sequence[str | int] | None:
    """One task is several as well. (A text, too, can be gone through: letter by letter.)"""
    if tasks is None:
        return None
    return [tasks] if isinstance(tasks, (str, int)) else [*tasks]


def recorded_call(run: str | os.PathLike[str], task: str | int) -> Callable[[], Any]:
    """The call of a task, to be run here under a debugger: it takes no arguments, and returns or raises what the task did.

    It changes the working folder, the search path, the umask and the environment of this process to those of the task, and
    has the code imported that the task was added with.
    Calls of failed and unfinished tasks exist. Raises RunNotFoundError if there is no such run or task, or its call is
    gone, PythonMismatchError if this is another Python.
    """
    from .cluster import again

    return again.recorded_call(run, task)
