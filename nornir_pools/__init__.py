"""One interface for running work on threads, on processes, as shell commands, or as jobs of a SLURM cluster.

>>> import nornir_pools as pools
>>> pool = pools.GetThreadPool("example")
>>> task = pool.add_task("two and three", lambda a, b: a + b, 2, 3)
>>> task.wait_return()
5
"""

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .api import (
        ApplyOSThreadLimit,
        ClosePools,
        CloseProcessPools,
        CloseThreadPools,
        FastClosePools,
        GetClusterPool,
        GetGlobalClusterPool,
        GetGlobalLocalMachinePool,
        GetGlobalMultithreadingPool,
        GetGlobalProcessPool,
        GetGlobalSerialPool,
        GetGlobalThreadPool,
        GetLocalMachinePool,
        GetMultithreadingPool,
        GetParallelPythonPool,
        GetProcessPool,
        GetSerialPool,
        GetThreadPool,
        IPool,
        IsClusterAvailable,
        IsParallelPythonAvailable,
        ReleaseStagePools,
        WaitOnAllPools,
        WaitOnProcessPools,
        WaitOnThreadPools,
        _pool_kind,
        _remove_pool,
        as_completed,
        dictKnownPools,
        get_or_create_shared_memory_manager,
        wait,
    )
    from .attaching import attach, runs
    from .base import PoolKind
    from .errors import (
        ArgumentError,
        BudgetSpentError,
        CommandError,
        CommandStartError,
        InitializerError,
        JobCancelledError,
        JobError,
        JobLostError,
        JobOutOfMemoryError,
        JobPreemptedError,
        JobTimeoutError,
        NodeFailedError,
        OptionError,
        ParentFailedError,
        PoolClosedError,
        PoolError,
        PoolKindError,
        PythonMismatchError,
        RemoteTraceback,
        ResultError,
        RunBusyError,
        RunNotFoundError,
        SpoolError,
        SubmissionError,
        TaskExitError,
        TaskInterruptedError,
        TasksFailedError,
        TaskTimeoutError,
        WorkerDiedError,
        WorkerOutOfMemoryError,
    )
    from .examining import examine, write_settings
    from .findings import Finding
    from .looking import cancel, clean, look, recorded_call, retry
    from .task import CommandTask, Task
    from .upstream import (
        GetAndCreateProfileDataFileName,
        GetAndCreateProfileDataPath,
        MergeProfilerStats,
        PoolFactory,
        _pprint,
        _PrintError,
        _PrintProgressUpdate,
        _PrintWarning,
        _sprint,
        aggregate_profiler_data,
        end_profiling,
        init_pool_process,
        invoke_with_profiler,
        max_windows_threads,
        profile_data_path,
        profiler,
        shared_lock,
        start_profiling,
    )

__all__ = [
    "ApplyOSThreadLimit",
    "ArgumentError",
    "BudgetSpentError",
    "ClosePools",
    "CloseProcessPools",
    "CloseThreadPools",
    "CommandError",
    "CommandStartError",
    "CommandTask",
    "FastClosePools",
    "Finding",
    "GetAndCreateProfileDataFileName",
    "GetAndCreateProfileDataPath",
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
    "InitializerError",
    "IsClusterAvailable",
    "IsParallelPythonAvailable",
    "JobCancelledError",
    "JobError",
    "JobLostError",
    "JobOutOfMemoryError",
    "JobPreemptedError",
    "JobTimeoutError",
    "MergeProfilerStats",
    "NodeFailedError",
    "OptionError",
    "ParentFailedError",
    "PoolClosedError",
    "PoolError",
    "PoolFactory",
    "PoolKind",
    "PoolKindError",
    "PythonMismatchError",
    "ReleaseStagePools",
    "RemoteTraceback",
    "ResultError",
    "RunBusyError",
    "RunNotFoundError",
    "SpoolError",
    "SubmissionError",
    "Task",
    "TaskExitError",
    "TaskInterruptedError",
    "TaskTimeoutError",
    "TasksFailedError",
    "WaitOnAllPools",
    "WaitOnProcessPools",
    "WaitOnThreadPools",
    "WorkerDiedError",
    "WorkerOutOfMemoryError",
    "_PrintError",
    "_PrintProgressUpdate",
    "_PrintWarning",
    "__version__",
    "_pool_kind",
    "_pprint",
    "_remove_pool",
    "_sprint",
    "aggregate_profiler_data",
    "as_completed",
    "attach",
    "cancel",
    "clean",
    "dictKnownPools",
    "end_profiling",
    "examine",
    "get_or_create_shared_memory_manager",
    "init_pool_process",
    "invoke_with_profiler",
    "look",
    "max_windows_threads",
    "profile_data_path",
    "profiler",
    "recorded_call",
    "retry",
    "runs",
    "shared_lock",
    "start_profiling",
    "wait",
    "write_settings",
]

_HOMES = ("api", "base", "errors", "task", "upstream", "attaching", "looking", "findings", "examining")

if not TYPE_CHECKING:

    def __getattr__(name):
        """Load what this package offers when it is asked for: a worker needs little of it, and is to start fast."""
        from importlib import import_module, util

        if name in __all__:
            home = next(module for place in _HOMES if name in (module := import_module(f"{__name__}.{place}")).__all__)
            globals()[name] = getattr(home, name)
            return globals()[name]
        if util.find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
