"""Tasks as arguments of tasks on the cluster: their values stay in the run's folder, and so do the calls that wait for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.folder import Folder
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from .test_attach import by_name, run_and_die

Make = Callable[..., ClusterPool]


def get(tmp_path: Path, executor: str, **options: Any) -> ClusterPool:
    return pools.GetClusterPool("arguments", 2, executor=executor, folder=str(tmp_path / "runs"), **options)


@pytest.mark.slurm
def test_map_reduce_of_a_thousand_tasks(cluster: Make, tmp_path: Path) -> None:
    """No value is read by the script but the last one."""
    log = tmp_path / "read by"
    pool = cluster(8)
    parts = [pool.add_task(f"map {number}", functions.traced, number, str(log)) for number in range(1000)]
    sums = [pool.add_task(f"reduce {start}", functions.sum_traced, parts[start : start + 100]) for start in range(0, 1000, 100)]
    total = pool.add_task("total", sum, sums)
    assert total.wait_return() == sum(range(1000))
    readers = log.read_text().split()
    assert len(readers) == 1000
    assert str(os.getpid()) not in readers


def test_a_value_is_read_by_the_script_only_if_that_asks_for_it(
    tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "read by"
    taken: list[int] = []

    def read(self: Folder, name: str, *more: Any, **words: Any) -> Any:
        result = real(self, name, *more, **words)
        if name.startswith(("inbox/0", "packs/")):
            taken.append(len(result[0]))
        return result

    real = Folder.read_dated
    monkeypatch.setattr(Folder, "read_dated", read)
    pool = get(tmp_path, executor)
    small = pool.add_task("small", functions.traced, 1, str(log))
    large = pool.add_task("large", functions.traced, 2, str(log), 3_000_000)
    other = pool.add_task("other", functions.traced, 3, str(log), 3_000_000)
    assert pool.add_task("sum", functions.sum_traced, [small, large, other]).wait_return() == 6
    assert sum(taken) < 300_000
    readers = log.read_text().split()
    assert len(readers) == 3
    assert str(os.getpid()) not in readers
    assert large.wait_return() is large.result()
    assert large.wait_return().filling.sum() == 3_000_000 // 8
    assert log.read_text().split()[3:] == [str(os.getpid())]
    taken.clear()
    del other  # what nobody has any more is not fetched when the run is closed
    pool.shutdown()
    assert not taken
    assert small.wait_return().number == 1
    assert large.wait_return().number == 2
    assert log.read_text().split()[4:] == [str(os.getpid())]


def test_a_value_that_the_script_still_has_outlives_the_run(tmp_path: Path) -> None:
    with get(tmp_path, "local") as pool:
        large = pool.add_task("large", functions.make_array, 100_000)
        unreadable = pool.add_task("unreadable", functions.give, "unreadable")
    assert large.wait_return().sum() == sum(range(100_000))
    for _ in range(2):
        with pytest.raises(pools.ResultError, match="'unreadable' could not be read here"):
            unreadable.wait_return()


def test_a_value_that_cannot_be_read_fails_the_child_and_is_named(tmp_path: Path) -> None:
    pool = get(tmp_path, "local")
    child = pool.add_task("child", functions.echo, pool.add_task("odd", functions.give, "unreadable"))
    with pytest.raises(pools.ResultError, match="value of task 'odd', which this task was given, cannot be read here"):
        child.wait_return()


@pytest.mark.slow
def test_a_parent_that_is_tried_again_is_waited_for(tmp_path: Path) -> None:
    pool = get(tmp_path, "local")
    parent = pool.add_task("parent", functions.die_once, str(tmp_path / "mark"))
    assert pool.add_task("child", functions.echo, parent).wait_return() == (("second try",), {})


def test_no_job_is_sent_for_a_task_that_waits(tmp_path: Path) -> None:
    pool = get(tmp_path, "local")
    gate = tmp_path / "gate"
    parent = pool.add_task("parent", functions.wait_for_file, str(gate), 1)
    other = pool.with_options(mem_gb=1).add_task("child", functions.add, parent)
    run = pool.folder
    assert run is not None
    until(lambda: pools.look(run).task("parent").state == "running", "the parent does not start")
    view = pools.look(run)
    assert view.task("child").state == "waiting"
    assert view.task("child").waits_for == (view.task("parent").number,)
    assert [job.options for job in view.jobs] == [{}]
    with pytest.raises(pools.RunNotFoundError, match="has not got all its arguments"):
        pools.recorded_call(run, "child")
    gate.touch()
    assert other.wait_return() == 2


def test_tasks_that_wait_can_be_cancelled_from_outside(tmp_path: Path) -> None:
    pool = get(tmp_path, "local")
    gate = tmp_path / "gate"
    parent = pool.add_task("parent", functions.wait_for_file, str(gate), 1)
    child = pool.add_task("child", functions.add, parent)
    assert pool.folder is not None
    assert pools.cancel(pool.folder, ["child"])
    until(child.done, "it is not cancelled")
    assert child.cancelled()
    gate.touch()
    assert parent.wait_return() == 1


def test_what_waited_when_the_script_died_goes_on_once_somebody_attaches(tmp_path: Path) -> None:
    run = run_and_die(
        "local",
        f"""
        early = pool.add_task("early", functions.make_array, 100_000)
        early.wait()
        threads = pools.GetThreadPool("threads", 1)
        late = pool.add_task("late", functions.wait_for_file, {str(tmp_path / "gate")!r}, 5)
        pool.add_task("child", functions.echo, [late, pool.add_process("say", "echo hi")])
        pool.add_task("ready", functions.sum_and_flags, early).wait()
        pool.with_options(after=late).add_task("after", functions.add, 1)
        pool.add_task("lost", functions.echo, threads.add_task("in the script", time.sleep, 60))
        """,
    )
    waiting = {task.name: task.waits_for for task in pools.look(run).tasks if task.waits_for}
    assert waiting["lost"] == ("in the script",)
    assert waiting["after"] == (pools.look(run).task("late").number,)
    (tmp_path / "gate").touch()
    pool = pools.attach(run)
    tasks = by_name(pool)
    assert tasks["child"].wait_return() == (([5, "hi\n"],), {})
    assert tasks["after"].wait_return() == 2
    assert pool.add_task("new", functions.sum_and_flags, tasks["early"]).wait_return()[0] == sum(range(100_000))
    with pytest.raises(pools.ParentFailedError, match="'in the script', has failed: PoolError: it was no task of run"):
        tasks["lost"].wait_return()


def test_what_has_failed_with_its_parent_is_run_again_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with get(tmp_path, "local") as pool:
        good = pool.add_task("good", functions.make_array, 100_000)
        bad = pool.add_task("bad", functions.needs_file, str(mark))
        child = pool.add_task("child", functions.sum_two_lists, [good, bad])
        after = pool.with_options(after=bad).add_task("after", functions.add, 1)
        for task in (bad, child, after):
            assert task.exception() is not None
        run = pool.folder
    assert run is not None
    assert sorted(task.cause for task in pools.look(run).tasks if task.state == "failed") == ["", *2 * ["ParentFailedError"]]
    with pytest.raises(pools.PoolError, match="without a value of its parent, task 'bad'"):
        pools.retry(run, ["child"])
    pools.ClosePools()
    mark.touch()
    again = by_name(pools.retry(run, new_code=True))
    assert again["child"].wait_return() == sum(range(100_000)) + 1
    assert again["after"].wait_return() == 2
