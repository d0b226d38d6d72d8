"""What does a task on a thread cost, against the standard library's pools of threads?

Tasks that do nothing, on two threads: the first from nothing, many one by one, and one while the threads wait.
The first holds what a pool imports when it is made; of ours, that is its own module.
"""

from __future__ import annotations

import functools
import operator
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

from .harness import Case, Contender
from .work import WORKERS, timed

__all__ = ["cases"]

_result = operator.methodcaller("result")


def ours(how: str, count: int) -> dict[str, float]:
    from nornir_pools.local import threads  # loaded before the clock starts, as the peers are

    begun = time.perf_counter()
    with threads.ThreadPool("benchmark", WORKERS) as pool:
        start = pool.submit if how == "submit" else functools.partial(pool.add_task, "task")
        return timed(begun, start, _result, count, processes=False)


def standard(count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        return timed(begun, pool.submit, _result, count, processes=False)


def multiprocessing_threads(count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with ThreadPool(WORKERS) as pool:
        return timed(
            begun, lambda func, value: pool.apply_async(func, (value,)), operator.methodcaller("get"), count, processes=False
        )


def cases(count: int = 10_000) -> list[Case]:
    return [
        Case(
            "threads",
            [
                Contender("nornir_pools submit", ours, ("submit", count)),
                Contender("nornir_pools add_task", ours, ("add_task", count)),
                Contender("ThreadPoolExecutor", standard, (count,)),
                Contender("multiprocessing ThreadPool", multiprocessing_threads, (count,)),
            ],
        )
    ]
