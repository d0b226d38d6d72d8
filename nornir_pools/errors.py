"""The errors of this package, in one tree.

::

    PoolError
    ├── OptionError (ValueError)            an option, setting or configuration file is wrong
    ├── PoolKindError (TypeError)           the name belongs to a pool of another kind
    ├── PoolClosedError (RuntimeError)      the pool was shut down
    ├── ArgumentError (TypeError)           a call that cannot be sent to another process
    ├── ResultError (RuntimeError)          a value or exception that could not be sent back
    ├── ParentFailedError (RuntimeError)    a task that this one was given, or came after, has failed
    ├── TaskExitError (RuntimeError)        the task called sys.exit
    ├── TaskInterruptedError (RuntimeError) the task raised KeyboardInterrupt
    ├── TaskTimeoutError (RuntimeError)     the task took longer than its task_timeout (not a TimeoutError, see below)
    ├── InitializerError (RuntimeError)     the pool's initializer has failed, so no task of it is run
    ├── CommandError (RuntimeError)         a command was killed by a signal
    │   └── CommandStartError (OSError)     ... or could not be started
    ├── WorkerDiedError (RuntimeError)      the process running the task died
    │   └── WorkerOutOfMemoryError (MemoryError)  ... by the kernel's hand, for want of memory
    ├── SubmissionError (RuntimeError)      the scheduler refused the job
    ├── SpoolError (OSError)                the run's folder cannot be used
    ├── RunBusyError (RuntimeError)         another process holds the run
    ├── RunNotFoundError (LookupError)      there is no such run, or it was closed
    ├── TasksFailedError (RuntimeError)     so many tasks have failed that the pool has stopped; or some have, when asked
    ├── BudgetSpentError (RuntimeError)     the pool has stopped: its jobs have used what they may
    ├── PythonMismatchError (RuntimeError)  the job's Python is another version than the script's
    └── JobError (RuntimeError)             the job ended before the task did
        ├── JobTimeoutError                 time limit (not a TimeoutError: that means "not done yet")
        ├── JobOutOfMemoryError (MemoryError)
        ├── JobCancelledError               cancelled by somebody else than this program
        ├── JobPreemptedError
        ├── NodeFailedError
        └── JobLostError                    gone without a trace

Each message says which pool and task are concerned, what happened, and what to do next; its parts are attributes as well.
All of them can be pickled.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArgumentError",
    "BudgetSpentError",
    "CommandError",
    "CommandStartError",
    "InitializerError",
    "JobCancelledError",
    "JobError",
    "JobLostError",
    "JobOutOfMemoryError",
    "JobPreemptedError",
    "JobTimeoutError",
    "NodeFailedError",
    "OptionError",
    "ParentFailedError",
    "PoolClosedError",
    "PoolError",
    "PoolKindError",
    "PythonMismatchError",
    "RemoteTraceback",
    "ResultError",
    "RunBusyError",
    "RunNotFoundError",
    "SpoolError",
    "SubmissionError",
    "TaskExitError",
    "TaskInterruptedError",
    "TaskTimeoutError",
    "TasksFailedError",
    "WorkerDiedError",
    "WorkerOutOfMemoryError",
]


class PoolError(Exception):
    """Base class. Keyword arguments become attributes (and travel with the pickle)."""

    def __init__(self, message: str = "", **parts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(parts)  # which goes into the pickle
        for name, value in parts.items():
            setattr(self, name, value)  # (an OSError has its errno elsewhere)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class OptionError(PoolError, ValueError):
    """An option, environment variable or configuration file has a wrong name or value."""


class PoolKindError(PoolError, TypeError):
    """A pool of that name exists already and is of another kind, or has other options."""


class PoolClosedError(PoolError, RuntimeError):
    """The pool was shut down. Ask for it again by its name to get a new one."""


class ArgumentError(PoolError, TypeError):
    """The function or its arguments cannot be pickled, so they cannot be sent to another process."""


class ResultError(PoolError, RuntimeError):
    """What the task returned or raised could not be brought back; the message holds its text and traceback."""


class ParentFailedError(PoolError, RuntimeError):
    """The `task` was not run, since its `parent`, a task that it was given or came after, has failed, or was not run either.

    `root` is the one that has failed; its error is the ``__cause__``.
    """

    task: str = ""
    parent: str = ""
    root: str = ""


class TaskExitError(PoolError, RuntimeError):
    """The task called ``sys.exit``. `code` is what it was called with."""

    code: Any = None


class TaskInterruptedError(PoolError, RuntimeError):
    """The task raised KeyboardInterrupt by itself."""


class TaskTimeoutError(PoolError, RuntimeError):
    """The task took longer than its `task_timeout`, `seconds`, so what ran it was ended.

    Give it more with ``with_options(task_timeout=…)``. In a job: its `job_id`, the path of its `log`, and in `tries` a line
    for each time it was tried.
    """

    seconds: float = 0.0
    job_id: str = ""
    log: str = ""
    tries: tuple[str, ...] = ()


class InitializerError(PoolError, RuntimeError):
    """The pool's `initializer` (its name) raised, or took its worker down; no task of the pool is run any more.

    What it raised is the ``__cause__``, or, from a job, stands in the message with its traceback.
    """

    initializer: str = ""


class CommandError(PoolError, RuntimeError):
    """A command was ended by a signal: `returncode` is minus its number. `stdout` and `stderr` hold what it had printed."""

    returncode: int | None = None
    stdout: str = ""
    stderr: str = ""


class CommandStartError(CommandError, OSError):
    """A command could not be started: no such program or folder, not executable, line too long."""


class WorkerDiedError(PoolError, RuntimeError):
    """The process that ran the task died. `exitcode` is its status, or minus the signal's number."""

    exitcode: int | None = None
    job_id: str = ""
    state: str = ""
    log: str = ""
    tries: tuple[str, ...] = ()


