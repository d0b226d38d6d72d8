"""Does a task cost the same whether there are a hundred or a hundred thousand, and what does waiting for them cost?

Memory is that of the script: its peak on top of what it had once the pool was warm. The cluster is SLURM or, where there is
none, this machine. Tasks that are outstanding wait behind a few that do nothing until they are told to end: files are
counted meanwhile, and processor time includes that of the SLURM commands which the script runs.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .cluster import clean
from .harness import Case, Contender, check
from .work import WORKERS, cluster_executor, echo

if TYPE_CHECKING:
    import nornir_pools
    from nornir_pools.poolbase import PoolBase

__all__ = ["cases"]

COUNTS = (100, 1_000, 10_000, 100_000)
JOBS = 4
BUSY = 16  # jobs of the tasks that are counted while they run
FAILING = 20


@contextmanager
def pool_of(kind: str, jobs: int = 8) -> Iterator[PoolBase]:
    import nornir_pools as pools

    made: PoolBase
    if kind == "cluster":
        made = pools.GetClusterPool(
            "growth", jobs, executor=cluster_executor(), folder=str(Path.cwd() / "runs"), timeout_min=60
        )
    else:
        made = (pools.GetThreadPool if kind == "threads" else pools.GetMultithreadingPool)("growth", WORKERS)
    with made:
        yield made


def status(field: str) -> int:
    """A number from the kernel's description of this process; memory in kB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:")))


def forget_peak() -> int:
    """From now on "VmHWM" is the peak; returns what is used now, in kB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def many(kind: str, keep: bool, count: int) -> dict[str, float]:
    """Tasks that do nothing, whose results are kept, or asked for by nobody."""
    with pool_of(kind) as pool:
        for _ in range(3):
            check([task.result() for task in [pool.submit(echo, number) for number in range(64)]] == list(range(64)), "results")
        base = forget_peak()
        before = time.perf_counter()
        if keep:
            tasks = [pool.submit(echo, number) for number in range(count)]
            values = [task.result() for task in tasks]
            check(values == list(range(count)), "the results")
        else:
            for number in range(count):
                pool.add_task("task", echo, number)
            pool.wait_completion()
        seconds = time.perf_counter() - before
        peak = status("VmHWM")
        gc.collect()
        left = status("VmRSS")
    result = {
        "a task [µs]": seconds / count * 1e6,
        "peak of memory for a task, kB": (peak - base) / count,
        "peak of memory, MB": (peak - base) / 1e3,
    }
    return result if keep else {**result, "left when all are over, kB for a task": (left - base) / count}


# --- outstanding


def block(number: int, folder: str) -> int:
    """Wait until told to end."""
    Path(folder, f"begun{number}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.5)
    return number


def fail(number: int) -> int:
    """One of those that fail."""
    raise ValueError(number)


def processor_time() -> float:
    """Seconds that this process and what it has run and waited for have used."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def entries(folder: Path) -> tuple[int, int]:
    """How many files are in a folder, and the most entries of one folder in it."""
    files = most = 0
    for _, folders, names in os.walk(folder):
        files += len(names)
        most = max(most, len(folders) + len(names))
    return files, most


