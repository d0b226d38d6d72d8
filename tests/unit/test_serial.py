"""The serial pool: tasks run in the caller, and yet behave as on every pool."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, NoReturn

import pytest

import nornir_pools as pools
from nornir_pools import TaskExitError, TaskInterruptedError

from .. import functions


def interrupt() -> NoReturn:
    """As Ctrl-C while the task runs."""
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("nothing happened")


def test_task_is_done_when_add_task_returns_and_ran_in_the_caller() -> None:
    pool = pools.GetSerialPool("s", 5)
    task = pool.add_task("t", threading.get_ident)
    assert (task.iscompleted, task.wait_return(), pool.num_threads) == (True, threading.get_ident(), 1)
    assert (pool.num_active_tasks, pool.tasks.qsize(), str(pool)) == (0, 0, "Pool s with 0 active tasks")


def test_error_comes_from_the_wait_and_not_from_add_task() -> None:
    task = pools.GetSerialPool("s").add_task("t", functions.fail, OSError, "text")
    with pytest.raises(OSError, match="text"):
        task.wait()


def test_command_runs_with_its_arguments_and_gives_a_status() -> None:
    task = pools.GetSerialPool("s").add_process("c", "echo $MARK; exit 3", env={"MARK": "m"})
    assert (task.wait_return(), task.returncode) == ("m\n", 3)


def test_exit_and_interrupt_raised_by_a_task_are_its_errors() -> None:
    pool = pools.GetSerialPool("s")
    with pytest.raises(TaskExitError):
        pool.add_task("t", functions.exit_with, 1).wait()
    task = pool.add_task("t", functions.fail, KeyboardInterrupt)
    with pytest.raises(TaskInterruptedError):
        task.wait()


@pytest.mark.parametrize("kind", ["serial", "debug"])
def test_ctrl_c_leaves_the_task_for_the_script(kind: str) -> None:
    pool: Any = pools.GetSerialPool("s") if kind == "serial" else pools.GetClusterPool("s", executor="debug")
    with pytest.raises(KeyboardInterrupt):
        pool.add_task("t", interrupt)
    assert pool.num_active_tasks == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert pool.add_task("t", functions.add, 1).wait_return() == 2


def test_ctrl_c_that_a_task_swallows_still_reaches_the_script() -> None:
    def swallow() -> str:
        try:
            interrupt()
        except KeyboardInterrupt:
            return "went on"

    with pytest.raises(KeyboardInterrupt):
        pools.GetSerialPool("s").add_task("t", swallow)


def test_handler_of_the_scripts_own_is_left_alone() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        task = pools.GetSerialPool("s").add_task("t", os.kill, os.getpid(), signal.SIGINT)
        assert (task.wait_return(), seen) == (None, [signal.SIGINT])
    finally:
        signal.signal(signal.SIGINT, before)


def test_tasks_may_be_added_in_tasks_and_from_other_threads() -> None:
    pool = pools.GetSerialPool("s")

    def outer() -> Any:
        return pool.add_task("inner", functions.add, 1).wait_return()

    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(pool.add_task("outer", outer).wait_return()))
    thread.start()
    thread.join()
    assert got == [2]
    assert pool.add_task("outer", outer).wait_return() == 2


def test_shutdown_takes_the_name_out() -> None:
    pool = pools.GetSerialPool("s")
    pool.shutdown()
    assert not pools.dictKnownPools
    assert pools.GetSerialPool("s") is not pool
