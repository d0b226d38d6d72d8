"""The cluster pool: each task is a job, or is taken over by a job that is done with its own."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import message, settings
from ..adding import PoolView
from ..base import PoolBase, PoolKind
from ..errors import OptionError, PoolKindError, SpoolError
from ..local.serial import run_here
from ..options import Options
from ..task import Task, dump_call
from . import slurm
from .context import ContextReader, fingerprints
from .failures import Failures
from .shared import SharedStore
from .spool import Spool, remove_old_runs, task_name

if TYPE_CHECKING:
    pass

__all__ = ["ClusterPool"]

logger = logging.getLogger("nornir_pools")


class ClusterPool(PoolBase):
    """Runs calls and commands as jobs of a SLURM cluster, or as processes of this machine where there is none.

    `num_threads` is the most jobs at once (None: the option `max_jobs`, or the CPUs of this machine). `options` are those
    of `nornir_pools.options.Options`, and job options under submitit's names. Nothing is written, and nothing submitted,
    before the first task.
    """

    kind = PoolKind.PROCESS

    def __init__(self, name: str = "", num_threads: int | None = None, **options: Any) -> None:
        self._run: _Run | None = None
        self.options = Options.of(options, settings.environment_options(), settings.file_options())
        self.executor = _choose_executor(self.options.executor, name)
        if num_threads is None:
            num_threads = settings.usable_cpus() if self.executor == "local" else self.options.max_jobs
        super().__init__(name, num_threads)
        self._given = options
        self._context = ContextReader(os.environ)
        self._folder = _runs_folder(self.options, self.executor)
        self._numbers = itertools.count(1)
        self._places: dict[int, int] = {}  # task id -> its number in the run
        self._start_lock = threading.Lock()  # guards the making of the run: the first task may come from several threads

    def check_same_options(self, options: Mapping[str, Any]) -> None:
        """Raise PoolKindError if the pool was made with other values for any of these options."""
        for name, value in options.items():
            if self._given.get(name) != value:
                raise PoolKindError(
                    f"pool {self.name!r} exists with {name}={self._given.get(name)!r}, and {name}={value!r} was asked for; "
                    "use with_options for single tasks, or another name"
                )

    @property
    def folder(self) -> Path | None:
        """The run's folder; None before the first task."""
        return self._run.spool.path if self._run else None

    def with_options(self, **options: Any) -> PoolView:
        """A view of this pool whose tasks have these job options on top of the pool's. Raises OptionError."""
        self.options.with_task(options)
        return PoolView(self, options)

    def share(self, value: Any) -> Any:
        """Store a value once, as it is now, and return what to pass to tasks in its place."""
        return value if self.executor == "debug" else self._started().store.share(value)

    def _command_environment(self) -> dict[str, str] | None:
        return dict(os.environ) if self.executor == "debug" else None

    def _launch(self, task: Task) -> None:
        if self.executor == "debug":
            run_here(self, task)
            return
        run = self._started()
        failures = run.watcher.ledger.failures
        failures.check()
        group = run.watcher.ledger.group_for(self.options.with_task(task.options) if task.options else self.options)
        header = {"name": task.name, "context": run.context(self._context.read())}
        parts = message.pack(header, dump_call(task, run.store.argument), run.share_buffer)
        number = next(self._numbers)
        self._places[task.task_id] = number
        # Registered and journalled before it can be claimed: an outcome finds its task.
        run.watcher.expect(number, task, group)
        try:
            run.spool.publish(group.number, task_name(number), parts)
        except SpoolError:
            run.watcher.ledger.take(number)
            raise
        if failures.error is not None and self._withdraw(task):  # the pool has stopped meanwhile
            failures.check()

    def _started(self) -> _Run:
        """The run, made when it is first needed."""
        if self._run is None:
            with self._start_lock:
                if self._run is None:
                    self._run = _Run(self)
        return self._run

    def _finish(self, task: Task, outcome: Any) -> None:
        self._places.pop(task.task_id, None)
        super()._finish(task, outcome)

    def _withdraw(self, task: Task) -> bool:
        """`cancel` claims the task as a worker would, by the same rename: one of the two gets it."""
        ledger = self._run.watcher.ledger if self._run else None
        entry = ledger.find(self._places.get(task.task_id, 0)) if ledger else None
        if entry is None or ledger is None or self._run is None:
            return False
        return self._run.spool.withdraw(entry.group.number, entry.file) and ledger.take(entry.number) is not None

    def _count_waiting(self) -> int:
        busy = self._run.watcher.supply.busy_workers if self._run else 0
        return max(0, len(self._unfinished) - busy)

    def _close(self, wait: bool) -> None:
        if self._run is not None:
            self._run.watcher.close(wait)

    def abandon(self) -> None:
        """End the jobs, without waiting for tasks."""
        super().abandon()
        if self._run is not None:
            self._run.watcher.abandon()

    def _forget_workers(self) -> None:
        self._places = {}
        self._start_lock = threading.Lock()
        self._run = None  # the parent's; a task added here makes another

    def get_active_nodes(self) -> list[str]:
        """The hosts of the workers that are up."""
        if self._run is None:
            return []
        return sorted({job.host for job in list(self._run.watcher.supply.jobs.values()) if job.up and job.live})


