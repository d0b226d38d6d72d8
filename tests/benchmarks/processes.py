"""What does a task on a worker process cost, against the standard library's pools, loky and joblib?

Tasks that do nothing, on two processes that a fork server starts: the first from nothing, many one by one, and one while
the processes wait. joblib takes all tasks at once and groups them.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import operator
import time
from concurrent.futures import ProcessPoolExecutor

from .harness import Case, Contender, check
from .work import COLD, EACH, WORKERS, echo, timed

__all__ = ["cases"]

_result = operator.methodcaller("result")


def ours(how: str, count: int) -> dict[str, float]:
    from nornir_pools.local.processes import ProcessPool  # loaded before the clock starts, as the peers are

    begun = time.perf_counter()
    with ProcessPool("benchmark", WORKERS) as pool:
        start = pool.submit if how == "submit" else functools.partial(pool.add_task, "task")
        return timed(begun, start, _result, count)


def standard(count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return timed(begun, pool.submit, _result, count)


def multiprocessing_pool(count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as pool:
        return timed(begun, lambda func, value: pool.apply_async(func, (value,)), operator.methodcaller("get"), count)


def loky(count: int) -> dict[str, float]:
    library = importlib.import_module("loky")
    begun = time.perf_counter()
    pool = library.get_reusable_executor(WORKERS)
    return timed(begun, pool.submit, _result, count)


def joblib(count: int) -> dict[str, float]:
    library = importlib.import_module("joblib")
    call = library.delayed(echo)
    begun = time.perf_counter()
    with library.Parallel(n_jobs=WORKERS) as parallel:
        check(parallel([call(-1)]) == [-1], "the first result")
        cold = time.perf_counter() - begun
        parallel(call(number) for number in range(200))
        before = time.perf_counter()
        values = parallel(call(number) for number in range(count))
        seconds = time.perf_counter() - before
    check(values == list(range(count)), "the results")
    return {COLD: cold * 1e3, f"{count:,} {EACH}": seconds / count * 1e6}


def cases(count: int = 10_000) -> list[Case]:
    return [
        Case(
            "processes",
            [
                Contender("nornir_pools add_task", ours, ("add_task", count)),
                Contender("nornir_pools submit", ours, ("submit", count)),
                Contender("ProcessPoolExecutor", standard, (count,)),
                Contender("multiprocessing.Pool.apply_async", multiprocessing_pool, (count,)),
                Contender("loky", loky, (count,), needs="loky"),
                Contender("joblib, all at once", joblib, (count,), needs="joblib"),
            ],
        )
    ]
