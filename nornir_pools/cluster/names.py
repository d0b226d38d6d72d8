"""Names of runs, and of tasks in a run's folder."""

from __future__ import annotations

import re

__all__ = ["SHARD", "log_name", "run_prefix", "task_attempt", "task_name", "task_number", "word_order"]

SHARD = 1000  # tasks: no folder may hold many more entries than that


def task_name(number: int, attempt: int = 0) -> str:
    """The name of a task's file. Number and try are both in it, so that no outcome replaces another."""
    return f"{number:07d}.{attempt}"


def task_number(task: str) -> int:
    """The number in a task's name (number.try)."""
    return int(task.split(".", 1)[0])


def task_attempt(task: str) -> int:
    """The try in a task's name: 0 for the first."""
    return int(task.split(".", 2)[1])


def log_name(log: str, run: str) -> str:
    """The name of a log in its run's folder, which another machine may see under another path; the path of any other log."""
    return log.rpartition("/")[2] if log.rpartition("/")[0].endswith(f"/{run}/jobs") else log


def run_prefix(pool: str) -> str:
    """With what the names of a pool's runs begin."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", pool).strip("-.")[:60] or "pool"


def word_order(name: str) -> tuple[str, int]:
    """What orders the words of workers (+WORKER.N.WORD) as they were said."""
    worker, number, _ = name.rsplit(".", 2)
    return worker, int(number)
