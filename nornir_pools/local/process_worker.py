"""What runs in a worker process: calls come in through a pipe, outcomes go out, until the pipe is closed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..base import live_pools
from ..command import end_commands
from .pipe import receive, send

__all__ = ["work"]


def work(pipe: Connection, environment: dict[str, str], folder: str) -> None:
    """Answer calls until the other side is gone. The worker starts with the parent's environment and folder of then."""
    # Ctrl-C reaches the whole group of the terminal, and is the parent's to act upon. (A handler, unlike SIG_IGN, is not
    # inherited by the programs that a task starts.)
    signal.signal(signal.SIGINT, _leave_to_parent)
    signal.signal(signal.SIGTERM, _end_at_once)
    if hasattr(os, "register_at_fork"):
        # The parent knows of this worker's death by the end of the pipe: nothing that a task forks may hold it open.
        os.register_at_fork(after_in_child=pipe.close)
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)
    with contextlib.suppress(OSError):  # the folder is gone: tasks that need it will say so
        os.chdir(folder)
    while True:
        try:
            name, parts = receive(pipe)
        except (EOFError, OSError):
            break
        outcome = outcomes.call(_load_and_call, (parts,), {})
        del parts
        try:
            send(pipe, *outcomes.freeze(outcome, name))
        except OSError:
            break  # nobody is left to read it
        del outcome
    for pool in live_pools():  # pools that tasks made in here end with the worker
        pool.shutdown()


def _load_and_call(parts: Sequence[message.Buffer]) -> Any:
    func, args, kwargs = message.load(parts)
    return func(*args, **kwargs)


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    pass


def _end_at_once(number: int, frame: FrameType | None) -> None:
    end_commands()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
