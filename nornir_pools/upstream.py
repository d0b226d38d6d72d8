"""Functions and names of upstream's module that this package itself has no use for: kept, so that code written for it runs.

What printed there goes to the log here, and what was a no-op there is one here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from . import profiling
from .base import PoolBase

__all__ = [
    "GetAndCreateProfileDataFileName",
    "GetAndCreateProfileDataPath",
    "MergeProfilerStats",
    "PoolFactory",
    "_PrintError",
    "_PrintProgressUpdate",
    "_PrintWarning",
    "_pprint",
    "_sprint",
    "aggregate_profiler_data",
    "end_profiling",
    "init_pool_process",
    "invoke_with_profiler",
    "max_windows_threads",
    "profile_data_path",
    "profiler",
    "shared_lock",
    "start_profiling",
]

logger = logging.getLogger("nornir_pools")

PoolFactory: TypeAlias = Callable[..., PoolBase]
max_windows_threads = 1024
shared_lock: Any = None
"""In a process that `init_pool_process` has prepared: the lock it was given."""
profiler = None
profile_data_path = None


def init_pool_process(logging_queue: Any = None, logging_level: int | None = None, the_lock: Any = None) -> None:
    """Prepare a worker process of one's own: send its log to a queue, and keep a lock as ``nornir_pools.shared_lock``."""
    if the_lock is not None:
        vars(sys.modules[__package__])["shared_lock"] = the_lock
    if logging_queue is not None:
        from logging.handlers import QueueHandler

        logging.getLogger().addHandler(QueueHandler(logging_queue))
    if logging_level is not None:
        logging.getLogger().setLevel(logging_level)


def _sprint(text: object = "") -> None:
    logger.info("%s", text)


_pprint = _PrintProgressUpdate = _sprint


def _PrintWarning(text: object = "") -> None:
    logger.warning("%s", text)


def _PrintError(text: object = "") -> None:
    logger.error("%s", text)


def start_profiling(*args: Any, **kwargs: Any) -> None:
    """Nothing: NORNIR_PROFILE turns profiling on."""


def end_profiling(*args: Any, **kwargs: Any) -> None:
    """Nothing."""


def aggregate_profiler_data(output_path: Any = None) -> None:
    """Nothing: profiles are merged when the script ends."""


def invoke_with_profiler(func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call the function."""
    func(*args, **kwargs)


def GetAndCreateProfileDataPath() -> str:
    """The folder ``pool_profiles`` in the working folder, which is made."""
    folder = Path.cwd() / "pool_profiles"
    folder.mkdir(exist_ok=True)
    return str(folder)


def GetAndCreateProfileDataFileName() -> str:
    """A file for this process's profile in that folder."""
    return str(Path(GetAndCreateProfileDataPath()) / f"{os.getpid()}.pstats")


def MergeProfilerStats(root_output_dir: str, profile_dir: str, pool_name: str) -> None:
    """Merge all ``.pstats`` below `profile_dir` into ``<pool_name>_aggregate.pstats`` in `root_output_dir` and delete them."""
    target = Path(root_output_dir) / f"{pool_name}_aggregate.pstats"
    profiling.merge_profiles(Path(profile_dir).glob("**/*.pstats"), target)