def wait_for(reached: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not reached():
        check(time.monotonic() < until, what)
        time.sleep(0.1)


def outstanding(count: int, idle: float) -> dict[str, float]:
    """So many tasks wait, for a while in which nothing happens, and are run then; some fail."""
    signs = Path.cwd() / "signs"
    signs.mkdir()
    all_of_it = processor_time()
    with pool_of("cluster", JOBS) as pool:
        first = [pool.submit(block, number, str(signs)) for number in range(JOBS)]
        wait_for(lambda: len(list(signs.iterdir())) == JOBS, "the first tasks do not begin")
        base, begun = status("VmRSS"), time.perf_counter()
        tasks = [pool.submit(echo, number) for number in range(count)]
        failing = [pool.submit(fail, number) for number in range(FAILING)]
        adding = time.perf_counter() - begun
        memory, threads = status("VmRSS"), status("Threads")
        run: Path = pool.folder  # type: ignore[attr-defined]
        files, most = entries(run)
        time.sleep(5)  # what follows the last task is not idleness yet
        used, begun = processor_time(), time.perf_counter()
        wait_idle(first[0], idle)
        used, waited = processor_time() - used, time.perf_counter() - begun
        (signs / "go").touch()
        begun = time.perf_counter()
        most, looking = watch(tasks, run, most)
        check([task.result() for task in tasks] == list(range(count)), "the results")
        check(all(isinstance(task.exception(), ValueError) for task in failing), "some have to fail")
        running = time.perf_counter() - begun
    left = entries(run)[0]
    return {
        "adding a task [µs]": adding / count * 1e6,
        "a task once they run [µs]": running / count * 1e6,
        "memory of the script, MB": memory / 1e3,
        "of which for the tasks, kB each": (memory - base) / count,
        "threads": threads,
        "processor while idle, % of one": used / waited * 100,
        "processor for all of it, minutes": (processor_time() - all_of_it - looking) / 60,
        "files for an unfinished task (less 6 a job)": (files - 6 * JOBS) / (count + JOBS + FAILING),
        "most entries of a folder": most,
        "files left, less one a failed task": left - FAILING,
    }


def wait_idle(task: nornir_pools.Task, seconds: float) -> None:
    """Wait as a script would: for a task."""
    try:
        task.result(timeout=seconds)
    except TimeoutError:
        return
    raise AssertionError("the task ended too early")


def watch(tasks: list[nornir_pools.Task], run: Path, most: int) -> tuple[int, float]:
    """Wait for tasks; returns the most entries seen in a folder, and what looking for them has taken of the processor."""
    looking = 0.0
    while not tasks[-1].done() or not all(task.done() for task in tasks):
        before = time.thread_time()
        most = max(most, entries(run)[1])
        looking += time.thread_time() - before
        futures.wait(tasks[-1:], timeout=5)
    return most, looking


def nap(number: int) -> int:
    """A task of 10 ms."""
    time.sleep(0.01)
    return number


def running(count: int) -> dict[str, float]:
    """So many short tasks from the first to the last, the run's files being counted all the time; some fail."""
    all_of_it, over, most = processor_time(), -math.inf, 0
    ended = threading.Event()
    with pool_of("cluster", BUSY) as pool:
        pool.submit(nap, 0).result()  # there is a run
        run: Path = pool.folder  # type: ignore[attr-defined]

        def count_files() -> float:
            nonlocal over, most
            while not ended.wait(0.5):
                unfinished = pool.num_active_tasks
                files, entries_of_one = entries(run)
                over, most = max(over, files - 3 * unfinished - 6 * BUSY), max(most, entries_of_one)
            return time.thread_time()

        with futures.ThreadPoolExecutor(1) as looker:
            looks = looker.submit(count_files)
            begun = time.perf_counter()
            tasks = [pool.submit(nap, number) for number in range(count)]
            failing = [pool.submit(fail, number) for number in range(FAILING)]
            futures.wait([*tasks, *failing])
            seconds = time.perf_counter() - begun
            ended.set()
            looking = looks.result()
        check([task.result() for task in tasks] == list(range(count)), "the results")
        check(all(isinstance(task.exception(), ValueError) for task in failing), "some have to fail")
    return {
        "to the last result [s]": seconds,
        "efficiency, %": count * 0.01 / BUSY / seconds * 100,
        "files above 3 an unfinished task and 6 a job": max(over, 0.0),
        "most entries of a folder": most,
        "files left, less one a failed task": entries(run)[0] - FAILING,
        "processor of the script, minutes": (processor_time() - all_of_it - looking) / 60,
    }


def cases(idle: float = 600.0, most: int = COUNTS[-1]) -> list[Case]:
    counts = [count for count in COUNTS if count <= most]
    result = [
        Case(
            f"{kind}: tasks that are {'kept' if keep else 'dropped'}",
            [Contender(f"{count:,} tasks", many, (kind, keep, count)) for count in counts],
        )
        for kind in ("threads", "processes", "cluster")
        for keep in (True, False)
    ]
    result.append(
        Case(
            f"cluster: tasks that wait, {idle:g} s of it idle",
            [Contender(f"{most:,} tasks", outstanding, (most, idle), rounds=1, limit=idle + 1800)],
            "< 300 MB, ≤ 5 threads, ≤ 0.5 % of a processor while idle, ≤ 5 minutes of one in all, ≤ 3 files a task, "
            "≤ 1,000 entries a folder, ≤ 100 files left",
        )
    )
    result.append(
        Case(
            f"cluster: tasks of 10 ms on {BUSY} jobs",
            [Contender(f"{most:,} tasks", running, (most,), rounds=1, limit=1800)],
            "no files above 3 an unfinished task and 6 a job, ≤ 1,000 entries a folder, ≤ 100 files left, ≤ 5 minutes",
        )
    )
    for case in result:
        case.clean = clean
    return result
