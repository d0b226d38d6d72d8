"""The base of the pools that run on threads of this process; also where upstream has `PoolBase`."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import Any

from . import outcome as outcomes
from .base import PoolBase, PoolKind, here
from .cpus import thread_counts, usable_cpus
from .members import ThreadPoolMembers
from .outcome import Outcome
from .task import CommandTask, Task

__all__ = ["LocalThreadPoolBase", "PoolBase", "PoolKind"]


class LocalThreadPoolBase(PoolBase, ThreadPoolMembers):
    """A pool whose tasks are driven by threads of this process; a subclass says what a thread does with a task.

    A thread is added whenever there are more unfinished tasks than threads, up to `num_threads`, and then parks in the
    queue until the pool is closed. Threads are daemons: the exit hook, not the interpreter, waits for their tasks.
    """

    kind = PoolKind.THREAD

    def __init__(self, name: str = "", num_threads: int | None = None, **given: Any) -> None:
        super().__init__(name, num_threads, **given)
        self._queue: SimpleQueue[int | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._cpus_each = max(1, usable_cpus() // self.num_threads)

    def _thread_counts(self) -> dict[str, str]:
        """What tasks in processes of their own are told: run side by side, each is to leave CPUs to the others."""
        return thread_counts(self._cpus_each, os.environ)

    def _command_environment(self) -> dict[Any, Any] | None:
        environment = super()._command_environment()
        if environment is not None:
            for name, count in self._thread_counts().items():
                environment[os.environ.encodekey(name)] = os.environ.encodevalue(count)
        return environment

    def _perform(self, task: Task) -> Outcome:
        """Run the task's call in (or on behalf of) this thread. Must not raise."""
        call = task._take_call()
        del task
        return outcomes.call(*call)

    def _thread_begins(self) -> None:
        """Called in a worker thread as its first act."""
        if self._initializer is not None:
            self._initializer.call()

    def _thread_ends(self) -> None:
        """Called in a worker thread as its last act."""

    def _launch(self, task: Task) -> None:
        if len(self._unfinished) > len(self._threads) < self.num_threads:
            self._add_thread()
        self._waiting[task.task_id] = task
        self._queue.put(task.task_id)

    def _add_thread(self) -> None:
        with self._lock:
            if len(self._threads) >= self.num_threads:
                return
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system's limit on threads: those there are will do, if there are any
                if not self._threads:
                    raise
                return
            self._threads.append(thread)

    def _work(self) -> None:
        """What a worker thread does until the pool is closed."""
        here.pools = frozenset({self})
        self._thread_begins()
        while (task_id := self._next()) is not None:
            task = self._waiting.pop(task_id, None)
            if task is not None:  # else it was cancelled, or a waiting worker has run it already
                self._run(task)
                del task  # a parked thread must not keep the last task alive
        self._thread_ends()

    def _next(self) -> int | None:
        """Wait for the next task's id; None when the pool is closed."""
        return self._queue.get()

    def _run(self, task: Task) -> None:
        if self._told_below:
            self._tell()
        task._state = "RUNNING"  # whoever owns a task may say so without its lock: nobody waits for this state
        try:
            if self._initializer is not None:
                self._check_initializer()
            outcome = self._perform(task)
        except Exception as error:  # a fault of this package must not cost a worker, nor leave a task undone
            outcome = outcomes.failure(error, task.name)
        self._finish(task, outcome)
        del task, outcome

    def _assist(self, task: Task, timeout: float | None) -> float | None:
        if self not in here.pools:
            return super()._assist(task, timeout)
        if self._held and (parents := self._held.get(task.task_id)) is not None:
            timeout = parents.wait(timeout)  # with this worker's help, if it takes that
        timeout = super()._assist(task, timeout)
        if self._waiting.pop(task.task_id, None) is not None:
            self._run(task)
        return timeout

    def _close(self, wait: bool) -> None:
        with self._lock:
            threads, self._threads = self._threads, []
            for _ in threads:
                self._queue.put(None)  # behind all tasks, so that these still run
        if wait:
            for thread in threads:
                if thread is not threading.current_thread():
                    thread.join()

    def abandon(self) -> None:
        # Those of this pool only. (One that was shut down does not know its threads any more, but its tasks know theirs.)
        threads = {thread.ident for thread in self._threads}
        threads |= {task._runner for task in list(self._unfinished.values()) if isinstance(task, CommandTask)}
        super().abandon()
        from .command import end_commands

        end_commands(threads)

    def _forget_workers(self) -> None:
        self._queue = SimpleQueue()
        self._threads = []
