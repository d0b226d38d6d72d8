"""A worker process, seen from the thread of the pool that it belongs to; and the tickets that make groups of tasks safe.

Small tasks travel to a worker in groups, since a round trip for each costs more than they do. No task may be stuck behind a
long one of its group while another worker has nothing to do, so what has not begun can be taken back. A pipe of tickets
decides who has a task: its number is written into the pipe when it is sent, and whoever reads the number, the worker to run
it or this process to take it back, has it. The kernel gives every number to one reader only, and what is still in the pipe
when a worker has died tells which tasks it had not begun.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from ..deaths import oom_kills
from ..message import Buffer
from ..starting import context, without_main_script
from ..task import Task
from . import process_worker
from .memory import Part
from .pipe import Channel

__all__ = ["GROUPS", "Companion"]

GROUPS = os.name == "posix"  # elsewhere a pipe is not a file descriptor: one task at a time


def _pipe_of_tickets() -> tuple[Connection | None, Connection | None]:
    """The end to read from and the end to write to."""
    return context.Pipe(duplex=False) if GROUPS else (None, None)


class Companion:
    """One worker process. All but `take_back` is called by the thread it belongs to."""

    def __init__(self, name: str, environment: dict[str, str], initial: Sequence[bytes] | None = None) -> None:
        """`initial`: the initializer's call, or no parts at all; unless it is None, the worker's `greeting` is to be read."""
        ours, theirs = context.Pipe()
        tickets, self._tickets = _pipe_of_tickets()
        self._channel = Channel(ours)
        self._unread = tickets  # this process's way of reading the tickets
        self._lock = threading.Lock()  # guards _sent, and the tickets, against a thread that takes tasks back
        self._sent: OrderedDict[int, Task] = OrderedDict()  # by ticket: sent, and not answered
        self._reaping = threading.Lock()  # guards the exit status, which multiprocessing can read from its pipe only once
        self._number = 0
        self.answered = 0
        self.greets = initial is not None
        self.doomed = False
        """It is to be killed, so no further task may be sent to it."""
        self.process = context.Process(
            target=process_worker.work, args=(theirs, tickets, environment, os.getcwd(), initial), name=name, daemon=False
        )
        with without_main_script():
            self.process.start()
        theirs.close()
        if tickets is not None:
            os.set_blocking(tickets.fileno(), False)  # shared with the worker, which waits until one can be read
        self.oom_before = oom_kills()

    @property
    def outstanding(self) -> int:
        """How many tasks the worker has, begun or not."""
        return len(self._sent)

    def greeting(self) -> tuple[dict[str, Any], list[Buffer]] | None:
        """Wait until the worker is ready: how its initializer has ended, in the terms of `outcome`; None if it has died."""
        try:
            (facts, _, _), parts = self._channel.receive()
        except (EOFError, OSError):
            return None
        return facts, parts

    def send(self, calls: Sequence[tuple[Task, Sequence[Part]]]) -> None:
        """Give the worker these calls. If it has died, `receive` will tell."""
        first = self._number + 1
        self._number += len(calls)
        with self._lock:
            self._sent.update(zip(range(first, self._number + 1), (task for task, _ in calls), strict=True))
        numbers = range(first, self._number + 1)
        with contextlib.suppress(OSError):
            if self._tickets is not None:
                os.write(self._tickets.fileno(), struct.pack(f"!{len(calls)}I", *numbers))
            self._channel.send(((task.name, number), parts) for number, (task, parts) in zip(numbers, calls, strict=True))

    def receive(self) -> tuple[Task, dict[str, Any], list[Buffer], bool] | None:
        """Wait for the next outcome, and whether the worker has let go of the call's memory.

        None if the worker has died, which the end of the pipe tells.
        """
        try:
            (facts, number, done_with), parts = self._channel.receive()
        except (EOFError, OSError):
            return None
        self.answered += 1
        with self._lock:
            return self._sent.pop(number), facts, parts, done_with

    def take_back(self, *, dead: bool = False) -> list[Task]:
        """Take the tasks that the worker has not begun; they are the caller's now. Any thread may call this.

        A living worker keeps one task, begun or not: the thread it belongs to waits for an answer.
        """
        if self._unread is None or self._tickets is None:
            return []
        with self._lock:
            try:
                data = os.read(self._unread.fileno(), 4 * 1024)
            except OSError:  # none is there
                return []
            numbers = [number for (number,) in struct.iter_unpack("!I", data)]
            if not dead and numbers[0] == next(iter(self._sent)):
                os.write(self._tickets.fileno(), data[:4])
                del numbers[0]
            return [self._sent.pop(number) for number in numbers]

    def has(self, task: Task) -> bool:
        """Whether the worker has the task, begun or not. Any thread may ask."""
        with self._lock:
            return task in self._sent.values()

    def runs(self, task: Task) -> bool:
        """Whether that is its current task, begun or about to be. Any thread may ask."""
        with self._lock:
            return next(iter(self._sent.values()), None) is task

    def doom(self, task: Task) -> bool:
        """Let the worker take nothing after this task; False unless it has just this one. Any thread may call this.

        Then whoever kills it kills nothing else: the thread it belongs to sends only what it can send after an answer.
        """
        with self._lock:
            if list(self._sent.values()) != [task]:
                return False
            self.doomed = True
            return True

    def kill(self) -> None:
        """End the worker now. Any thread may call this."""
        self.process.terminate()
        self.wait(1.0)  # time to end the commands it had started
        self.process.kill()

    def remains(self) -> list[Task]:
        """After the worker's death: the task it was running (first), if any."""
        with self._lock:
            tasks = list(self._sent.values())
            self._sent.clear()
            return tasks

    def end(self) -> int:
        """Close the pipe, which ends an idle worker, wait for it and return its exit status."""
        self._channel.close()
        with self._lock:  # a thread that takes tasks back must not read from whatever gets their descriptors next
            for end in (self._tickets, self._unread):
                if end is not None:
                    end.close()
        self.wait()
        return self.process.exitcode or 0

    def wait(self, seconds: float = -1) -> None:
        """Wait for the worker's end; at most so long, if that is not negative."""
        if self._reaping.acquire(timeout=seconds):
            try:
                self.process.join(seconds if seconds >= 0 else None)
            finally:
                self._reaping.release()

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        with self._reaping:
            return bool(self.process.is_alive())
