"""Are tasks started without delay and noticed when they end, if nobody waits for them one by one?

Twenty sleeps of 50 ms on two workers take 0.5 s at the least. The time begins before the pool is made, so that it holds the
start of worker processes, and ends when the pool says that all is done.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

from .harness import Case, Contender, check
from .work import WORKERS, nap

__all__ = ["cases"]

SECONDS = 0.05
COMMAND = f"sleep {SECONDS}"


def _numbers(count: int, begun: float) -> dict[str, float]:
    seconds = time.perf_counter() - begun
    check(seconds >= count * SECONDS / WORKERS, f"{count} sleeps took {seconds} s, which cannot be")
    return {f"{count} sleeps of {SECONDS * 1e3:g} ms [s]": seconds}


def ours(kind: str, count: int) -> dict[str, float]:
    import nornir_pools as pools

    begun = time.perf_counter()
    names = {"threads": "GetThreadPool", "processes": "GetMultithreadingPool", "commands": "GetProcessPool"}
    get = getattr(pools, names[kind])
    tasks: list[pools.Task] = []
    with get("benchmark", WORKERS) as pool:
        for number in range(count):
            if kind == "commands":
                tasks.append(pool.add_process(f"sleep {number}", COMMAND))
            else:
                tasks.append(pool.add_task(f"sleep {number}", nap, SECONDS))
        pool.wait_completion()
        result = _numbers(count, begun)
    check(all(task.done() and task.exception() is None for task in tasks), "all are done")
    return result


def standard(kind: str, count: int) -> dict[str, float]:
    begun = time.perf_counter()
    pool: Executor
    if kind == "processes":
        pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("forkserver"))
    else:
        pool = ThreadPoolExecutor(WORKERS)
    with pool:
        tasks: Sequence[Future[Any]]
        if kind == "commands":
            tasks = [pool.submit(subprocess.run, COMMAND, shell=True, check=True) for _ in range(count)]
        else:
            tasks = [pool.submit(nap, SECONDS) for _ in range(count)]
        wait(tasks)
        result = _numbers(count, begun)
    check(all(task.exception() is None for task in tasks), "all are done")
    return result


def cases(count: int = 20) -> list[Case]:
    peers = {
        "threads": "ThreadPoolExecutor",
        "processes": "ProcessPoolExecutor",
        "commands": "ThreadPoolExecutor and subprocess.run",
    }
    return [
        Case(
            kind,
            [Contender("nornir_pools", ours, (kind, count)), Contender(peer, standard, (kind, count))],
            wanted="0.45-0.7 s" if count == 20 else "",
        )
        for kind, peer in peers.items()
    ]
