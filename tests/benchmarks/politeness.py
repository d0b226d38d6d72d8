"""How often are SLURM's commands called while ten thousand tasks are outstanding?

Needs what the benchmark of the cluster needs. Each command has a stand-in on PATH that counts, and is the real one then.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import nornir_pools as pools

from .harness import Case, Contender, check
from .work import job_of_nap

__all__ = ["cases"]

WANTED = "at most one squeue in 10 s, and no sacct"
COMMANDS = ("squeue", "sacct", "sbatch", "scancel", "scontrol", "sinfo")


def put_counters(folder: Path) -> None:
    """Put a stand-in for each command on PATH, which writes down when it was called."""
    folder.mkdir()
    for name in COMMANDS:
        real = shutil.which(name)
        check(real, f"{name} is not on PATH")
        (folder / name).write_text(f'#!/bin/sh\ndate +%s.%N >> "{folder}/{name}.calls"\nexec {real} "$@"\n')
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def calls(folder: Path, name: str, until: float) -> list[float]:
    """When a command was called, up to that moment."""
    file = folder / f"{name}.calls"
    return [moment for moment in map(float, file.read_text().split()) if moment <= until] if file.exists() else []


def closest(moments: list[float], count: int) -> float:
    """The shortest time in seconds in which `count` calls were made; infinite if there were fewer."""
    return min((last - first for first, last in zip(moments, moments[count - 1 :], strict=False)), default=float("inf"))


def outstanding(jobs: int | None, count: int, seconds: float) -> dict[str, float]:
    """Calls per minute from the first task added until the last result."""
    folder = Path.cwd() / "counters"
    put_counters(folder)
    with pools.GetClusterPool("polite", jobs, executor="slurm", folder=str(Path.cwd() / "runs")) as pool:
        begun = time.time()
        tasks = [pool.submit(job_of_nap, seconds) for _ in range(count)]
        seen = {task.result() for task in tasks}
        end = time.time()
    check(len(seen) > 1, "several jobs took part")
    numbers = {f"{name}, calls a minute": len(calls(folder, name, end)) / (end - begun) * 60 for name in COMMANDS}
    numbers["squeue, shortest time from a call to the next"] = closest(calls(folder, "squeue", end), 2)
    return {**numbers, "results a second [1/s]": count / (end - begun)}


def cases(count: int = 10_000) -> list[Case]:
    return [
        Case(
            f"{count:,} tasks of 0.2 s on 16 jobs",
            [Contender("nornir_pools", outstanding, (16, count, 0.2), rounds=1)],
            wanted=WANTED,
        ),
        Case(
            f"{count:,} tasks of 0.2 s on as many jobs as there are places",
            [Contender("nornir_pools", outstanding, (None, count, 0.2), rounds=1)],
            wanted=WANTED,
        ),
    ]
