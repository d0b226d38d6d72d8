"""What does a task on the cluster pool cost where there is no cluster?

The local fallback with two workers: files and the same worker program as on a cluster, so that a pool of processes is the
yardstick, and submitit's own local jobs are the peer.
"""

from __future__ import annotations

import functools
import multiprocessing
import operator
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from .harness import Case, Contender, check
from .work import COLD, EACH, WARM, WORKERS, echo, timed

__all__ = ["cases"]

_result = operator.methodcaller("result")
_RATE = "tasks a second [1/s]"


def with_rate(numbers: dict[str, float]) -> dict[str, float]:
    each = next(value for name, value in numbers.items() if name.endswith(EACH))
    return {COLD: numbers[COLD], _RATE: 1e6 / each, **({WARM: numbers[WARM]} if WARM in numbers else {})}


def ours(how: str, count: int) -> dict[str, float]:
    import nornir_pools as pools

    begun = time.perf_counter()
    with pools.GetClusterPool("benchmark", WORKERS, executor="local", folder=str(Path.cwd() / "runs")) as pool:
        start = pool.submit if how == "submit" else functools.partial(pool.add_task, "task")
        return with_rate(timed(begun, start, _result, count))


def standard(count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return with_rate(timed(begun, pool.submit, _result, count))


def submitit_local(count: int) -> dict[str, float]:
    """submitit starts a process for every task."""
    import submitit

    begun = time.perf_counter()
    executor = submitit.LocalExecutor(Path.cwd() / "submitit")
    executor.update_parameters(timeout_min=5)
    check(executor.submit(echo, -1).result() == -1, "the first result")
    cold = time.perf_counter() - begun
    before = time.perf_counter()
    values = [job.result() for job in executor.map_array(echo, range(count))]
    seconds = time.perf_counter() - before
    check(values == list(range(count)), "the results")
    return {COLD: cold * 1e3, _RATE: count / seconds}


def cases(count: int = 2_000) -> list[Case]:
    return [
        Case(
            f"local fallback, {count:,} tasks",
            [
                Contender("nornir_pools add_task", ours, ("add_task", count)),
                Contender("nornir_pools submit", ours, ("submit", count)),
                Contender("ProcessPoolExecutor", standard, (count,)),
                Contender("submitit LocalExecutor, 20 tasks", submitit_local, (20,)),
            ],
        )
    ]
