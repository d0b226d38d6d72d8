"""The pools of this process by name; and the one hook that waits for them and closes them when the program ends."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from . import profiling, settings
from .base import PoolBase, PoolKind, live_pools
from .errors import PoolKindError

__all__ = ["abandon_all", "close", "diagnose", "forget", "get", "hook_into_exit", "known", "pools_of", "wait_for"]

# filelock needs it, and it cannot be imported once the main thread has ended: another thread may make a pool even then.
with contextlib.suppress(RuntimeError):
    import concurrent.futures.thread  # noqa: F401

_P = TypeVar("_P", bound=PoolBase)
logger = logging.getLogger("nornir_pools")

known: dict[str, PoolBase] = {}
_lock = threading.RLock()  # guards known, so that two threads asking for one name get one pool


def get(name: str, kind: type[_P], make: Callable[[], _P]) -> _P:
    """The pool of that name, made if there is none. Raises PoolKindError if it is of another kind."""
    with _lock:
        pool = known.get(name)
        if pool is None or pool.closed:
            hook_into_exit()
            profiling.prepare()
            pool = known[name] = make()
            pool._on_close = forget
        if type(pool) is not kind:
            raise PoolKindError(
                f"the name {name!r} belongs to a {type(pool).__name__}, and a {kind.__name__} was asked for; "
                "use another name, or shut that pool down first"
            )
        return pool


def forget(pool: PoolBase) -> None:
    """Take the pool out, unless its name belongs to a newer one by now."""
    with _lock:
        if known.get(pool.name) is pool:
            del known[pool.name]


def pools_of(kind: PoolKind | None = None) -> list[PoolBase]:
    """The known pools, those of one kind or all, as they are at this moment."""
    with _lock:
        return [pool for pool in known.values() if kind is None or pool.kind is kind]


def diagnose(event: str) -> None:
    """With NORNIR_POOL_DIAG, log what is there when a lifecycle function is called."""
    if settings.is_on("NORNIR_POOL_DIAG"):
        gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        pools = [(pool.name, pool.kind.value, pool.num_active_tasks) for pool in pools_of()]
        logger.info("%s: gil=%s, threads=%d, pools=%s", event, gil, threading.active_count(), pools)


def wait_for(pools: Iterable[PoolBase]) -> None:
    """Block until the tasks of all of them are done."""
    for pool in pools:
        pool.wait_completion()


def close(pools: Iterable[PoolBase]) -> None:
    """Wait for all of them, then close all of them: exactly these, whatever is made meanwhile."""
    pools = list(pools)
    wait_for(pools)
    for pool in pools:
        pool.shutdown()


def abandon_all() -> None:
    """End what runs and close, without waiting for tasks."""
    for pool in live_pools():
        pool.abandon()


@functools.cache
def hook_into_exit() -> None:
    """Have pools waited for, and what belongs to them ended, when the program ends.

    Exit hooks run last in, first out. multiprocessing's waits for all its children, ours among them, so ours, which ends
    them, has to be registered after it.
    """
    import multiprocessing.util  # noqa: F401 - registers its hook

    atexit.register(_at_exit)


def _at_exit() -> None:
    try:
        if _ends_by_interrupt():
            abandon_all()
        else:
            close(live_pools())
    except KeyboardInterrupt:
        abandon_all()
        raise
    finally:
        if memory := sys.modules.get(f"{__package__}.shared_memory"):
            memory.stop()  # now that no task is left that may use it
        if processes := sys.modules.get(f"{__package__}.local.processes"):
            processes.stop_servers()
        profiling.merge()  # last: a disk may be full


def _ends_by_interrupt() -> bool:
    """Whether an unhandled KeyboardInterrupt ends this program (in an interactive session one ends only a statement)."""
    last = getattr(sys, "last_type", None)
    return last is not None and issubclass(last, KeyboardInterrupt) and not hasattr(sys, "ps1")


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    known.clear()
    for pool in live_pools():
        pool._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
