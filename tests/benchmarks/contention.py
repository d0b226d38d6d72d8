"""How many workers can claim tasks of one run before they lose their time to each other?

Real workers, as jobs of SLURM if it has room for so many, else as processes of this machine, begin together on tasks that
do nothing and wait already; and up to 1,000 workers of whom each takes its turn in one of a few processes: they claim and
answer by the worker's own code but run nothing. Operations on files are counted on both sides; what they would cost over
NFS with nothing cached is reckoned with the table in inside.py.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from . import inside
from .cluster import clean
from .growth import block, wait_for
from .harness import Case, Contender, check
from .inside import Observed, observe_workers, read_observed, round_trips
from .work import cluster_executor

__all__ = ["cases"]

OVERHEAD = ("rename lost", "list")  # what is done more often the more workers there are


def _numbers(counts: Counter[str], tasks: int, who: str) -> dict[str, float]:
    return {
        f"{who}: round trips over NFS for a task": round_trips(counts) / tasks,
        f"{who}: lists": counts["list"] / tasks,
        f"{who}: names listed": counts["names listed"] / tasks,
        f"{who}: renames": counts["rename"] / tasks,
        f"{who}: files made": counts["create"] / tasks,
    }


def _lost(counts: Counter[str], seconds: Mapping[str, float], tasks: int) -> dict[str, float]:
    return {
        "claims lost for each won": counts["rename lost"] / tasks,
        "lost renames and lists, % of the time in file operations": sum(seconds.get(name, 0.0) for name in OVERHEAD)
        / sum(seconds.values())
        * 100,
    }


def _slurm_has_room(workers: int) -> bool:
    if cluster_executor() != "slurm":
        return False
    done = subprocess.run(["sinfo", "-h", "-N", "-o", "%N %c"], capture_output=True, text=True, check=False)
    return sum(int(line.split()[1]) for line in set(done.stdout.splitlines())) >= workers  # a line for each partition


def now(number: int) -> float:
    """A task that does nothing, and when."""
    return time.time()


def real(workers: int, count: int) -> dict[str, float]:
    """So many workers begin at once on tasks that wait already."""
    import nornir_pools as pools

    signs, place = Path.cwd() / "signs", Path.cwd() / "observed"
    signs.mkdir()
    observe_workers("count", place)
    mine = Observed()
    mine.watch_folders()
    executor = "slurm" if _slurm_has_room(workers) else "local"
    with pools.GetClusterPool("contention", workers, executor=executor, folder=str(Path.cwd() / "runs")) as pool:
        blocking = [pool.submit(block, number, str(signs)) for number in range(workers)]
        wait_for(lambda: len(list(signs.iterdir())) == workers, "the workers do not come")
        mine.forget()
        tasks = [pool.submit(now, number) for number in range(count)]
        (signs / "go").touch()
        check([task.result() for task in blocking] == list(range(workers)), "the first results")
        times = [task.result() for task in tasks]
        counts = Counter(mine.counts)
    counts_there, seconds_there = read_observed(place, count + workers)
    return {
        "claims a second [1/s]": count / (max(times) - min(times)),
        **_lost(counts_there, seconds_there, count + workers),
        **_numbers(counts_there, count + workers, "workers"),
        **_numbers(counts, count, "script"),
    }


def simulated(workers: int, processes: int, tasks_each: int) -> dict[str, float]:
    """That many workers, each with its turn in one of a few processes, so that between two claims of one all others claim."""
    from nornir_pools.cluster.spool import Spool, task_name

    count = workers * tasks_each
    place = Path.cwd() / "observed"
    place.mkdir()
    spool = Spool.create(Path.cwd() / "run")
    for number in range(1, count + 1):
        spool.publish(0, task_name(number), [b"x" * 300])
    spool.tell_workers(0, f"crowd.{workers}")
    before = time.perf_counter()
    pids = []
    for part in range(processes):
        if (pid := os.fork()) == 0:
            try:
                _take_turns(range(part, workers, processes), place)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    mine = Observed()
    mine.watch_folders()
    done = 0
    while done < count:
        check(time.perf_counter() - before < 600, f"{done} of {count} tasks after ten minutes")
        for name in spool.names("inbox"):
            spool.read(f"inbox/{name}")
            spool.remove(f"inbox/{name}")
            done += 1
        time.sleep(0.002)
    seconds = time.perf_counter() - before
    check(all(os.waitpid(pid, 0)[1] == 0 for pid in pids), "a process has failed")
    counts, seconds_there = read_observed(place, count)
    return {
        "claims a second [1/s]": count / seconds,
        **_lost(counts, seconds_there, count),
        **_numbers(counts, count, "workers"),
    }


def _take_turns(workers: range, place: Path) -> None:
    from nornir_pools.cluster import offers
    from nornir_pools.cluster.spool import Spool
    from nornir_pools.cluster.worker import Worker

    offers._LOOK = 0.0  # the others' turns are pause enough
    spool = Spool(Path.cwd() / "run")
    all_ = [Worker(spool, 0, f"job{number}", idle_seconds=30.0, one_task=False) for number in workers]
    for worker in all_:
        spool.make_folder(f"claimed/{worker.name}")
    observed = Observed()
    observed.watch_folders()
    while all_:
        for worker in list(all_):
            task = worker._claim_any()
            if task is None:
                all_.remove(worker)
                continue
            spool.read(f"claimed/{worker.name}/{task}")
            spool.deliver(spool.draft("inbox", [b"x" * 300], worker.name), task, worker.name)
    inside.leave(str(place), observed)


def cases(count: int = 20_000, most: int = 1_000) -> list[Case]:
    result = [
        Case(
            f"{count:,} tasks that wait",
            [Contender(f"{workers} workers", real, (workers, count)) for workers in (1, 8, 64) if workers <= most],
        ),
        Case(
            "workers that take turns",
            [
                Contender(f"{workers:,} workers", simulated, (workers, min(workers, 16), max(count // workers, 10)))
                for workers in (8, 64, 250, 1_000)
                if workers <= most
            ],
        ),
    ]
    for case in result:
        case.clean = clean
    return result
