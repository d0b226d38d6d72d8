"""One run of a pool, held by this process: its folder, its journal, and the thread that watches it."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PoolError, PythonMismatchError, RunNotFoundError
from ..outcome import Outcome
from ..task import Task
from .allocation import AllocationLauncher
from .budget import Budget
from .context import fingerprints
from .failures import Failures
from .freezing import Freezer
from .history import History, read_history
from .launcher import LocalLauncher, SlurmLauncher
from .launching import Launcher
from .lease import Lease
from .names import run_prefix
from .places import note_run, remove_old_runs, warn_if_local
from .shared import SharedStore
from .spool import Spool
from .watcher import Watcher

if TYPE_CHECKING:
    from .pool import ClusterPool

__all__ = ["Run", "read_facts"]

_LAUNCHERS: Mapping[str, Callable[[Path, Mapping[str, str]], Launcher]] = {
    "slurm": SlurmLauncher,
    "allocation": AllocationLauncher,
    "local": LocalLauncher,
}


class Run:
    """What a pool has on disk and in the scheduler. `finish` completes a task of the pool."""

    def __init__(self, pool: ClusterPool, spool: Spool, lease: Lease, finish: Callable[[Task, Outcome | None], None]) -> None:
        self.spool = spool
        spool.keep_results = pool.options.resume
        self.store = SharedStore(spool, "pool")
        self._context: tuple[bytes, int, str] = (b"", 0, "")
        self._freezer = Freezer(self.store, spool.path.name) if pool.options.frozen_code else None
        launcher = _LAUNCHERS[pool.executor](spool.path, pool.environment)
        failures = Failures(pool.name, pool.options.stop_after, pool.options.max_failures)
        keep_all = pool.options.keep == "all"
        most = pool.num_threads if pool.options.max_jobs else 0
        if isinstance(launcher, AllocationLauncher):
            most = min(most, launcher.nodes)
        budget = Budget(pool.name, spool.path.name, pool.options.budget_core_hours)
        self.watcher = Watcher(pool.name, spool, lease, launcher, most, finish, failures, keep_all=keep_all, budget=budget)

    @classmethod
    def create(cls, pool: ClusterPool, folder: Path, finish: Callable[[Task, Outcome | None], None]) -> Run:
        """Begin a run of the pool in a new folder."""
        path = folder / f"{run_prefix(pool.name)}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        if pool.executor != "local":
            warn_if_local(path)
        spool = Spool.create(path)
        lease = Lease(spool)
        lease.take()
        # The file that makes the folder a run is written last: whoever finds it finds all that belongs to a run.
        spool.describe(_facts_of(pool))
        note_run(path)
        remove_old_runs(folder)
        run = cls(pool, spool, lease, finish)
        run.watcher.start()
        return run

    @classmethod
    def reopen(
        cls, pool: ClusterPool, spool: Spool, finish: Callable[[Task, Outcome | None], None], *, resuming: bool = False
    ) -> tuple[Run, History]:
        """Become the holder of a run that another process has left; its watcher is not started yet.

        With `resuming` it may have been closed, and is this pool's from now on. Raises RunBusyError if a live process holds it,
        RunNotFoundError if it was closed.
        """
        lease = Lease(spool)
        lease.take()
        try:
            history = read_history(spool)
            if history.closed and not resuming:
                raise RunNotFoundError(f"the run {spool.path.name} was closed: its values are gone")
            spool.resume()
            if resuming:
                spool.describe({**_facts_of(pool), "started": json.loads(spool.read("run.json"))["started"]})
            run = cls(pool, spool, lease, finish)
            run.watcher.supply.restore(history)
            run.watcher.ledger.resume(history)
        except BaseException:
            lease.release()
            raise
        return run, history

    def context(self, context: bytes) -> str:
        """Where the context of a task is stored; most tasks have the one of the task before."""
        modules = len(sys.modules)  # more of the user's own may be there
        if self._context[0] is not context or self._context[1] != modules:
            whole = context if self._freezer is None else self._freezer.into(context)
            self._context = (context, modules, self.store.put(whole))
        return self._context[2]

    def share_buffer(self, buffer: memoryview) -> str:
        """Where a large read-only array is stored, once for all tasks it is given to."""
        return self.store.put_memory(buffer)


def _facts_of(pool: ClusterPool) -> dict[str, Any]:
    """What a run of the pool says of itself."""
    return {
        "pool": pool.name,
        "python": "{}.{}".format(*sys.version_info),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "started": time.time(),
        "environment": fingerprints(pool.environment),
        "executor": pool.executor,
        "num_threads": pool.num_threads,
        "options": pool.options.plain(),
    }


def read_facts(spool: Spool) -> dict[str, Any]:
    """What a run says of itself. Raises PoolError if this process cannot take it over."""
    facts: dict[str, Any] = json.loads(spool.read("run.json"))
    mine = "{}.{}".format(*sys.version_info)
    if facts["python"] != mine:
        raise PythonMismatchError(
            f"the run {spool.path.name} was begun with Python {facts['python']}, and this is {mine}: pickles cannot be "
            f"exchanged between them; attach with Python {facts['python']}"
        )
    if facts["executor"] == "local" and facts["host"] != os.uname().nodename:
        raise PoolError(
            f"the jobs of the run {spool.path.name} are processes of the machine {facts['host']}: attach to it there"
        )
    return facts
