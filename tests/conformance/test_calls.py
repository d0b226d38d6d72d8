"""Calls: values, arguments, names, the kinds of functions, and how a task looks from outside."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions
from ..backends import Backend
from ..conftest import until
from ..functions import Counter

here = threading.local()


def test_a_value_comes_back(pool: PoolBase) -> None:
    assert pool.add_task("two and three", functions.add, 2, 3).wait_return() == 5


def test_every_argument_after_the_function_is_the_functions(pool: PoolBase) -> None:
    task = pool.add_task("args", functions.echo, 1, name="n", func="f", args=2, retries=3, timeout=4)
    assert task.wait_return() == ((1,), {"name": "n", "func": "f", "args": 2, "retries": 3, "timeout": 4})


@pytest.mark.parametrize("name", ["a/b", "a b", "", "é" * 40, "x" * 400, "%j%a", "q'\"`$(id)", "n\n#SBATCH --time=1", "../up"])
def test_any_name_will_do(pool: PoolBase, name: str) -> None:
    task = pool.add_task(name, functions.add, 1, 2)
    assert (task.name, task.wait_return()) == (name, 3)


def test_all_kinds_of_callables_run(pool: PoolBase) -> None:
    n = 4
    counter = Counter(3)
    calls: list[tuple[Callable[[Any], Any], Any]] = [
        (lambda x: x + n, 7),
        (counter.plus, 6),
        (Counter.made, 3),
        (Counter.twice, 6),
        (counter, 9),
        (functools.partial(functions.add, b=2), 5),
        (abs, 3),
        (str, "3"),
    ]
    tasks = [pool.add_task(str(call), call, 3) for call, _ in calls]
    assert [task.wait_return() for task in tasks] == [value for _, value in calls]


def test_many_tasks_come_back_in_their_own_tasks(pool: PoolBase) -> None:
    tasks = [pool.add_task(str(i), functions.add, i, 1) for i in range(300)]
    assert [task.wait_return() for task in tasks] == list(range(1, 301))


def test_values_that_look_empty_are_values(pool: PoolBase) -> None:
    value: Any
    for value in (None, 0, "", [], False):
        assert pool.add_task("empty", functions.echo, value).wait_return() == ((value,), {})


def test_arrays_travel_both_ways_and_can_be_changed(pool: PoolBase) -> None:
    array = pool.add_task("make", functions.make_array, 100_000).wait_return()
    array += 1  # a result is the caller's own
    doubled = pool.add_task("double", functions.double_in_place, array).wait_return()
    np.testing.assert_array_equal(doubled, 2.0 * (np.arange(100_000) + 1))


def test_a_large_result_comes_back_whole(pool: PoolBase) -> None:
    assert pool.add_task("large", functions.make_array, 4_000_000).wait_return()[-1] == 3_999_999


@pytest.mark.needs("crosses")
def test_a_task_sees_its_arguments_as_they_were_when_it_was_added(pool: PoolBase, tmp_path: Path) -> None:
    blockers = [pool.add_task("block", functions.wait_for_file, str(tmp_path / "go")) for _ in range(2)]
    values = [1, 2]
    task = pool.add_task("values", functions.echo, values)
    values.append(3)
    (tmp_path / "go").touch()
    assert task.wait_return() == (([1, 2],), {})
    assert [blocker.wait_return() for blocker in blockers] == [None, None]


@pytest.mark.needs("in_process")
def test_a_pool_of_this_process_pickles_nothing(pool: PoolBase) -> None:
    lock = threading.Lock()
    seen: list[Any] = []
    assert pool.add_task("lock", functions.echo, lock).wait_return() == ((lock,), {})
    pool.add_task("append", seen.append, lock).wait()
    assert seen == [lock]


@pytest.mark.needs("crosses")
def test_tasks_run_in_other_processes(pool: PoolBase) -> None:
    assert pool.add_task("pid", functions.process_id).wait_return() != os.getpid()


def test_what_is_not_callable_is_refused_at_once(pool: PoolBase) -> None:
    with pytest.raises(TypeError, match="not callable"):
        pool.add_task("result, not function", functions.add(1, 2))
    assert pool.num_active_tasks == 0
    assert pool.add_task("good", functions.add, 1, 2).wait_return() == 3


@pytest.mark.needs("crosses")
def test_an_argument_that_cannot_be_sent_is_refused_at_once(pool: PoolBase) -> None:
    for bad in (functions.RefusesToBeSent(), threading.Lock()):
        with pytest.raises(TypeError, match=r"'bad'.*cannot be sent"):
            pool.add_task("bad", len, [bad])
    assert pool.num_active_tasks == 0
    assert pool.add_task("good", functions.add, 1, 2).wait_return() == 3


def test_a_task_looks_as_upstream_has_it(pool: PoolBase) -> None:
    first, second = pool.add_task("one", functions.add, 1), pool.add_task("two", functions.add, 2)
    first.wait()
    assert second.wait_return() == second.wait_return() == 3
    assert first.iscompleted is True
    assert second.task_id > first.task_id
    assert first != second
    assert len({first, second}) == 2
    assert not hasattr(first, "returncode")  # callers delete files by it
    elapsed = first.elapsed_time
    assert first.elapsed_time == elapsed  # it stands still once the task is over
    assert first.elapsed_time_str.count(":") == 1
    first.tile = "any attribute"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        pickle.dumps(first)


def test_the_pool_looks_as_upstream_has_it(pool: PoolBase) -> None:
    pool.add_task("one", functions.add, 1).wait()
    pool.wait_completion()
    assert pool.name == "conformance"
    assert str(pool) == "Pool conformance with 0 active tasks"
    assert pool.num_active_tasks == pool.active_tasks == pool.queued_tasks == pool.ActiveTasks == 0
    assert pool.tasks.qsize() == 0
    assert isinstance(pool, pools.IPool)
    assert pool.logger.name == "nornir_pools"


def test_a_known_name_gives_the_same_pool(pool: PoolBase, backend: Backend) -> None:
    assert backend.get("conformance", 5) is pool
    with pytest.raises(pools.PoolKindError, match="conformance"):
        pools.GetThreadPool("conformance") if pool.kind is pools.PoolKind.PROCESS else pools.GetMultithreadingPool(
            "conformance"
        )


def test_futures_functions_work_on_tasks(pool: PoolBase) -> None:
    tasks = [pool.submit(functions.add, i, 1) for i in range(5)]
    done, rest = futures.wait(tasks, timeout=50)
    assert not rest
    assert sorted(task.result() for task in done) == [1, 2, 3, 4, 5]
    assert {task.result() for task in futures.as_completed(tasks, timeout=50)} == {1, 2, 3, 4, 5}
    assert list(pool.map(functions.add, [1, 2, 3], [10, 20, 30], timeout=50)) == [11, 22, 33]


def test_callbacks_run_and_may_add_tasks(pool: PoolBase) -> None:
    followers: list[pools.Task] = []
    added = threading.Event()

    def follow(task: futures.Future[int]) -> None:
        followers.append(pool.add_task("follower", functions.add, task.result(), 1))
        added.set()

    pool.add_task("first", functions.add, 1, 1).add_done_callback(follow)
    assert added.wait(50)
    assert followers[0].wait_return() == 3


def test_a_task_can_be_awaited_and_a_pool_serves_asyncio(pool: PoolBase) -> None:
    async def both() -> list[int]:
        loop = asyncio.get_running_loop()
        return [await pool.submit(functions.add, 1, 2), await loop.run_in_executor(pool, functions.add, 3, 4)]

    assert asyncio.run(both()) == [3, 7]


def test_any_thread_may_ask(pool: PoolBase) -> None:
    task = pool.add_task("asked", functions.add, 1, 2)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(task.wait_return(50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [3] * 8


@pytest.mark.needs("concurrent")
def test_a_wait_that_runs_out_is_a_timeouterror_and_nothing_more(pool: PoolBase, tmp_path: Path) -> None:
    task = pool.add_task("slow", functions.wait_for_file, str(tmp_path / "go"), 7)
    for ask in (task.wait_return, task.wait, task.result, task.exception):
        with pytest.raises(TimeoutError, match=r"'slow'.*not done"):
            ask(timeout=0.01)
        with pytest.raises(futures.TimeoutError):
            ask(timeout=0.01)
    assert task.iscompleted is False
    (tmp_path / "go").touch()
    assert task.wait_return(timeout=50) == 7


@pytest.mark.needs("concurrent")
def test_no_more_tasks_run_at_once_than_workers(pool: PoolBase, tmp_path: Path) -> None:
    running = [tmp_path / f"running-{i}" for i in range(4)]
    tasks = [pool.add_task("t", functions.touch_and_wait, str(mark), str(tmp_path / "go")) for mark in running]
    end = time.monotonic() + 40
    while sum(mark.exists() for mark in running) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert pool.num_active_tasks == 4
    time.sleep(0.2)  # long enough for a third to start if it could
    assert sum(mark.exists() for mark in running) == 2
    (tmp_path / "go").touch()
    assert [task.wait_return() for task in tasks] == [None] * 4


@pytest.mark.needs("concurrent")
def test_tasks_of_the_pool_can_be_looked_through(pool: PoolBase, tmp_path: Path) -> None:
    kept = pool.add_task("kept", functions.add, 1)
    kept.wait()
    slow = pool.add_task("slow", functions.wait_for_file, str(tmp_path / "go"))
    assert list(pool.tasks) == [kept, slow]
    assert len(pool.tasks) == 2
    (tmp_path / "go").touch()
    slow.wait()


@pytest.mark.needs("bounded")
def test_add_task_blocks_while_too_many_tasks_wait(pool: PoolBase, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    blockers = [pool.add_task("block", functions.wait_for_file, go) for _ in range(2)]
    until(lambda: pool.tasks.qsize() == 0, "the workers do not begin")
    added: list[pools.Task] = []

    def produce() -> None:
        added.extend(pool.add_task(str(i), functions.add, i) for i in range(200))

    producer = threading.Thread(target=produce)
    producer.start()
    producer.join(0.5)
    assert producer.is_alive()
    assert pool.tasks.qsize() == 32 * 2
    (tmp_path / "go").touch()
    producer.join(50)
    assert [task.wait_return() for task in added] == list(range(1, 201))
    assert [blocker.wait_return() for blocker in blockers] == [None, None]


@pytest.mark.needs("bounded")
def test_submit_never_blocks(pool: PoolBase, tmp_path: Path) -> None:
    blockers = [pool.submit(functions.wait_for_file, str(tmp_path / "go")) for _ in range(2)]
    tasks = [pool.submit(functions.add, i) for i in range(300)]
    (tmp_path / "go").touch()
    assert [task.result() for task in tasks] == list(range(1, 301))
    assert [blocker.result() for blocker in blockers] == [None, None]


@pytest.mark.needs("nested")
def test_a_task_may_wait_for_tasks_of_its_own_pool(pool: PoolBase) -> None:
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + int(pool.add_task("deeper", depth, n - 1).wait_return())

    tasks = [pool.add_task("deep", depth, 20) for _ in range(4)]
    assert [task.wait_return(50) for task in tasks] == [20] * 4


@pytest.mark.needs("crosses")
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_task_may_have_pools_of_its_own(pool: PoolBase, kind: str) -> None:
    assert pool.add_task("outer", functions.pool_inside, kind).wait_return(50) == 3


@pytest.mark.needs("crosses")
def test_workers_draw_different_random_numbers(pool: PoolBase, tmp_path: Path) -> None:
    def draw(mark: str, other: str) -> tuple[float, float]:
        functions.touch_and_wait(mark, other)
        import random

        return random.random(), float(np.random.random())

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    first, second = pool.add_task("a", draw, a, b), pool.add_task("b", draw, b, a)
    (x, u), (y, v) = first.wait_return(50), second.wait_return(50)
    assert x != y
    assert u != v


def test_a_shared_value_is_passed_like_any_other(pool: PoolBase) -> None:
    array = np.arange(50_000.0)
    shared = pool.share(array)
    tasks = [pool.add_task("sum", functions.sum_and_flags, shared) for _ in range(4)]
    assert {task.wait_return()[0] for task in tasks} == {float(array.sum())}
    assert pool.add_task("inside", functions.echo, [shared]).wait_return()[0][0][0][-1] == 49_999


def test_options_of_a_job_are_taken_on_every_pool(pool: PoolBase) -> None:
    view = pool.with_options(cpus_per_task=1)
    assert view.add_task("with options", functions.add, 1, 2).wait_return() == 3
    assert view.submit(functions.add, 1, 2).result() == 3
    assert list(view.map(functions.add, [1, 2])) == [2, 3]
    assert view.name == pool.name
    with pytest.raises(pools.OptionError, match=r"cpu_per_task.*cpus_per_task"):
        pool.with_options(cpu_per_task=1)