class WorkerOutOfMemoryError(WorkerDiedError, MemoryError):
    """The kernel killed the process for want of memory: it used `memory` bytes of `memory_asked` (0: not known).

    Give the task more with ``with_options(mem_gb=…)``.
    """

    memory: int = 0
    memory_asked: int = 0


class SubmissionError(PoolError, RuntimeError):
    """The scheduler refused the job; the message holds its own words."""


class SpoolError(PoolError, OSError):
    """The run's folder is full, gone, not writable or not private. `folder` is its path."""

    folder: str = ""


class RunBusyError(PoolError, RuntimeError):
    """Another process holds the run in the folder `run`: the one with id `pid` on `host`."""

    run: str = ""
    host: str = ""
    pid: int = 0


class RunNotFoundError(PoolError, LookupError):
    """No run has that name, or more than one, or it was closed; ``nornir_pools.runs()`` lists them."""


class TasksFailedError(PoolError, RuntimeError):
    """The pool has stopped, because its first tasks all failed alike (``stop_after``) or too many failed (``max_failures``);
    or ``wait_completion(check=True)`` found failures that nobody had asked about.

    `failed` is how many tasks failed. In the first case the message says how the first of them did, and `log` is the path of
    its log; in the second it groups them by cause, and `failures` has (name, cause) of each.
    """

    failed: int = 0
    log: str = ""
    failures: tuple[tuple[str, str], ...] = ()


class BudgetSpentError(PoolError, RuntimeError):
    """The pool has stopped, because its jobs have used its `budget` of core-hours (``budget_core_hours``): `used`.

    Then so many tasks were `done`, and `left`: of these, what ran went on to its end, and what waited was not run.
    """

    budget: float = 0.0
    used: float = 0.0
    done: int = 0
    left: int = 0


class PythonMismatchError(PoolError, RuntimeError):
    """The job's Python, or its nornir_pools, is of another version than the script's, so pickles cannot be exchanged."""


class JobError(PoolError, RuntimeError):
    """The job that ran the task ended before the task did: `job_id`, its `state`, and the path of its `log`.

    `tries` has a line for each time it was tried.
    """

    job_id: str = ""
    state: str = ""
    log: str = ""
    tries: tuple[str, ...] = ()


class JobTimeoutError(JobError):
    """The job reached its time limit. Give the task more with ``with_options(timeout_min=…)``."""


class JobOutOfMemoryError(JobError, MemoryError):
    """The job used more memory, `memory` bytes, than the `memory_asked` for (0: not known).

    Give the task more with ``with_options(mem_gb=…)``.
    """

    memory: int = 0
    memory_asked: int = 0


class JobCancelledError(JobError):
    """Somebody other than this program cancelled the job."""


class JobPreemptedError(JobError):
    """A job of higher priority took the resources."""


class NodeFailedError(JobError):
    """The node went down while the job ran."""


class JobLostError(JobError):
    """The job is gone and neither an outcome nor the scheduler says how it ended."""


class RemoteTraceback(Exception):  # noqa: N818 - shown as a cause only: its name reads as a heading of the text below it
    """The traceback, as text, of an exception that was raised in another process; the ``__cause__`` of that exception."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])
