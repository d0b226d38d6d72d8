"""What contenders are given to do, and how the local ones are timed."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .harness import check

__all__ = ["Square", "cluster_executor", "echo", "nap", "square", "squares", "timed"]

Square: TypeAlias = tuple[int, str, int]
WORKERS = 2
COLD = "from nothing to the first result [ms]"
EACH = "tasks one by one, each [µs]"
WARM = "one task on waiting workers [µs]"


def echo(value: int) -> int:
    """As near to nothing as a task comes whose result can be checked."""
    return value


def nap(seconds: float) -> int:
    """Sleep, and return the process's id."""
    time.sleep(seconds)
    return os.getpid()


def job_of_nap(seconds: float) -> str:
    """Sleep, and return the job's id."""
    time.sleep(seconds)
    return os.environ["SLURM_JOB_ID"]


def square(number: int, seconds: float = 0.0) -> Square:
    """The square, in which job it was computed, and in which process."""
    import os  # in here, as Parsl wants its functions
    import time

    if seconds:
        time.sleep(seconds)
    return number * number, os.environ["SLURM_JOB_ID"], os.getpid()


def squares(numbers: Sequence[int], seconds: float = 0.0) -> list[Square]:
    """Tasks that were put together by hand."""
    return [square(number, seconds) for number in numbers]


def cluster_executor() -> str:
    """What the cluster pool has its jobs run by here."""
    import nornir_pools

    return "slurm" if nornir_pools.IsClusterAvailable() else "local"


def timed(
    begun: float, start: Callable[..., Any], value_of: Callable[[Any], Any], count: int, *, processes: bool = True
) -> dict[str, float]:
    """The numbers of a pool that takes one call after another through `start`.

    `begun` is when the pool began to be made, `value_of` waits for what `start` returns.
    """
    check(value_of(start(echo, -1)) == -1, "the first result")
    cold = time.perf_counter() - begun
    warm_up(start, value_of, processes)

    before = time.perf_counter()
    handles = [start(echo, number) for number in range(count)]
    values = [value_of(handle) for handle in handles]
    seconds = time.perf_counter() - before
    check(values == list(range(count)), "the results")

    latencies = []
    for number in range(200):
        before = time.perf_counter()
        value = value_of(start(echo, number))
        latencies.append(time.perf_counter() - before)
        check(value == number, "a result")
    return {COLD: cold * 1e3, f"{count:,} {EACH}": seconds / count * 1e6, WARM: statistics.median(latencies) * 1e6}


def warm_up(start: Callable[..., Any], value_of: Callable[[Any], Any], processes: bool) -> None:
    """Return once every worker is up and has worked. Sleeps get longer: short ones may be no reason to start a worker."""
    seen: set[int] = set()
    seconds = 0.05
    while len(seen) < (WORKERS if processes else 1):
        check(seconds < 10, f"only the processes {seen} work")
        seen.update([value_of(handle) for handle in [start(nap, seconds) for _ in range(WORKERS)]])
        seconds *= 1.5
    for handle in [start(echo, number) for number in range(200)]:
        value_of(handle)
