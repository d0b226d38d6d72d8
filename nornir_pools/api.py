"""Upstream's functions, with its names and parameters: get a pool by name, and wait for, release or close pools."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed, wait
from typing import TYPE_CHECKING, Any

from . import registry, settings
from .base import PoolBase, PoolKind
from .base import PoolBase as IPool
from .getting import get_pool, limited

if TYPE_CHECKING:  # a getter imports what it makes: a script with threads needs neither multiprocessing nor the cluster
    from multiprocessing.managers import SharedMemoryManager

    from .cluster.pool import ClusterPool
    from .local.commands import CommandPool
    from .local.machine import LocalMachinePool
    from .local.processes import ProcessPool
    from .local.serial import SerialPool
    from .local.threads import ThreadPool

__all__ = [
    "ApplyOSThreadLimit",
    "ClosePools",
    "CloseProcessPools",
    "CloseThreadPools",
    "FastClosePools",
    "GetClusterPool",
    "GetGlobalClusterPool",
    "GetGlobalLocalMachinePool",
    "GetGlobalMultithreadingPool",
    "GetGlobalProcessPool",
    "GetGlobalSerialPool",
    "GetGlobalThreadPool",
    "GetLocalMachinePool",
    "GetMultithreadingPool",
    "GetParallelPythonPool",
    "GetProcessPool",
    "GetSerialPool",
    "GetThreadPool",
    "IPool",
    "IsClusterAvailable",
    "IsParallelPythonAvailable",
    "ReleaseStagePools",
    "WaitOnAllPools",
    "WaitOnProcessPools",
    "WaitOnThreadPools",
    "_pool_kind",
    "_remove_pool",
    "as_completed",
    "dictKnownPools",
    "get_or_create_shared_memory_manager",
    "wait",
]

dictKnownPools = registry.known  # noqa: N816 - upstream's name, which callers touch


def GetThreadPool(
    Poolname: str | None = None,
    num_threads: int | None = None,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> ThreadPool:
    """The pool of threads of that name (None: the global one), made with `num_threads` threads if it does not exist.

    Each thread calls ``initializer(*initargs)`` before its first task, as in the standard library; so it is on every pool, in
    the thread or process that runs tasks. If it fails, so do all tasks of the pool (InitializerError).

    `num_threads` is None for as many as this process may use CPUs, and of no account for a pool that exists. This and the
    other getters raise PoolKindError if the name belongs to a pool of another kind, OptionError for a number below 1.
    """
    from .local.threads import ThreadPool

    name = Poolname or "Global local thread pool"
    return get_pool(name, ThreadPool, num_threads, initializer=initializer, initargs=initargs)


def GetMultithreadingPool(
    Poolname: str | None = None,
    num_threads: int | None = None,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    task_timeout: float | None = None,
    max_tasks_per_child: int | None = None,
    max_child_mem_gb: float | None = None,
) -> ProcessPool:
    """The pool of worker processes of that name, made with `num_threads` of them (None: as many as this process may use CPUs).

    Each worker's libraries are told its share of the CPUs (OMP_NUM_THREADS and its like, where they are not set).
    A task that takes longer than `task_timeout` seconds is ended, and fails with TaskTimeoutError (``with_options`` has another
    limit for single tasks). A worker is replaced after `max_tasks_per_child` tasks, or once it holds more memory than
    `max_child_mem_gb` (GB of 1024³ bytes) after a task. Raises OptionError for what is wrong with these.
    """
    from .local.processes import ProcessPool

    limits = {"task_timeout": task_timeout, "max_tasks_per_child": max_tasks_per_child, "max_child_mem_gb": max_child_mem_gb}
    given = {"initializer": initializer, "initargs": initargs, **limits}
    return get_pool(Poolname or "Global multithreading pool", ProcessPool, limited(num_threads), **given)


def GetProcessPool(
    Poolname: str | None = None,
    num_threads: int | None = None,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> CommandPool:
    """The pool of that name for shell commands, at most `num_threads` at once. (For a limit: ``add_process(…, timeout=)``.)"""
    from .local.commands import CommandPool

    name = Poolname or "Global process pool"
    return get_pool(name, CommandPool, num_threads, initializer=initializer, initargs=initargs)


def GetLocalMachinePool(
    Poolname: str | None = None,
    num_threads: int | None = None,
    is_global: bool = False,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    task_timeout: float | None = None,
    max_tasks_per_child: int | None = None,
    max_child_mem_gb: float | None = None,
) -> LocalMachinePool:
    """The pool of that name that takes calls, for worker processes as those of `GetMultithreadingPool`, and commands."""
    from .local.machine import LocalMachinePool

    limits = {"task_timeout": task_timeout, "max_tasks_per_child": max_tasks_per_child, "max_child_mem_gb": max_child_mem_gb}
    given = {"initializer": initializer, "initargs": initargs, **limits}
    return get_pool(Poolname or "Global local machine pool", LocalMachinePool, limited(num_threads), **given)


def GetSerialPool(
    Poolname: str | None,
    num_threads: int | None = None,
    *,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> SerialPool:
    """The pool of that name that runs each task at once, in the caller, and before the first one the initializer.

    Raises ValueError if the name is None.
    """
    from .local.serial import SerialPool

    if Poolname is None:
        raise ValueError("GetSerialPool needs a name; GetGlobalSerialPool() gives the global one")
    return get_pool(Poolname, SerialPool, num_threads, initializer=initializer, initargs=initargs)


def GetClusterPool(Poolname: str | None = None, num_threads: int | None = None, **options: Any) -> ClusterPool:
    """The cluster pool of that name: its tasks are SLURM jobs, or processes of this machine where there is no SLURM.

    `num_threads` is the most jobs at once; `options` are those of `nornir_pools.options.Options` and submitit's names
    for job options (`timeout_min`, `mem_gb`, `slurm_partition` …), `initializer` and `initargs` (called in each process that
    runs tasks, as on every pool). Raises OptionError for what is wrong with them, and
    PoolKindError if the pool exists and was made with others.
    """
    from .cluster.pool import ClusterPool

    return get_pool(Poolname or "Global cluster pool", ClusterPool, num_threads, **options)


def GetParallelPythonPool(Poolname: str | None = None, num_threads: int | None = None) -> ClusterPool:
    """Upstream's name for `GetClusterPool`."""
    return GetClusterPool(Poolname, num_threads)


