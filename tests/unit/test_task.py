"""Tasks: a Future with a name, and a command's status on command tasks only."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import traceback
import weakref
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import CommandError, CommandStartError
from nornir_pools.base import PoolBase
from nornir_pools.parents import Parents

from .. import functions
from ..conftest import until


class Payload:
    """Something a weak reference can be made to."""


def test_task_tells_what_it_is() -> None:
    pool = pools.GetThreadPool("t", 1)
    first, second = pool.add_task("first", functions.add, 1), pool.add_task("second", functions.add, 1)
    assert (first.name, second.task_id > first.task_id, type(first).generate_id() > second.task_id) == ("first", True, True)
    first.wait()
    assert repr(first) == f"<Task {first.task_id} 'first' of pool 't': finished returned int>"
    assert len({first, second, first}) == 2


def test_attributes_of_the_callers_own_may_be_set() -> None:
    task: Any = pools.GetSerialPool("s").add_task("t", functions.add, 1)
    task.tile = (1, 2)
    assert task.tile == (1, 2)


def test_arguments_are_plain_while_the_task_waits_and_let_go_afterwards() -> None:
    pool = pools.GetThreadPool("t", 1)
    blocker = pool.add_task("b", functions.wait_for_file, "go")
    task = pool.add_task("t", functions.add, 1, b=2)
    assert (task.func, task.args, task.kwargs) == (functions.add, (1,), {"b": 2})
    Path("go").touch()
    task.wait()
    assert (task.func, task.args, task.kwargs) == (None, (), {})
    assert blocker.done()


@pytest.mark.parametrize("how", ["finished", "failed", "cancelled"])
def test_arguments_die_with_the_end_of_a_task_that_is_kept(how: str) -> None:
    pool = pools.GetThreadPool("t", 1)
    blocker = pool.add_task("b", functions.wait_for_file, "go")
    payload = Payload()
    watch = weakref.ref(payload)
    task = pool.add_task("t", functions.fail if how == "failed" else functions.echo, ValueError, payload)
    kept = task
    if how == "cancelled":
        assert task.cancel()
    Path("go").touch()
    blocker.wait()
    del payload
    if how == "failed":
        error = task.exception()
        assert isinstance(error, ValueError)
        error.args = ()
        error.__traceback__ = kept._traceback = None
        del error
    elif how == "finished":
        kept._result = task.wait_return() and None
    gc.collect()
    until(lambda: watch() is None, "the argument lives on")


def test_finished_and_dropped_tasks_cost_no_memory() -> None:
    pool = pools.GetThreadPool("t", 1)
    watches = [weakref.ref(pool.submit(functions.add, n)) for n in range(20)]
    failed = weakref.ref(pool.submit(functions.fail))
    pool.wait_completion()
    gc.disable()  # reference counts alone must do
    try:
        until(lambda: not [watch for watch in (*watches, failed) if watch() is not None], "tasks live on")
    finally:
        gc.enable()
    assert len(pool.tasks) == 0


def test_result_dies_with_its_task_in_a_parked_pool() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.submit(Payload)
    watch = weakref.ref(task.result())
    del task
    until(lambda: watch() is None, "the result lives on")


def test_elapsed_time_stands_still_when_the_task_is_over() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", functions.wait_for_file, "go")
    running = task.elapsed_time
    assert task.task_end_time is None
    time.sleep(0.01)
    assert task.elapsed_time > running
    Path("go").touch()
    task.wait()
    end, elapsed = task.task_end_time, task.elapsed_time
    time.sleep(0.01)
    task.set_completion_time()
    assert (task.task_end_time, task.elapsed_time) == (end, elapsed)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00.00"), (59.996, "01:00.00"), (61.5, "01:01.50"), (3723.25, "1:02:03.25")]
)
def test_elapsed_time_is_told(seconds: float, text: str) -> None:
    task = pools.GetSerialPool("s").add_task("t", functions.add, 1)
    task.task_end_time = task.task_start_time + seconds
    assert task.elapsed_time_str == text


def test_wait_that_runs_out_is_the_builtin_timeout_and_the_task_goes_on() -> None:
    task = pools.GetThreadPool("t", 1).add_task("slow", functions.wait_for_file, "go", 7)
    for ask in (task.wait, task.wait_return, task.result, task.exception):
        with pytest.raises(TimeoutError, match=r"'slow' of pool 't' is not done after 0\.01 s"):
            ask(0.01)
        with pytest.raises(futures.TimeoutError):
            ask(timeout=0)
    assert task.iscompleted is False
    Path("go").touch()
    assert task.wait_return(10) == 7
    assert task.iscompleted is True


def test_timeout_error_of_the_task_itself_is_no_unfinished_wait() -> None:
    task = pools.GetThreadPool("t", 1).add_task("t", functions.fail, TimeoutError, "mine")
    with pytest.raises(TimeoutError, match="mine"):
        task.wait(10)
    assert task.done()


def test_traceback_does_not_grow_when_asked_again_and_again() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", functions.fail)
    lengths = []
    for _ in range(100):
        try:
            task.wait()
        except ValueError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
    assert len(set(lengths)) == 1
    assert lengths[0] < 6


def test_traceback_does_not_grow_when_several_threads_ask() -> None:
    task = pools.GetThreadPool("t", 1).add_task("t", functions.fail)
    task.exception()
    lengths: list[int] = []

    def ask() -> None:
        for _ in range(100):
            try:
                task.wait()
            except ValueError as error:
                lengths.append(len(traceback.extract_tb(error.__traceback__)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lengths) == 400
    assert max(lengths) < 20


def test_asking_a_failed_task_leaves_no_cycle() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", functions.fail)
    watch = weakref.ref(task)
    gc.disable()
    try:
        with pytest.raises(ValueError):  # noqa: PT011 - it has no text
            task.wait()
        del task
        until(lambda: watch() is None, "the task lives on")
    finally:
        gc.enable()


def test_error_of_a_thread_is_the_very_object() -> None:
    error = ValueError("mine")
    task = pools.GetThreadPool("t", 1).add_task("t", raise_, error)
    assert task.exception() is error
    assert error.__cause__ is None


def raise_(error: Exception) -> None:
    raise error


def test_ctrl_c_at_the_very_beginning_of_a_wait_leaves_the_task_free_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(threading.Condition):
        def __enter__(self) -> bool:
            super().__enter__()
            raise KeyboardInterrupt  # the lock is taken, but `with` does not know of it yet

    go = threading.Event()
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", go.wait)
    usual = task._condition
    with monkeypatch.context() as patched:
        patched.setattr(task, "_condition", Interrupted(usual._lock))
        with pytest.raises(KeyboardInterrupt):
            task.wait()
    go.set()
    until(lambda: task._state == "FINISHED", "the task does not end")  # (`done` would take the lock)


def test_task_can_be_awaited() -> None:
    async def script() -> Any:
        pool = pools.GetThreadPool("t", 1)
        first = await pool.add_task("t", functions.add, 1, 2)
        return first, await asyncio.get_running_loop().run_in_executor(pool, functions.add, 3, 4)

    assert asyncio.run(script()) == (3, 7)


def test_asking_for_all_at_once_counts_as_asking(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(futures.Future, "_get_snapshot", lambda task: (task.done(), task._exception), raising=False)
    pool = pools.GetThreadPool("t", 1)
    task = pool.submit(functions.fail)
    futures.wait([task])
    done, error = task._get_snapshot()
    assert (done, type(error)) == (True, ValueError)
    pool.shutdown()
    assert not caplog.records


def test_cancelled_task_says_so_and_counts_as_completed() -> None:
    pool = pools.GetThreadPool("t", 1)
    pool.add_task("b", functions.wait_for_file, "go")
    task = pool.add_task("t", functions.add, 1)
    assert task.cancel()
    assert task.cancel()
    assert (task.cancelled(), task.iscompleted) == (True, True)
    for ask in (task.wait, task.wait_return, task.exception):
        with pytest.raises(futures.CancelledError):
            ask()
    Path("go").touch()
    pool.wait_completion()


def test_running_and_finished_tasks_cannot_be_cancelled() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", functions.touch_and_wait, "started", "go")
    until(Path("started").exists, "no start")
    assert not task.cancel()
    Path("go").touch()
    task.wait()
    assert not task.cancel()
    assert not task.cancelled()


def test_function_task_has_no_returncode() -> None:
    for get in (pools.GetThreadPool, pools.GetMultithreadingPool, pools.GetLocalMachinePool, pools.GetSerialPool):
        task = get(get.__name__, 1).add_task("t", functions.add, 1)
        assert not hasattr(task, "returncode")


def test_returncode_waits_for_the_command() -> None:
    pool = pools.GetProcessPool("c", 1)
    task = pool.add_process("c", "until [ -e go ]; do sleep 0.01; done; exit 3")
    assert task.iscompleted is False
    threading.Timer(0.1, Path("go").touch).start()
    assert task.returncode == 3
    assert (task.iscompleted, task.failed, task.wait_return(), task.exception()) == (True, True, "", None)


def test_returncode_is_never_asked_for_by_looking_at_a_task() -> None:
    pool = pools.GetProcessPool("c", 1)
    task = pool.add_process("c", "until [ -e go ]; do sleep 0.01; done")
    assert "running" in repr(task) or "pending" in repr(task)
    assert "returncode" in dir(task)
    assert task.failed is False
    Path("go").touch()
    task.wait()
    assert task.failed is False


def test_command_without_a_status_raises_its_own_error_for_returncode() -> None:
    task = pools.GetProcessPool("c", 1).add_process("c", ["no_such_program"], shell=False)
    for _ in range(2):
        with pytest.raises(CommandStartError, match="could not be started"):
            hasattr(task, "returncode")
    assert (task.iscompleted, task.failed, task.stdoutdata) == (True, True, "")


def test_killed_command_has_a_negative_returncode_and_raises() -> None:
    task = pools.GetProcessPool("c", 1).add_process("c", "echo out; echo err >&2; kill -TERM $$")
    with pytest.raises(CommandError, match="SIGTERM"):
        task.wait()
    assert (task.returncode, task.stdoutdata, task.stderrdata) == (-15, "out\n", "err\n")


def test_command_polled_while_it_prints_much_comes_to_an_end() -> None:
    task = pools.GetProcessPool("c", 1).add_process("c", "head -c 300000 /dev/zero | tr '\\0' x")
    assert task.iscompleted in (True, False)
    until(lambda: task.iscompleted, "the command hangs")
    assert task.iscompleted is True
    assert len(task.wait_return()) == len(task.stdoutdata) == 300_000


def test_cancelled_command_has_no_status() -> None:
    pool = pools.GetProcessPool("c", 1)
    pool.add_task("b", functions.wait_for_file, "go")
    task = pool.add_process("c", "touch ran")
    assert task.cancel()
    with pytest.raises(futures.CancelledError):
        _ = task.returncode
    assert task.failed
    Path("go").touch()
    pool.wait_completion()
    assert not Path("ran").exists()


def test_task_is_made_as_the_standard_librarys_future_is() -> None:
    task = pools.GetSerialPool("t").add_task("t", functions.add, 1)
    fresh = pools.Task(task._pool, "t", functions.add, (), {})
    future: futures.Future[Any] = futures.Future()
    for name, value in vars(future).items():
        assert name == "_condition" or getattr(fresh, name) == value
    used = {"acquire", "release", "wait", "notify_all", "__enter__", "__exit__"}
    assert used <= set(dir(fresh._condition))


def test_wait_in_several_threads_ends_with_the_task_or_its_time() -> None:
    pool = pools.GetThreadPool("t", 1)
    go = threading.Event()
    task = pool.add_task("t", go.wait)
    with pytest.raises(TimeoutError):
        task.wait(0.001)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(task.result(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert got == [True] * 3


class Late(PoolBase):
    """A pool whose help before a wait takes all of the time."""

    def _assist(self, task: pools.Task, timeout: float | None) -> float | None:
        return 0.0


def test_time_that_was_spent_on_help_is_part_of_the_time_to_wait() -> None:
    pool = Late("late", 1)
    parent, child = (pools.Task(pool, name, functions.add, (1,), {}) for name in ("parent", "child"))
    begun = time.monotonic()
    Parents(child, [parent], ()).wait(5)
    with pytest.raises(TimeoutError, match="task 'parent' of pool 'late' is not done after 5 s"):
        parent.wait(5)
    assert time.monotonic() - begun < 4
