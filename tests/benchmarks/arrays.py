"""How fast do large arrays reach tasks and come back, and is one array for all tasks sent only once?

Two workers. Each task reads one number of every page of its array, and gives the process's own memory along with the sum;
arrays that come back are looked at and dropped. The arrays to send are made before the time begins, each with numbers of
its own, so that nobody sends one array for several.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .cluster import clean
from .harness import Case, Contender, check
from .work import WORKERS, cluster_executor

if TYPE_CHECKING:
    from nornir_pools.poolbase import PoolBase

__all__ = ["cases"]

Call: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Applies a function to each of the arguments, as a task each, and gives the values in this order."""

MILLION = 1_000_000
PAGE = 512  # numbers


def own_memory() -> float:
    """What this process has of memory that is no file's, in MB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon:")) / 1e3


def size_of_folder() -> int:
    """The bytes of all files that were written here."""
    return sum(path.stat().st_size for path in Path.cwd().rglob("*") if path.is_file())


def look(array: Any) -> tuple[float, float]:
    """What a task does with an array."""
    return float(array[::PAGE].sum()), own_memory()


def make(number: int) -> Any:
    """An array of 8 MB that begins and ends with a number."""
    import numpy

    return numpy.full(MILLION, number, dtype=float)


@contextmanager
def ours(kind: str) -> Iterator[Call]:
    import nornir_pools as pools

    if kind == "processes":
        pool: PoolBase = pools.GetMultithreadingPool("benchmark", WORKERS)
    else:
        pool = pools.GetClusterPool("benchmark", WORKERS, executor=kind, folder=str(Path.cwd() / "runs"))
    with pool:
        yield lambda func, values: in_order([pool.submit(func, value) for value in values])


def in_order(tasks: list[Any]) -> Iterator[Any]:
    """The values of Futures, none kept longer than needed."""
    tasks.reverse()
    while tasks:
        yield tasks.pop().result()


@contextmanager
def standard() -> Iterator[Call]:
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("forkserver")) as pool:
        yield lambda func, values: in_order([pool.submit(func, value) for value in values])


@contextmanager
def multiprocessing_pool() -> Iterator[Call]:
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as pool:
        yield lambda func, values: pool.imap(func, values)


@contextmanager
def loky() -> Iterator[Call]:
    pool = importlib.import_module("loky").get_reusable_executor(WORKERS)
    yield lambda func, values: in_order([pool.submit(func, value) for value in values])


@contextmanager
def joblib() -> Iterator[Call]:
    library = importlib.import_module("joblib")
    with library.Parallel(n_jobs=WORKERS, return_as="generator") as parallel:
        yield lambda func, values: parallel(library.delayed(func)(value) for value in values)


@contextmanager
def ray() -> Iterator[Call]:
    library = importlib.import_module("ray")
    library.init(num_cpus=WORKERS, include_dashboard=False, object_store_memory=4_000 * MILLION, log_to_driver=False)

    def run(func: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        task = library.remote(func)
        references = [task.remote(value) for value in values]
        references.reverse()
        while references:
            yield library.get(references.pop())

    yield run
    library.shutdown()


POOLS: dict[str, tuple[Callable[..., AbstractContextManager[Call]], tuple[str, ...]]] = {
    "nornir_pools": (ours, ("processes",)),
    "nornir_pools, this machine as the cluster": (ours, ("local",)),
    "nornir_pools, SLURM": (ours, ("slurm",)),
    "ProcessPoolExecutor": (standard, ()),
    "multiprocessing.Pool": (multiprocessing_pool, ()),
    "loky": (loky, ()),
    "joblib": (joblib, ()),
    "ray": (ray, ()),
}


@contextmanager
def warm(name: str) -> Iterator[Call]:
    """A pool whose workers have numpy."""
    make_pool, args = POOLS[name]
    with make_pool(*args) as call:
        for _ in range(2):
            check(len(list(call(make, range(4 * WORKERS)))) == 4 * WORKERS, "results")
        yield call


def taking(name: str, count: int) -> dict[str, float]:
    """Each task gets an array of its own."""
    arrays = [make(number) for number in range(count)]
    with warm(name) as call:
        before = time.perf_counter()
        values = [value for value, _ in call(look, arrays)]
        seconds = time.perf_counter() - before
    check(values == [number * len(arrays[0][::PAGE]) for number in range(count)], "the sums")
    return {"arrays of 8 MB taken [MB/s]": 8 * count / seconds}


def returning(name: str, count: int) -> dict[str, float]:
    """Each task returns an array."""
    with warm(name) as call:
        before = time.perf_counter()
        for number, array in enumerate(call(make, range(count))):
            check(array[0] == array[-1] == number and len(array) == MILLION, f"array {number}")
        seconds = time.perf_counter() - before
    return {"arrays of 8 MB returned [MB/s]": 8 * count / seconds}


def one_for_all(name: str, how: str, count: int) -> dict[str, float]:
    """All tasks get the same array of 64 MB."""
    import numpy

    array = numpy.arange(8 * MILLION, dtype=float)
    with warm(name) as call:
        if how == "read-only":
            array.flags.writeable = False
        used_before = max(memory for _, memory in call(look, [array[:PAGE].copy()] * 4 * WORKERS))
        written = size_of_folder()
        before, used = time.perf_counter(), time.process_time()
        shared = share(name, array) if how == "share" else array
        values = list(call(look, [shared] * count))
        seconds, used = time.perf_counter() - before, time.process_time() - used
        written = size_of_folder() - written
    check({value for value, _ in values} == {float(array[::PAGE].sum())}, "the sums")
    return {
        f"{count} tasks with one array of 64 MB [s]": seconds,
        "processor time of the script, s": used,
        "memory of a worker that is no file's, arrays of 64 MB": (max(memory for _, memory in values) - used_before) / 64,
        "written into the run's folder, arrays of 64 MB": written / 64e6,
    }


def share(name: str, array: Any) -> Any:
    """What a user of that pool passes to many tasks in place of an array."""
    if name.startswith("nornir_pools"):
        import nornir_pools as pools

        return pools.dictKnownPools["benchmark"].share(array)
    return importlib.import_module("ray").put(array) if name == "ray" else array


def contenders(measure: Callable[..., dict[str, float]], *args: Any) -> list[Contender]:
    """All pools."""
    needs = {name: name for name in ("loky", "joblib", "ray")}
    why = {} if cluster_executor() == "slurm" else {"nornir_pools, SLURM": "no SLURM here"}
    return [
        Contender(name, measure, (name, *args), needs.get(name, ""), limit=300, not_tried=why.get(name, "")) for name in POOLS
    ]


def cases(count: int = 200) -> list[Case]:
    result = [
        Case(
            "each task takes an array of its own", contenders(taking, count), "≥ 3 × ProcessPoolExecutor, ahead of the others"
        ),
        Case("each task returns an array", contenders(returning, count), "≥ 3 × ProcessPoolExecutor, ahead of the others"),
        Case(
            "one array for all tasks, by share (ray: put)",
            contenders(one_for_all, "share", count),
            "written once, and not copied for any task",
        ),
        Case(
            "one read-only array for all tasks",
            contenders(one_for_all, "read-only", count),
            "written once, and not copied for any task",
        ),
    ]
    for case in result:
        case.clean = clean
    return result