def GetGlobalThreadPool() -> ThreadPool:
    """The global pool of threads."""
    return GetThreadPool()


def GetGlobalMultithreadingPool() -> ProcessPool:
    """The global pool of worker processes."""
    return GetMultithreadingPool()


def GetGlobalProcessPool() -> CommandPool:
    """The global pool for shell commands."""
    return GetProcessPool()


def GetGlobalLocalMachinePool() -> LocalMachinePool:
    """The global pool of this machine, for calls and commands."""
    return GetLocalMachinePool()


def GetGlobalSerialPool() -> SerialPool:
    """The global pool that runs tasks in the caller."""
    return GetSerialPool("Global")


def GetGlobalClusterPool() -> ClusterPool:
    """The global cluster pool."""
    return GetClusterPool()


def IsClusterAvailable() -> bool:
    """Whether jobs can be submitted from here: this is Linux, ``sbatch`` is found, and a cluster behind it."""
    from .cluster import slurm

    return sys.platform.startswith("linux") and slurm.is_available()


def IsParallelPythonAvailable() -> bool:
    """False: Parallel Python, upstream's former cluster layer, is not used. See `IsClusterAvailable`."""
    return False


def ApplyOSThreadLimit(num_threads: int | None) -> int | None:
    """`num_threads`, or MAX_PYTHON_THREADS if that is smaller; None stays None. Raises OptionError if that is no number."""
    return settings.limit_threads(num_threads)


def WaitOnAllPools() -> None:
    """Block until the tasks of all pools are done. Raises no error of a task; PoolError if a task of such a pool calls it."""
    registry.diagnose("WaitOnAllPools")
    registry.wait_for(registry.pools_of())


def WaitOnThreadPools() -> None:
    """Block until the tasks of the pools of kind THREAD are done."""
    registry.diagnose("WaitOnThreadPools")
    registry.wait_for(registry.pools_of(PoolKind.THREAD))


def WaitOnProcessPools() -> None:
    """Block until the tasks of the pools of kind PROCESS are done."""
    registry.diagnose("WaitOnProcessPools")
    registry.wait_for(registry.pools_of(PoolKind.PROCESS))


def CloseThreadPools(*, skip_wait: bool = False) -> None:
    """Close the pools of kind THREAD; shutting a pool down waits for its tasks in any case."""
    registry.diagnose("CloseThreadPools")
    registry.close(registry.pools_of(PoolKind.THREAD))


def CloseProcessPools() -> None:
    """Wait for the pools of kind PROCESS and close them, or keep them warm if NORNIR_KEEP_PROCESS_POOLS is set."""
    registry.diagnose("CloseProcessPools")
    WaitOnProcessPools()
    if not settings.is_on("NORNIR_KEEP_PROCESS_POOLS"):
        registry.close(registry.pools_of(PoolKind.PROCESS))


def ReleaseStagePools() -> None:
    """At the end of a stage: wait for all pools and close those of threads; processes and jobs stay warm."""
    registry.diagnose("ReleaseStagePools")
    WaitOnAllPools()
    CloseThreadPools()


def ClosePools() -> None:
    """Wait for all pools and close them. Can be called at any time and more than once; pools can be made again."""
    registry.diagnose("ClosePools")
    registry.close(registry.pools_of())


def FastClosePools() -> None:
    """Wait for all pools and close them without waiting for worker processes to end by themselves."""
    registry.diagnose("FastClosePools")
    WaitOnAllPools()
    for pool in registry.pools_of(PoolKind.PROCESS):
        pool.terminate_workers()
    ClosePools()


def get_or_create_shared_memory_manager(authkey: bytes | None = None) -> SharedMemoryManager:
    """The manager of shared memory blocks of this script and its worker processes, with the key `authkey` if it is new.

    It ends with the script, and its blocks with it. Tasks of a cluster pool cannot use it: blocks are memory of one machine.
    """
    from .shared_memory import get_or_create

    return get_or_create(authkey)


def _remove_pool(pool: PoolBase | str) -> None:
    found = registry.known.get(pool) if isinstance(pool, str) else pool
    if found is not None:
        registry.forget(found)


def _pool_kind(pool: object) -> PoolKind:
    return pool.kind if isinstance(pool, PoolBase) else PoolKind.THREAD
