"""One run of a pool, held by this process: its folder, its journal, and the thread that watches it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import message, settings
from ..calls import dump_call
from ..errors import PoolError, PythonMismatchError, RunNotFoundError
from ..outcome import Outcome
from ..task import Task
from .allocation import AllocationLauncher
from .budget import Budget
from .context import fingerprints
from .failures import Failures
from .freezing import Freezer
from .history import History, read_history
from .jobs import Group
from .launcher import SlurmLauncher
from .launching import Launcher
from .lease import Lease
from .local_launcher import LocalLauncher
from .names import run_prefix
from .places import note_run, remove_old_runs, warn_if_local
from .shared import SharedStore
from .spool import FORMAT, Spool, task_name
from .watcher import Watcher

if TYPE_CHECKING:
    from .pool import ClusterPool

__all__ = ["Run", "read_facts"]

logger = logging.getLogger("nornir_pools")

_LARGE_CALL = 100_000_000  # bytes
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
        self._told_size = False
        self._freezer = Freezer(self.store, spool.path.name) if pool.options.frozen_code else None
        # Where SLURM's commands are is known since the pool was made: the script may have gone to another folder.
        here = {settings.SLURM_BIN: pool.options.slurm_bin} if pool.executor != "local" else {}
        launcher = _LAUNCHERS[pool.executor](spool.path, {**pool.environment, **here})
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
        try:
            lease.take()
            # A process that a site kills (login nodes have limits of CPU time) cannot say any more how to go on.
            ways = f"nornir-pools status {path.name}, or, in Python, nornir_pools.attach({path.name!r})"
            spool.note(t="how to go on", text=f"if the script is gone: {ways}")
            # The file that makes the folder a run is written last: whoever finds it finds all that belongs to a run.
            spool.describe(_facts_of(pool))
            note_run(path)
            remove_old_runs(folder)
            run = cls(pool, spool, lease, finish)
            run._note_initializer(pool)
        except BaseException:  # no room, say: the next task makes another one
            _let_go(lease, spool)
            shutil.rmtree(path, ignore_errors=True)
            raise
        run.watcher.start()
        return run

    @classmethod
    def reopen(
        cls,
        pool: ClusterPool,
        spool: Spool,
        finish: Callable[[Task, Outcome | None], None],
        *,
        resuming: bool = False,
        of_other_jobs: bool = False,
    ) -> tuple[Run, History]:
        """Become the holder of a run that another process has left; its watcher is not started yet.

        With `resuming` it may have been closed, and is this pool's from now on; if it was `of_other_jobs`, which are over, this
        pool's launcher is not to be asked for them. Raises RunBusyError if a live process holds it,
        RunNotFoundError if it was closed.
        """
        lease = Lease(spool)
        try:
            lease.take()
            if of_other_jobs:
                spool.resume()  # (a line that was cut off ends with what this notes)
                spool.note(t="closed")
            history = read_history(spool)
            if history.closed and not resuming:
                raise RunNotFoundError(f"the run {spool.path.name} was closed: its values are gone")
            spool.resume()
            if resuming:
                spool.describe({**_facts_of(pool), "started": json.loads(spool.read("run.json"))["started"]})
            run = cls(pool, spool, lease, finish)
            run._note_initializer(pool)
            run.watcher.supply.restore(history)
            run.watcher.ledger.resume(history)
            if not resuming:  # (what has failed in an earlier script may be mended)
                run.watcher.ledger.failures.restore(past for past in history.tasks.values() if not past.superseded)
        except BaseException:
            _let_go(lease, spool)
            raise
        return run, history

    def _note_initializer(self, pool: ClusterPool) -> None:
        """Write down what each process calls before its first task. (Nobody looks for it before there is a task.)"""
        if pool._initial is not None:
            header = {"name": pool._initializer_name, "context": self.context(pool._context.read())}
            self.spool.write("initializer", message.pack(header, pool._initial), "pool")

    def context(self, context: bytes) -> str:
        """Where the context of a task is stored; most tasks have the one of the task before."""
        modules = len(sys.modules)  # more of the user's own may be there
        known = self._context  # (read once: another thread may have another context)
        if known[0] is not context or known[1] != modules:
            whole = context if self._freezer is None else self._freezer.into(context)
            known = self._context = (context, modules, self.store.put(whole))
        return known[2]

    def call_of(self, task: Task, context: bytes) -> Sequence[message.Buffer]:
        """The call of a task as it is now, to be written."""
        header = {"name": task.name, "context": self.context(context)}
        # A large read-only array is stored once for all tasks that it is given to.
        parts = message.pack(header, dump_call(task, self.store.argument), self.store.put_memory)
        self._warn_of_size(task, sum(map(len, parts)))
        return parts

    def _warn_of_size(self, task: Task, size: int) -> None:
        if size >= _LARGE_CALL and not self._told_size:
            self._told_size = True
            logger.warning(
                "task %r of pool %r: its arguments take %.0f MB, which are written for each such task; pass a path, or what "
                "pool.share(value) gives, which is written once",
                task.name,
                task._pool.name,
                size / 1e6,
            )

    def add(self, number: int, task: Task, group: Group, parts: Sequence[message.Buffer], **more: Any) -> None:
        """Let workers see a call, or with `parents` hold it back: either way it survives the script."""
        try:
            # Registered and journalled before it can be claimed: an outcome finds its task.
            self.watcher.expect(number, task, group, **more)
            if "parents" in more:
                self.spool.hold(task_name(number), parts)
            else:
                self.spool.publish(group.number, task_name(number), parts)
        except BaseException:  # also Ctrl-C: the caller has no task, so there must be none
            with contextlib.suppress(OSError):
                if "parents" in more:
                    self.spool.drop_held(task_name(number))
                else:
                    self.watcher.cancelling.withdraw(number)
            self.watcher.ledger.cancel(number)
            raise


def _let_go(lease: Lease, spool: Spool) -> None:
    """Leave a run that could not be begun, or taken over."""
    with contextlib.suppress(OSError):
        lease.release()
    spool.close()


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
        "initializer": pool._initializer_name,
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
    if facts["format"] != FORMAT:
        raise PoolError(
            f"the run {spool.path.name} was begun with another version of nornir_pools (its format is {facts['format']}, this "
            f"version's {FORMAT}): attach with that one"
        )
    if facts["executor"] == "local" and facts["host"] != os.uname().nodename:
        raise PoolError(
            f"the jobs of the run {spool.path.name} are processes of the machine {facts['host']}: attach to it there"
        )
    return facts
