"""The cluster pool: each task is a job, or is taken over by a job that is done with its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import settings
from ..adding import PoolView
from ..base import PoolBase, PoolKind
from ..errors import PoolClosedError
from ..local.serial import run_here
from ..options import Options
from ..outcome import Outcome
from ..parents import Parents, check_after
from ..task import Task
from .choosing import choose_executor, for_executor, most_jobs
from .context import ContextReader
from .places import runs_folder
from .spool import Spool

if TYPE_CHECKING:
    from ..message import Buffer
    from .jobs import Group
    from .plan import Plan
    from .resuming import Resumption
    from .run import Run  # submitit: 70 ms

__all__ = ["ClusterPool"]


class ClusterPool(PoolBase):
    """Runs calls and commands as jobs of a SLURM cluster, or as processes of this machine where there is none.

    `num_threads` is the most jobs at once (None: the option `max_jobs`, or the CPUs of this machine). `options` are those
    of `nornir_pools.options.Options`, and job options under submitit's names; and `initializer` and `initargs`. Nothing is
    written, and nothing submitted, before the first task.
    """

    kind = PoolKind.PROCESS

    def __init__(self, name: str = "", num_threads: int | None = None, **options: Any) -> None:
        self._run: Run | None = None
        self._resumption: Resumption | None = None  # with the option `resume`, once there is a run
        self._kept: list[Task] = []  # of a run taken over: nobody else has its finished tasks yet
        given = {name: options.pop(name) for name in ("initializer", "initargs") if name in options}
        chosen = Options.of(options, settings.environment_options(), settings.file_options())
        self.executor = choose_executor(chosen, name)
        self.options = for_executor(chosen, self.executor, name)
        if num_threads is None:
            num_threads = most_jobs(self.options, self.executor)
        super().__init__(name, num_threads, **given, **options)
        self._sends_calls = self.executor != "debug"
        self._initial = None if self._initializer is None or not self._sends_calls else self._initializer.dump()
        self._initializer_name = "" if self._initializer is None else self._initializer.name
        self._context = ContextReader(os.environ, exported=self.options.exports)
        self._folder = Path() if self.executor == "debug" else runs_folder(self.options)
        self._numbers = itertools.count(1)
        self._places: dict[int, int] = {}  # task id -> its number in the run
        self._start_lock = threading.Lock()  # guards the making of the run: the first task may come from several threads
        self._waits_itself = self.executor == "debug"

    @classmethod
    def of_run(cls, path: Path) -> ClusterPool:
        """The pool of a run that another process has left, with its tasks, finished and unfinished.

        Raises RunBusyError if that process lives, RunNotFoundError if the run was closed, PoolError if it cannot be taken
        over from here.
        """
        from .adopting import adopt
        from .run import Run, read_facts

        with contextlib.closing(Spool(path)) as spool:
            facts = read_facts(spool)
        pool = cls(facts["pool"], facts["num_threads"], executor=facts["executor"], folder=str(path.parent))
        pool.options, pool.executor = Options(**facts["options"]), facts["executor"]
        pool._context = ContextReader(os.environ, exported=pool.options.exports)
        pool._given = {}
        pool._run, history = Run.reopen(pool, Spool(path), pool._finish)
        pool._kept += adopt(pool, pool._run, history, finished=True).values()
        pool._run.watcher.start()
        return pool

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables of when the pool was made, which its jobs get."""
        return self._context.base

    @property
    def folder(self) -> Path | None:
        """The run's folder; None before the first task."""
        return self._run.spool.path if self._run else None

    @property
    def runs_folder(self) -> Path:
        """Where the pool's run lives, or will."""
        return self._folder

    def plan(self, tasks: int = 1) -> Plan:
        """The sbatch script for that many tasks with the pool's options, and the most they can cost. Sends nothing."""
        from .plan import plan_of

        return plan_of(self, tasks)

    def with_options(self, *, after: Any = (), **options: Any) -> PoolView:
        """A view of this pool: its tasks have these job options, too, and come `after` these tasks. Raises OptionError."""
        self.options.with_task(options)
        return PoolView(self, options, check_after(after))

    def share(self, value: Any) -> Any:
        """Store a value once, as it is now, and return what to pass to tasks in its place."""
        if self._closed:
            raise PoolClosedError(f"pool {self.name!r} was shut down; ask for it again by its name to get a new one")
        return value if self.executor == "debug" else self._started().store.share(value)

    def _command_environment(self) -> dict[str, str] | None:
        return dict(os.environ) if self.executor == "debug" else None

    def _launch(self, task: Task) -> None:
        if self.executor == "debug":
            run_here(self, task)
            return
        if self._bind(task):
            return
        run, group, parts = self._call_of(task)
        run.add(self._number(task), task, group, parts)
        failures = run.watcher.ledger.failures
        if failures.error is not None and self._withdraw(task):  # the pool has stopped meanwhile
            failures.check()

    def _hold(self, task: Task, parents: Parents) -> None:
        task._parents = parents
        if self.executor == "debug" or not self._bind(task):
            super()._hold(task, parents)

    def _bind(self, task: Task) -> bool:
        """Whether an earlier script has had the task run, or has it run now, so that there is no more to do for it."""
        run = self._started()
        run.watcher.ledger.failures.check()
        return self._resumption is not None and self._resumption.bind(task, self._options_of(task).version)

    def _options_of(self, task: Task) -> Options:
        return self.options.with_task(task.options) if task.options else self.options

    def _call_of(self, task: Task) -> tuple[Run, Group, Sequence[Buffer]]:
        """The run, and the group of a task, and its call as it is now."""
        run = self._started()
        group = run.watcher.ledger.group_for(self._options_of(task).of_jobs())
        return run, group, run.call_of(task, self._context.read())

    def _number(self, task: Task) -> int:
        """The next number of the run, which is the task's from now on."""
        number = self._places[task.task_id] = next(self._numbers)
        return number

    def _prepare(self, task: Task) -> None:
        from .children import hold

        hold(self, task, *self._call_of(task))

    def _release(self, task: Task) -> None:
        from .children import release

        (run_here if self.executor == "debug" else release)(self, task)

    def _fall(self, task: Task, outcome: Outcome | None) -> None:
        from .children import fall

        (PoolBase._fall if self.executor == "debug" else fall)(self, task, outcome)

    def _started(self) -> Run:
        """The run, made when it is first needed."""
        if self._run is None:
            from .run import Run

            with self._start_lock:
                if self._run is None and self.options.resume:
                    from .resuming import resume

                    self._run = resume(self)
                elif self._run is None:
                    self._run = Run.create(self, self._folder, self._finish)
        return self._run

    def _finish(self, task: Task, outcome: Any) -> None:
        self._places.pop(task.task_id, None)
        super()._finish(task, outcome)

    def _withdraw(self, task: Task) -> bool:
        """`cancel` claims the task as a worker would, by the same rename: one of the two gets it."""
        if self._run is None:
            return False
        number, ledger = self._places.get(task.task_id, 0), self._run.watcher.ledger
        entry = ledger.find(number)
        if entry is not None and entry.held:
            cancelled = self._take_held(task) and ledger.cancel(number)
            if cancelled:
                with contextlib.suppress(OSError):
                    self._run.spool.drop_held(entry.file)
            return cancelled
        return self._run.watcher.cancelling.withdraw(number)

    def _has_begun(self, task: Task) -> bool:
        return self._run is not None and self._run.watcher.cancelling.has_begun(self._places.get(task.task_id, 0))

    def _end_running(self, task: Task) -> bool:
        if self._run is None:
            return super()._end_running(task)
        self._run.watcher.cancelling.ask([self._places.get(task.task_id, 0)])
        return True

    def _count_queued(self) -> int:
        busy = self._run.watcher.supply.busy_workers if self._run else 0
        others = self._resumption.standing_in if self._resumption else 0
        return max(0, len(self._unfinished) - len(self._held) - busy - others)

    def _waiting_for(self) -> str:
        jobs = list(self._run.watcher.supply.jobs.values()) if self._run else []
        reasons = [job.reason for job in jobs if job.live and not job.up and job.reason]
        return max(reasons, key=reasons.count, default="")

    def _close(self, wait: bool) -> None:
        if wait:
            self._kept.clear()  # what of a run that was taken over nobody else has is not fetched
        if self._run is not None:
            self._run.watcher.close(wait)
        if self._resumption is not None:
            self._resumption.tell()
        self._kept.clear()

    def abandon(self) -> None:
        """The script was interrupted: end the jobs, without waiting for tasks, or leave them, as `on_interrupt` says."""
        if self.options.on_interrupt == "detach":
            self.detach()
            return
        self._refuse_tasks()
        if self._run is not None:
            self._run.watcher.abandon()

    def detach(self) -> None:
        """Leave the run alone: its jobs go on, and ``nornir_pools.attach`` gives a pool with its tasks.

        In this process the unfinished tasks end in PoolClosedError, and the pool is closed.
        """
        self._refuse_tasks()
        if self._run is not None:
            self._run.watcher.detach()
        self._kept.clear()

    def _forget_workers(self) -> None:
        self._places = {}
        self._start_lock = threading.Lock()
        self._run = self._resumption = None  # the parent's; a task added here makes another
        self.options = replace(self.options, resume=False)

    def get_active_nodes(self) -> list[str]:
        """The hosts of the workers that are up."""
        jobs = list(self._run.watcher.supply.jobs.values()) if self._run else []
        return sorted({job.host for job in jobs if job.up and job.live})
