"""How soon are tasks done as jobs of SLURM, against submitit, and how near is that to what files allow?

Needs a SLURM whose nodes see the folder given by ``--folder`` (for the lab of one machine, any folder), and has the best
numbers if nobody else uses it. Every job id that a task returns is looked up in the accounting, outside the time measured.
submitit's arrays are measured once with 200 tasks and multiplied by five: they take a time in proportion.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .harness import Case, Contender, check
from .work import echo, job_of_nap, square_in_job, square_many

if TYPE_CHECKING:
    import submitit

    from nornir_pools.cluster.pool import ClusterPool

__all__ = ["cases"]

Squares = list[tuple[int, str, int]]


def our_pool(num_threads: int | None = None, **options: Any) -> ClusterPool:
    import nornir_pools as pools

    return pools.GetClusterPool("benchmark", num_threads, executor="slurm", folder=str(Path.cwd() / "runs"), **options)


def submitit_executor() -> submitit.SlurmExecutor:
    import submitit

    executor = submitit.SlurmExecutor(Path.cwd() / "submitit")
    executor.update_parameters(time=5)
    return executor


# --- what was returned is right, and jobs have done it


def read_command(*words: str) -> list[str]:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def check_accounted(jobs: Iterable[str]) -> None:
    """Raise unless the accounting, which is some seconds late, learns of every job."""
    missing, until = set(jobs), time.monotonic() + 40
    while missing:
        missing -= set(read_command("sacct", "-X", "-n", "-P", "-o", "jobidraw", "-j", ",".join(missing)))
        check(not missing or time.monotonic() < until, f"sacct does not know {missing}")
        time.sleep(0.5 if missing else 0)


def settle() -> None:
    """Let the jobs that are ending end, so that the next measurement finds the nodes free."""
    until = time.monotonic() + 20
    while read_command("squeue", "--me", "-h", "-t", "completing", "-o", "%i") and time.monotonic() < until:
        time.sleep(0.1)


def squares(count: int, seconds: float, values: Squares) -> dict[str, float]:
    """The numbers of a contender that has squared `count` numbers in jobs, once all of them were found right."""
    check([value for value, _, _ in values] == [number * number for number in range(count)], "the results")
    check(os.getpid() not in {process for _, _, process in values}, "tasks ran here")
    jobs = {job for _, job, _ in values}
    check_accounted(jobs)
    settle()
    return {"all results [s]": seconds, "jobs": len(jobs)}


# --- from nothing


def one_task() -> dict[str, float]:
    return many_tasks(None, 1)


def one_task_submitit() -> dict[str, float]:
    begun = time.perf_counter()
    value = submitit_executor().submit(square_in_job, 0).result()
    return squares(1, time.perf_counter() - begun, [value])


def many_tasks(num_threads: int | None, count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with our_pool(num_threads) as pool:
        tasks = [pool.add_task(str(number), square_in_job, number) for number in range(count)]
        values = [task.wait_return() for task in tasks]
        seconds = time.perf_counter() - begun
    return squares(count, seconds, values)


def many_tasks_packed(jobs: int, count: int) -> dict[str, float]:
    begun = time.perf_counter()
    size = count // jobs
    chunks = [list(range(first, first + size)) for first in range(0, count, size)]
    done = [job.result() for job in submitit_executor().map_array(square_many, chunks)]
    seconds = time.perf_counter() - begun
    return squares(count, seconds, [value for values in done for value in values])


def many_tasks_array(count: int, times: int) -> dict[str, float]:
    begun = time.perf_counter()
    values = [job.result() for job in submitit_executor().map_array(square_in_job, range(count))]
    numbers = squares(count, time.perf_counter() - begun, values)
    return {name: value * times for name, value in numbers.items()}


# --- on jobs that are there


def warm_pool(pool: ClusterPool, jobs: int) -> None:
    """Return once that many jobs work."""
    until = time.monotonic() + 60
    while len({task.result() for task in [pool.submit(job_of_nap, 0.5) for _ in range(jobs)]}) < jobs:
        check(time.monotonic() < until, f"{jobs} jobs do not come")


def latency() -> dict[str, float]:
    def once() -> float:
        before = time.perf_counter()
        check(pool.add_task("task", echo, 7).wait_return() == 7, "a result")
        return (time.perf_counter() - before) * 1e3

    with our_pool(2) as pool:
        warm_pool(pool, 2)
        idle = []
        for _ in range(10):
            time.sleep(1)
            idle.append(once())
        at_once = [once() for _ in range(200)]
    settle()
    return {
        "after 1 s without work, median of 10 [ms]": statistics.median(idle),
        "after 1 s without work, slowest of 10 [ms]": max(idle),
        "right after another, median of 200 [ms]": statistics.median(at_once),
        "right after another, 99th percentile [ms]": statistics.quantiles(at_once, n=100)[98],
    }


def filesystem_floor(folder: Path, count: int = 2_000) -> float:
    """Microseconds that it takes to create, rename, list, read and unlink a small file: the least that a task needs."""
    place = folder / "floor"
    place.mkdir()
    draft, name = str(place / "draft"), str(place / "name")
    before = time.perf_counter()
    for _ in range(count):
        with open(draft, "xb") as file:
            file.write(b"x" * 100)
        os.rename(draft, name)
        os.listdir(place)
        with open(name, "rb") as file:
            file.read()
        os.unlink(name)
    seconds = time.perf_counter() - before
    place.rmdir()
    return seconds / count * 1e6


def throughput(how: str, jobs: int, count: int) -> dict[str, float]:
    floor = filesystem_floor(Path.cwd())  # before and after, while nobody else is at work: a filesystem has moods, too
    with our_pool(jobs) as pool:
        warm_pool(pool, jobs)
        start = pool.submit if how == "submit" else functools.partial(pool.add_task, "task")
        before, used = time.perf_counter(), time.process_time()
        tasks = [start(echo, number) for number in range(count)]
        values = [task.result() for task in tasks]
        seconds, used = time.perf_counter() - before, time.process_time() - used
    check(values == list(range(count)), "the results")
    settle()
    floor = (floor + filesystem_floor(Path.cwd())) / 2
    return {
        "tasks a second [1/s]": count / seconds,
        "processor time of the script for each [µs of CPU]": used / count * 1e6,
        "a small file created, renamed, listed, read, unlinked [µs a file]": floor,
        "a task in units of such files": seconds / count * 1e6 / floor,
    }


# --- long tasks


def long_tasks(count: int, seconds: float) -> dict[str, float]:
    begun = time.perf_counter()
    with our_pool() as pool:
        tasks = [pool.add_task(str(number), job_of_nap, seconds) for number in range(count)]
        jobs = {task.wait_return() for task in tasks}
        taken = time.perf_counter() - begun
    check(len(jobs) == count, f"{count} tasks ran in {len(jobs)} jobs")
    check_accounted(jobs)
    settle()
    return {"all results [s]": taken, "jobs": len(jobs)}


def efficiency(jobs: int, count: int, seconds: float) -> dict[str, float]:
    """From nothing, so that the start of the jobs counts as lost."""
    begun = time.perf_counter()
    with our_pool(jobs) as pool:
        tasks = [pool.add_task(str(number), job_of_nap, seconds) for number in range(count)]
        seen = {task.wait_return() for task in tasks}
        taken = time.perf_counter() - begun
    check(taken >= count * seconds / jobs, f"{taken} s cannot be")
    check_accounted(seen)
    settle()
    return {"all results [s]": taken, "efficiency, ideal by actual time [%]": count * seconds / jobs / taken * 100}


def cases(count: int = 1_000) -> list[Case]:
    few, times = count // 5, 5
    return [
        Case(
            "one task from nothing",
            [Contender("nornir_pools", one_task), Contender("submitit submit", one_task_submitit, needs="submitit")],
        ),
        Case(
            f"{count:,} tasks from nothing",
            [
                Contender("nornir_pools", many_tasks, (None, count)),
                Contender("nornir_pools num_threads=8", many_tasks, (8, count)),
                Contender("submitit, packed by hand", many_tasks_packed, (10, count), needs="submitit"),
                Contender(f"submitit map_array, {few} × {times}", many_tasks_array, (few, times), needs="submitit", rounds=1),
            ],
        ),
        Case("one task on idle jobs", [Contender("nornir_pools", latency)]),
        Case(
            f"{10 * count:,} tasks on 8 warm jobs",
            [
                Contender("nornir_pools submit", throughput, ("submit", 8, 10 * count)),
                Contender("nornir_pools add_task", throughput, ("add_task", 8, 10 * count)),
            ],
        ),
        Case(f"{count:,} tasks of 0.1 s on 16 jobs", [Contender("nornir_pools", efficiency, (16, count, 0.1))], "≥ 80 %"),
        Case(
            f"{count:,} tasks of 2 s on 32 jobs", [Contender("nornir_pools", efficiency, (32, count, 2.0), rounds=1)], "≥ 90 %"
        ),
        Case("20 tasks of 20 s, a job each", [Contender("nornir_pools", long_tasks, (20, 20.0), rounds=1)]),
    ]
