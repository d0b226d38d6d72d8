"""Calls on worker processes of this machine.

Each thread of the pool has a companion, a worker process, and a pipe to it::

    add_task ─ message ─> queue ─> thread ─ pipe ─> worker process: func(*args) ─ outcome ─> pipe ─> thread ─> Future

The call is pickled in `add_task` (the task sees the values of that moment). A worker that dies costs the task it was
running; its thread starts another for the next one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from multiprocessing import connection, spawn
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..base import PoolKind
from ..deaths import oom_kills, tell_death
from ..errors import WorkerDiedError
from ..outcome import Outcome
from ..poolbase import LocalThreadPoolBase
from ..task import CommandTask, Task, dump_call
from . import process_worker
from .pipe import receive, send

__all__ = ["ProcessPool", "stop_helpers"]

_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_context: Any = multiprocessing.get_context(_START_METHOD)
_starting = threading.local()  # .worker is True while this thread starts a worker of ours


def _preparation_data(name: str, _original: Any = spawn.get_preparation_data) -> dict[str, Any]:
    """As multiprocessing's, but a worker of ours does not import the main script.

    Functions of the main script travel by value, so the import would only cost time, and in a script without a
    ``__main__`` guard it would run the script again in every worker.
    """
    data: dict[str, Any] = _original(name)
    if getattr(_starting, "worker", False):
        for key in ("init_main_from_path", "init_main_from_name"):
            data.pop(key, None)
    return data


spawn.get_preparation_data = _preparation_data


def stop_helpers() -> None:
    """At exit: end multiprocessing's fork server and resource tracker, and wait for them.

    They would end by themselves a moment after this process; but then nobody waits for them, and where process 1 does not
    either (in many containers) they stay as zombies. The wait is bounded: a process of the user's own may keep them alive.
    """

    def stop() -> None:
        for module, name in (("forkserver", "_forkserver"), ("resource_tracker", "_resource_tracker")):
            helper = getattr(sys.modules.get(f"multiprocessing.{module}"), name, None)
            if helper is not None and hasattr(helper, "_stop"):
                helper._stop()

    if not multiprocessing.active_children():
        thread = threading.Thread(target=stop, daemon=True)
        with contextlib.suppress(RuntimeError):  # Python 3.12.1 starts no thread any more at this point
            thread.start()
            thread.join(1.0)


class ProcessPool(LocalThreadPoolBase):
    """Runs calls on `num_threads` worker processes; commands, being processes of their own, are watched by its threads."""

    kind = PoolKind.PROCESS

    def __init__(self, name: str = "", num_threads: int | None = None) -> None:
        super().__init__(name, num_threads)
        self._workers: dict[int, _Worker] = {}  # thread id -> its companion

    def _launch(self, task: Task) -> None:
        if not isinstance(task, CommandTask):
            task._parts = dump_call(task)
        super()._launch(task)

    def _perform(self, task: Task) -> Outcome:
        if isinstance(task, CommandTask):  # is a process of its own already
            return super()._perform(task)
        parts, task._parts = task._parts, ()
        worker = self._workers.get(threading.get_ident())
        if worker is None or not worker.process.is_alive():
            worker = self._workers[threading.get_ident()] = _Worker(f"{self._name}-worker")
        answer = worker.ask(task.name, parts)
        if answer is not None:
            return outcomes.thaw(*answer, task.name)
        exitcode = worker.end()
        del self._workers[threading.get_ident()]
        error = WorkerDiedError(
            f"task {task.name!r} of pool {self._name!r}: the worker process {worker.process.pid} that ran it "
            f"{tell_death(exitcode, worker.oom_before)}",
            exitcode=exitcode,
        )
        return outcomes.failure(error, task.name)

    def _thread_ends(self) -> None:
        worker = self._workers.pop(threading.get_ident(), None)
        if worker is not None:
            worker.end()

    def terminate_workers(self) -> None:
        """End the worker processes now; what they were running fails with WorkerDiedError."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(1.0)  # time to end the commands it had started
            worker.process.kill()

    def abandon(self) -> None:
        super().abandon()
        self.terminate_workers()

    def _forget_workers(self) -> None:
        super()._forget_workers()
        self._workers = {}


class _Worker:
    """One worker process, seen from the thread it belongs to."""

    def __init__(self, name: str) -> None:
        ours, theirs = _context.Pipe()
        self.process = _context.Process(
            target=process_worker.work, args=(theirs, dict(os.environ), os.getcwd()), name=name, daemon=False
        )
        _starting.worker = True
        try:
            self.process.start()
        finally:
            _starting.worker = False
        theirs.close()
        self.pipe: connection.Connection = ours
        self.oom_before = oom_kills()

    def ask(self, name: str, parts: Sequence[message.Buffer]) -> tuple[dict[str, Any], list[message.Buffer]] | None:
        """Send a call and wait for the outcome; None if the worker died before it gave one: then the pipe ends."""
        try:
            send(self.pipe, name, parts)
            return receive(self.pipe)
        except (EOFError, OSError):
            return None

    def end(self) -> int:
        """Close the pipe, which ends an idle worker, wait for it and return its exit status."""
        self.pipe.close()
        self.process.join()
        return self.process.exitcode or 0


def _after_fork() -> None:
    """A forked child has none of the children that multiprocessing knows of, its servers included."""
    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    for module, name, fd, rest in (
        ("forkserver", "_forkserver", "_forkserver_alive_fd", ("_forkserver_address", "_forkserver_pid")),
        ("resource_tracker", "_resource_tracker", "_fd", ("_pid",)),
    ):
        helper = getattr(sys.modules.get(f"multiprocessing.{module}"), name, None)
        if helper is not None:
            if getattr(helper, fd, None) is not None:
                os.close(getattr(helper, fd))
            for each in (fd, *rest):
                setattr(helper, each, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
