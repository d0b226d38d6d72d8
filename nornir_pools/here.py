"""What the current thread, and process, is doing: which pools it works for, and whether it runs callbacks.

A process that runs tasks loads little of this package; what it never loaded it has not used.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import PoolBase

__all__ = ["MANAGER_ADDRESS", "MANAGER_KEY", "PROFILES", "end_at_once", "end_pools", "end_programs", "here", "is_child"]

PROFILES = "NORNIR_PROFILE_PARTS"
"""The environment variable that names the folder where a worker leaves its profile."""
MANAGER_ADDRESS, MANAGER_KEY = "SHARED_MEMORY_SERVER_ADDRESS", "SHARED_MEMORY_AUTHKEY"
"""Those by which worker processes find the manager of shared memory blocks, and prove that they may."""


class _Here(threading.local):
    pools: frozenset[PoolBase] = frozenset()  # that it works for
    callbacks = 0  # that it is inside of
    job = False  # whether it belongs to a process that runs tasks in a cluster's job


here = _Here()


def is_child() -> bool:
    """Whether multiprocessing has started this process: then it runs tasks for another."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def end_pools() -> None:
    """End the pools that tasks have made in this process."""
    if base := sys.modules.get("nornir_pools.base"):
        for pool in base.live_pools():
            pool.shutdown()


def end_programs() -> None:
    """End the commands that this process runs."""
    if command := sys.modules.get("nornir_pools.command"):
        command.end_commands()


def end_at_once(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM in a process that runs tasks: the commands of a task are in groups of their own, and end too."""
    end_programs()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
