"""Cancelling, waiting, closing, and beginning again."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent import futures
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions
from ..backends import Backend


@pytest.mark.needs("cancel")
def test_a_waiting_task_can_be_cancelled_and_never_runs(pool: PoolBase, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    blockers = [pool.add_task("block", functions.touch_and_wait, str(tmp_path / f"up{i}"), go) for i in range(2)]
    waiting = [pool.add_task("wait", functions.touch_and_wait, str(tmp_path / "ran"), go) for _ in range(3)]
    assert [task.cancel() for task in waiting] == [True] * 3
    assert all(task.cancelled() and task.iscompleted for task in waiting)
    with pytest.raises(futures.CancelledError):
        waiting[0].wait_return()
    assert futures.wait(waiting, timeout=10).not_done == set()
    Path(go).touch()
    for blocker in blockers:
        blocker.wait(50)
    pool.wait_completion()
    assert not (tmp_path / "ran").exists()


@pytest.mark.needs("cancel")
def test_a_running_task_is_not_cancelled(pool: PoolBase, tmp_path: Path) -> None:
    mark, go = tmp_path / "up", tmp_path / "go"
    task = pool.add_task("running", functions.touch_and_wait, str(mark), str(go), 5)
    functions.wait_for_file(str(mark))
    assert task.cancel() is False
    go.touch()
    assert task.wait_return(50) == 5
    assert task.cancel() is False


@pytest.mark.needs("cancel")
def test_every_task_ends_once_however_cancel_and_workers_race(pool: PoolBase) -> None:
    tasks = [pool.submit(functions.add, i, 0) for i in range(200)]
    threads = [threading.Thread(target=lambda part=part: [task.cancel() for task in part]) for part in (tasks, tasks[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert futures.wait(tasks, timeout=50).not_done == set()
    assert all(task.cancelled() or task.result() == i for i, task in enumerate(tasks))
    pool.wait_completion()
    assert pool.num_active_tasks == 0


def test_a_closed_pool_refuses_and_its_name_gives_a_new_one(pool: PoolBase, backend: Backend) -> None:
    task = pool.add_task("before", functions.add, 1, 2)
    pool.shutdown()
    assert task.iscompleted
    with pytest.raises(pools.PoolClosedError, match="conformance"):
        pool.add_task("after", functions.add, 1, 2)
    with pytest.raises(RuntimeError):
        pool.submit(functions.add, 1, 2)
    with pytest.raises(pools.PoolClosedError):
        pool.add_process("after", "touch made")
    assert not Path("made").exists()
    pool.shutdown()  # once more does no harm
    again = backend.get("conformance", 2)
    assert again is not pool
    assert again.add_task("again", functions.add, 1, 2).wait_return(50) == 3
    again.shutdown()


def test_closing_waits_for_tasks(pool: PoolBase) -> None:
    tasks = [pool.add_process(str(i), "sleep 0.2; echo done") for i in range(3)]
    pool.shutdown()
    assert [task.result(timeout=0) for task in tasks] == ["done\n"] * 3


@pytest.mark.needs("cancel")
def test_closing_may_cancel_what_waits(pool: PoolBase, tmp_path: Path) -> None:
    marks = [tmp_path / f"up{i}" for i in range(2)]
    running = [pool.add_task("run", functions.touch_and_wait, str(mark), str(tmp_path / "go"), 1) for mark in marks]
    for mark in marks:
        functions.wait_for_file(str(mark))
    waiting = [pool.add_task("wait", functions.add, i) for i in range(5)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in waiting)
    (tmp_path / "go").touch()
    assert [task.wait_return(50) for task in running] == [1, 1]


def test_closing_right_after_the_last_task_was_cancelled(pool: PoolBase) -> None:
    pool.submit(functions.add, 1).wait(50)
    task = pool.submit(functions.add, 1)
    assert task.cancel() or task.result(50) == 2
    pool.shutdown()


@pytest.mark.needs("concurrent")
def test_closing_without_waiting_lets_tasks_finish(pool: PoolBase, tmp_path: Path) -> None:
    task = pool.add_task("slow", functions.wait_for_file, str(tmp_path / "go"), 4)
    pool.shutdown(wait=False)
    assert not task.done()
    (tmp_path / "go").touch()
    assert task.wait_return(50) == 4


def test_a_with_block_closes(backend: Backend, request: pytest.FixtureRequest) -> None:
    if backend.slurm:
        request.getfixturevalue("slurm")
    with backend.get("block", 1) as pool:
        task = pool.add_task("inside", functions.add, 1, 2)
    assert task.done()
    assert pool.closed
    assert "block" not in pools.dictKnownPools


def test_lifecycle_functions_reach_the_pool(pool: PoolBase) -> None:
    task = pool.add_task("one", functions.add, 1, 2)
    pools.WaitOnAllPools()
    assert task.iscompleted
    pools.ReleaseStagePools()
    assert pool.closed is (pool.kind is pools.PoolKind.THREAD)
    pools.ClosePools()
    assert pool.closed
    pools.ClosePools()


def test_one_failing_task_does_not_keep_pools_open(pool: PoolBase) -> None:
    other = pools.GetThreadPool("other")
    pool.add_task("bad", functions.fail)
    pools.ClosePools()
    assert pool.closed
    assert other.closed


def test_any_thread_may_close(pool: PoolBase) -> None:
    task = pool.add_task("one", functions.add, 1, 2)
    threads = [threading.Thread(target=pools.ClosePools) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert task.wait_return(0) == 3


def test_a_finished_task_that_is_dropped_is_gone(pool: PoolBase) -> None:
    array = functions.make_array(1000)
    task = pool.add_task("sum", functions.sum_and_flags, array)
    task.wait()
    assert task.args == ()
    gone = weakref.ref(task), weakref.ref(array)
    del task, array
    pool.add_task("another", functions.add, 1).wait()  # workers let go of the one before
    pool.wait_completion()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.needs("in_process", "concurrent")
def test_a_task_that_would_wait_for_itself_is_told_so(pool: PoolBase) -> None:
    with pytest.raises(pools.PoolError, match="wait for itself"):
        pool.add_task("self", pool.wait_completion).wait_return(50)
