"""Running a stage's tasks on a pool, with a progress bar."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm  # type: ignore[import-untyped,import-not-found,unused-ignore]

import nornir_pools as pools
from nornir_pools.demo import check
from nornir_pools.demo.blending import Block
from nornir_pools.demo.errors import DemoError

CLUSTER_JOBS = 8

Call = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""The name of a task, its function, and the function's arguments."""


class Pool(Protocol):
    """What the demo uses of a pool."""

    def add_task(self, name: str, func: Callable[..., Any], /, *args: Any) -> Any:
        """Have a function run."""

    def add_process(self, name: str, command: str, /) -> Any:
        """Have a shell command run."""


def open_pool(kind: str, jobs: int | None) -> Any:
    """The pool of the command line's ``--pool``, running at most ``jobs`` tasks at once.

    None: ``CLUSTER_JOBS`` on a SLURM cluster, where the CPUs of this machine say nothing, and else its own number.
    """
    if kind == "threads":
        return pools.GetThreadPool("demo", jobs)
    if kind == "processes":
        return pools.GetMultithreadingPool("demo", jobs)
    if jobs is None and pools.IsClusterAvailable():
        jobs = CLUSTER_JOBS
    return pools.GetClusterPool("demo", jobs)


def watch(title: str, tasks: Sequence[Any]) -> None:
    """Return when all ``tasks`` are done; a progress bar on stderr meanwhile, if that is a terminal."""
    tqdm.monitor_interval = 0  # no thread of its own beside the bar
    for _ in tqdm(pools.as_completed(tasks), title, len(tasks), unit="task", disable=None, leave=False):
        pass


def run_calls(pool: Pool, title: str, calls: Sequence[Call]) -> list[Any]:
    """The results of ``calls``, one task each, in their order."""
    tasks = [pool.add_task(name, function, *arguments) for name, function, arguments in calls]
    watch(title, tasks)
    # All are asked, though the first failure is what the user hears of: a pool logs those nobody has asked about.
    errors = [task.exception() for task in tasks]
    for (name, _, _), error in zip(calls, errors, strict=True):
        if error is not None:
            raise DemoError(f"The task {name} failed: {type(error).__name__}: {error}") from error
    return [task.result() for task in tasks]


def check_command(path: str, block: Block, sha256: str) -> str:
    """The shell command that checks the PNG of ``block`` at ``path``."""
    numbers = [str(block.height), str(block.width)]
    command = [sys.executable, str(Path(check.__file__).resolve()), path, *numbers, sha256]
    # The two shells quote differently.
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)


def run_checks(pool: Pool, title: str, files: Sequence[tuple[str, Block, str]]) -> list[str]:
    """Check PNG files (path, block, SHA-256) by one shell command each; what is wrong with those that failed."""
    tasks = [pool.add_process(f"check {Path(path).name}", check_command(path, block, sha256)) for path, block, sha256 in files]
    watch(title, tasks)
    faults = []
    for (path, _, _), task in zip(files, tasks, strict=True):
        if task.returncode != 0:
            output = (task.result() or "").strip()
            faults.append(output or f"{path}: its check ended with exit status {task.returncode}")
    return faults
