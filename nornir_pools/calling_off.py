"""Ending a task that runs, because it is to be cancelled."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .errors import PoolError
from .here import here
from .task import CommandTask, Task
from .turns import wait_for

if TYPE_CHECKING:
    from .base import PoolBase

__all__ = ["end_here", "end_running"]

logger = logging.getLogger("nornir_pools")

_PAUSE = 0.005  # seconds from one try to the next: the task may be just between being taken and being begun


def end_running(pool: PoolBase, task: Task) -> None:
    """Have a task that has started be cancelled, and wait for its end unless it may be this thread that brings it about."""
    may_wait = not (here.callbacks and pool in here.pools)
    task._called_off = True
    try:
        while not pool._end_running(task) and may_wait and not task.done():
            wait_for(task, _PAUSE)
    except PoolError as error:
        task._called_off = False
        logger.warning("%s", error)
        return
    if may_wait:
        wait_for(task)


def end_here(task: Task) -> bool:
    """Kill the process group of a command that a thread of this process waits for; returns False if there is none yet.

    Raises PoolError if the task is no command: nothing can end a call in a thread from outside.
    """
    from .command import end_command

    if not isinstance(task, CommandTask):
        raise PoolError(
            f"task {task.name!r} of pool {task._pool.name!r} was not cancelled: it runs in a thread of this program, which "
            "nothing can end from outside (a pool of processes can end what it runs)"
        )
    return task._runner is not None and end_command(task._runner, lambda: not task.done())
