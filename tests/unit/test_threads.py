"""Pools of threads of this process: which thread runs what, and for how long it lives."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import TaskExitError, TaskInterruptedError

from .. import functions
from ..conftest import until


def names_of_threads(prefix: str) -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(prefix))


def test_pool_without_tasks_has_no_threads_not_even_when_it_is_closed() -> None:
    pool = pools.GetThreadPool("idle", 4)
    assert pool.tasks.qsize() == 0
    pool.shutdown()
    assert names_of_threads("idle") == []


def test_threads_are_added_as_tasks_need_them() -> None:
    pool = pools.GetThreadPool("grow", 3)
    for n in range(5):
        pool.add_task("t", functions.touch_and_wait, f"started{n}", "go")
    until(lambda: all(Path(f"started{n}").exists() for n in range(3)), "three do not run at once")
    assert names_of_threads("grow") == ["grow-0", "grow-1", "grow-2"]
    assert not Path("started3").exists()
    Path("go").touch()
    pool.wait_completion()
    assert len(names_of_threads("grow")) == 3


def test_one_thread_after_the_other_task_is_enough_for_tasks_one_after_the_other() -> None:
    pool = pools.GetThreadPool("one", 4)
    for n in range(20):
        pool.add_task("t", functions.add, n).wait()
        until(lambda: pool.num_active_tasks == 0, "still active")
    assert len(names_of_threads("one")) == 1


def test_pool_of_one_thread_still_works_after_a_pause() -> None:
    pool = pools.GetThreadPool("t", 1)
    pool.add_task("t", functions.add, 1).wait()
    time.sleep(1.1)
    assert pool.add_task("t", functions.add, 1).wait_return(5) == 2


def test_parked_threads_end_with_the_pool() -> None:
    pool = pools.GetThreadPool("end", 2)
    list(pool.map(functions.add, range(10)))
    pool.shutdown()
    assert names_of_threads("end") == []


def test_nothing_is_pickled() -> None:
    lock = threading.Lock()
    assert pools.GetThreadPool("t", 1).add_task("t", functions.add, [lock], [1]).wait_return() == [lock, 1]


def test_tasks_that_wait_for_tasks_of_their_own_pool_do_not_block_each_other() -> None:
    pool = pools.GetThreadPool("t", 2)
    barrier = threading.Barrier(2)

    def outer() -> Any:
        barrier.wait()
        inner = pool.add_task("inner", functions.add, 1)
        return inner.wait_return()

    tasks = [pool.add_task("outer", outer) for _ in range(2)]
    assert [task.wait_return(20) for task in tasks] == [2, 2]


def test_deep_nesting_on_one_thread_works() -> None:
    pool = pools.GetThreadPool("t", 1)

    def down(depth: int) -> int:
        return depth and 1 + pool.add_task("inner", down, depth - 1).wait_return()

    assert pool.add_task("outer", down, 20).wait_return(20) == 20


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError])
def test_no_exception_of_a_task_costs_a_worker(error: type[BaseException]) -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", functions.fail, error, "text")
    expected: dict[Any, type[BaseException]] = {SystemExit: TaskExitError, KeyboardInterrupt: TaskInterruptedError}
    with pytest.raises(expected.get(error, error)):
        task.wait(10)
    pool.wait_completion()
    assert pool.add_task("t", functions.add, 1).wait_return(10) == 2
    assert names_of_threads("t-") == ["t-0"]


def test_exit_of_a_task_carries_its_code() -> None:
    task = pools.GetThreadPool("t", 1).add_task("t", functions.exit_with, 3)
    with pytest.raises(TaskExitError, match=r"sys\.exit\(3\)") as caught:
        task.wait()
    assert caught.value.code == 3


def test_limit_of_the_system_on_threads_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pools.GetThreadPool("t", 4)
    blocker = pool.add_task("b", functions.touch_and_wait, "started", "go")
    until(Path("started").exists, "no start")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        task = pool.add_task("t", functions.add, 1)
        other = pools.GetThreadPool("other", 1)
        with pytest.raises(RuntimeError, match="can't start"):
            other.add_task("t", Path("refused").touch)
    Path("go").touch()
    assert (other.num_active_tasks, other.tasks.qsize()) == (0, 0)
    assert task.wait_return(10) == 2
    assert blocker.done()
    assert other.add_task("t", functions.add, 1).wait_return(10) == 2
    assert not Path("refused").exists()


def test_commands_are_at_most_so_many_at_once() -> None:
    pool = pools.GetProcessPool("c", 2)
    tasks = [pool.add_process("c", f"touch started{n}; until [ -e go ]; do sleep 0.01; done; echo {n}") for n in range(4)]
    until(lambda: all(Path(f"started{n}").exists() for n in range(2)), "two do not run at once")
    time.sleep(0.05)
    assert not Path("started2").exists()
    assert not Path("started3").exists()
    Path("go").touch()
    assert [task.wait_return() for task in tasks] == [f"{n}\n" for n in range(4)]


def test_command_runs_once_on_every_pool_of_this_machine() -> None:
    for get in (pools.GetThreadPool, pools.GetProcessPool, pools.GetMultithreadingPool, pools.GetLocalMachinePool):
        pool = get(get.__name__, 2)
        assert pool.add_process("c", f"echo line >> {pool.name}").returncode == 0
        assert Path(pool.name).read_text() == "line\n"
