"""Limits on tasks and on the processes that run them, on worker processes and in jobs that are processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.history import read_history
from nornir_pools.cluster.spool import Spool
from nornir_pools.limits import Limits, memory_of

from .. import functions
from ..conftest import until
from .script import is_alive
from .test_initializing import get

KINDS = pytest.mark.parametrize("kind", ["processes", "local"])
LONG = 100.0


def test_a_process_has_served_after_so_many_tasks_or_with_so_much_memory() -> None:
    mine = os.getpid()
    assert memory_of(mine) > 10_000_000
    assert memory_of(1 << 30) == 0
    assert [Limits(max_tasks_per_child=2).has_served(tasks, mine) for tasks in (1, 2, 3)] == [False, True, True]
    assert [Limits(max_child_mem_gb=size).has_served(1, mine) for size in (0.001, 1000)] == [True, False]
    assert not Limits().has_served(1 << 30, mine)


@KINDS
@pytest.mark.parametrize(("limit", "each"), [({"max_tasks_per_child": 2}, 2), ({"max_child_mem_gb": 0.001}, 1)])
def test_a_process_that_has_served_is_replaced(kind: str, limit: dict[str, Any], each: int) -> None:
    pool = get(kind, **limit)
    pids = [pool.add_task("t", os.getpid).wait_return(50) for _ in range(4)]
    assert [pids.count(pid) for pid in pids] == [each] * 4
    until(lambda: not is_alive(pids[0]), "the first process is still there")


def test_many_short_tasks_are_counted_one_by_one() -> None:
    pool = get("processes", 2, max_tasks_per_child=10)
    pids = [task.wait_return(50) for task in [pool.submit(os.getpid) for _ in range(100)]]
    assert max(pids.count(pid) for pid in pids) == 10


def test_closing_while_processes_are_replaced_loses_no_task() -> None:
    pool = get("processes", 2, max_tasks_per_child=1)
    tasks = [pool.submit(functions.add, i) for i in range(10)]
    failing = pool.submit(functions.fail)
    pool.shutdown()
    assert [task.result() for task in tasks] == list(range(1, 11))
    assert isinstance(failing.exception(), ValueError)
    pool = get("processes", 2, max_tasks_per_child=1)
    tasks = [pool.submit(functions.add, i) for i in range(10)]
    assert tasks[0].result(50) == 1
    pool.shutdown(cancel_futures=True)
    assert all(task.cancelled() or task.result() == i + 1 for i, task in enumerate(tasks))


@KINDS
def test_a_task_that_takes_too_long_is_ended_and_told_and_the_next_one_runs(kind: str, tmp_path: Path) -> None:
    pool = get(kind, task_timeout=2.0)
    log = str(tmp_path / "log")
    task = pool.add_task("slow", functions.hang_once, log)
    error = task.exception(50)
    assert isinstance(error, pools.TaskTimeoutError)
    assert not isinstance(error, TimeoutError)  # that is: not done yet
    assert error.seconds == 2.0
    assert "task 'slow' of pool 'p' took longer than its task_timeout of 2 s" in str(error)
    (first,) = Path(log).read_text().split()
    assert not is_alive(int(first))
    assert pool.add_task("next", functions.hang_once, log).wait_return(50) != int(first)
    if kind == "local":
        assert Path(error.log).exists()
        assert error.log in str(error)
    pool.shutdown()


@KINDS
def test_a_limit_of_its_own_is_that_of_its_task_alone(kind: str, tmp_path: Path) -> None:
    pool = get(kind, task_timeout=0.5)
    log = str(tmp_path / "log")
    assert pool.with_options(task_timeout=None).add_task("no limit", time.sleep, 1.0).wait_return(50) is None
    limited = pool.with_options(task_timeout=0.25)
    with pytest.raises(pools.TaskTimeoutError, match=r"of 0\.25 s"):
        limited.add_task("t", functions.hang_once, log).wait(50)
    with pytest.raises(pools.TaskTimeoutError, match=r"of 0\.5 s"):
        pool.add_process("c", f"sleep {LONG}").wait(50)


@KINDS
def test_setting_a_process_up_is_no_part_of_a_tasks_time(kind: str, tmp_path: Path) -> None:
    pool = get(kind, task_timeout=1.0, initializer=functions.set_up, initargs=(str(tmp_path / "log"), 1, 1.5))
    assert pool.add_task("t", functions.add, 1).wait_return(50) == 2


def test_a_worker_process_is_waited_for_before_the_time_of_its_task_begins() -> None:
    pool = get("processes")
    assert pool.add_task("t", functions.add, 1).wait_return(50) == 2
    assert [companion.greets for companion in pool._companions.values()] == [False]
    limited = pool.with_options(task_timeout=50)
    with pytest.raises(pools.WorkerDiedError):
        pool.add_task("dead", functions.die, "SIGKILL").wait(50)
    assert limited.add_task("t", functions.add, 1).wait_return(50) == 2
    assert [companion.greets for companion in pool._companions.values()] == [True]


def test_what_a_tasks_process_has_started_in_a_job_ends_with_it(tmp_path: Path) -> None:
    pool = get("local")
    log = tmp_path / "log"
    task = pool.with_options(task_timeout=1.5).add_task("t", functions.start_programs_and_hang, str(log))
    assert isinstance(task.exception(50), pools.TaskTimeoutError)
    processes = [int(word) for word in log.read_text().split()]
    assert len(processes) == 3
    until(lambda: not any(map(is_alive, processes)), "processes are left")
    assert (task.facts["job"], len(log.read_text().splitlines())) == ("L1", 1)  # it was not tried again


def test_it_is_tried_again_if_that_is_asked_for(tmp_path: Path) -> None:
    pool = get("local", task_timeout=2.0, retries={"task_timeout": 1})
    again = pool.add_task("again", functions.hang_once, str(tmp_path / "again"))
    always = pool.add_task("always", time.sleep, LONG)
    assert isinstance(again.wait_return(50), int)
    error = always.exception(50)
    assert isinstance(error, pools.TaskTimeoutError)
    assert len(error.tries) == 2
    assert all("longer than 2 s" in line for line in error.tries)
    spool = Spool(pool.folder)
    try:
        assert read_history(spool).tasks[1].retried["task_timeout"] == 1
    finally:
        spool.close()


def test_a_run_that_is_attached_to_keeps_its_limits_in_workers_of_other_hands(tmp_path: Path) -> None:
    pool = get("local", max_jobs=0, task_timeout=0.5, initializer=functions.set_up, initargs=(str(tmp_path / "log"), "model"))
    tasks = [pool.add_task("long", time.sleep, LONG), pool.add_task("set up", functions.what_was_set_up)]
    words = [sys.executable, "-m", "nornir_pools.cluster.worker", str(pool.folder), "--idle", "0.5", "--job", "mine"]
    root = str(Path(pools.__file__).parents[1])
    subprocess.run(words, env={**os.environ, "PYTHONPATH": root}, check=True, timeout=50)
    assert isinstance(tasks[0].exception(50), pools.TaskTimeoutError)
    assert tasks[1].wait_return(50)[0] == "model"


def test_what_runs_in_a_thread_of_this_program_cannot_be_limited_and_that_is_said() -> None:
    for pool in (pools.GetThreadPool("t", 1), pools.GetProcessPool("c", 1), pools.GetSerialPool("s")):
        with pytest.raises(pools.OptionError, match=rf"pool '{pool.name}' cannot see to task_timeout=5: .* in threads"):
            pool.with_options(task_timeout=5)
        pool.with_options(task_timeout=None)
    pools.GetClusterPool("d", executor="debug", task_timeout=5).add_task("t", functions.add, 1).wait()  # nothing to end it


@pytest.mark.parametrize(
    ("name", "value"), [("task_timeout", 0), ("task_timeout", "1 h"), ("max_tasks_per_child", 1.5), ("max_child_mem_gb", -1)]
)
def test_a_wrong_limit_is_refused_and_named(name: str, value: Any) -> None:
    for kind in ("processes", "local"):
        with pytest.raises(pools.OptionError, match=f"option '{name}' must be .*, not {value!r}"):
            get(kind, **{name: value})
    with pytest.raises(pools.OptionError, match="'task_timeout' must be a number above 0"):
        get("processes").with_options(task_timeout=-1)