class _Run:
    """One run of a pool: its folder, and the thread that watches it."""

    def __init__(self, pool: ClusterPool) -> None:
        from .launcher import LocalLauncher, SlurmLauncher  # submitit: 70 ms
        from .watcher import Watcher

        base = pool._context.base
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", pool.name).strip("-.")[:60] or "pool"
        path = pool._folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        facts = {
            "pool": pool.name,
            "python": "{}.{}".format(*sys.version_info),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "started": time.time(),
            "environment": fingerprints(base),
        }
        if pool.executor == "slurm":
            _warn_if_local(path)
        self.spool = Spool.create(path, facts)
        remove_old_runs(path.parent)
        self.store = SharedStore(self.spool, "pool")
        self._context: tuple[bytes, str] = (b"", "")
        launcher = SlurmLauncher(path, base) if pool.executor == "slurm" else LocalLauncher(path, base)
        failures = Failures(pool.name, pool.options.stop_after, pool.options.max_failures)
        keep_all = pool.options.keep == "all"
        self.watcher = Watcher(pool.name, self.spool, launcher, pool.num_threads, pool._finish, failures, keep_all=keep_all)

    def context(self, context: bytes) -> str:
        """Where the context of a task is stored; most tasks have the one of the task before."""
        if self._context[0] is not context:
            self._context = (context, self.store.put(context))
        return self._context[1]

    def share_buffer(self, buffer: memoryview) -> str:
        """Where a large read-only array is stored, once for all tasks it is given to."""
        return self.store.put(buffer)


def _choose_executor(wanted: str, pool: str) -> str:
    if wanted == "slurm" and shutil.which("sbatch") is None:
        raise OptionError(f'pool {pool!r}: executor="slurm", but sbatch is not on PATH; on a machine without SLURM use "local"')
    if wanted != "auto":
        return wanted
    if slurm.is_available():
        return "slurm"
    if shutil.which("sbatch") is None and slurm.looks_installed():
        raise OptionError(
            f"pool {pool!r}: this machine belongs to a SLURM cluster, but sbatch is not on PATH; add SLURM's commands to PATH, "
            'or run on this machine with executor="local" (NORNIR_POOLS_EXECUTOR=local)'
        )
    logger.warning("pool %r: no SLURM here, so its jobs are processes of this machine", pool)
    return "local"


def _runs_folder(options: Options, executor: str) -> Path:
    """Where runs live. Raises SpoolError if that cannot be written."""
    if executor == "debug":
        return Path()
    if options.folder:
        folder = Path(options.folder).expanduser().absolute()
        if not _writable(folder):
            raise SpoolError(f"the folder for runs, {folder}, cannot be written; set another with folder=", folder=str(folder))
        return folder
    scratch = os.environ.get("SCRATCH")
    candidates = [Path(scratch) / "nornir_pools"] if scratch else []
    candidates += [Path.cwd() / ".nornir_pools", Path.home() / ".nornir_pools"]
    for folder in candidates:
        if _writable(folder):
            return folder
    places = ", ".join(map(str, candidates))
    raise SpoolError(f"no folder for runs can be written, of {places}; set one with folder= or NORNIR_POOLS_FOLDER")


def _writable(folder: Path) -> bool:
    """Whether the folder is there and can be written, or can be made."""
    while not os.path.exists(folder):
        if folder.parent == folder:
            return False
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _warn_if_local(path: Path) -> None:
    for local in {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"}:
        if path.is_relative_to(local):
            logger.warning(
                "the run's folder %s is under %s, which the nodes of a cluster do not share: they may not see the tasks; "
                "set a shared one with folder= or NORNIR_POOLS_FOLDER",
                path,
                local,
            )
