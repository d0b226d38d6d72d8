"""What all pools share: refusing what is wrong before anything changes, counting, waiting, closing, forking."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import OptionError, ParentFailedError, PoolClosedError, PoolError, registry
from nornir_pools.base import WAITING_PER_WORKER, PoolBase
from nornir_pools.tasks import Unasked

from .. import functions
from ..conftest import until


def in_forked_child(check: Callable[[], None]) -> str:
    """Run `check` in a forked child; returns what it raised, or "" if it did not."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            check()
        except BaseException as error:
            os.write(theirs, f"{type(error).__name__}: {error}"[:4000].encode() or b"?")
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        text = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return text or (f"status {status}" if status else "")


@pytest.mark.parametrize("what", [None, 5, "abs", functions.add(1, 2)])
def test_what_is_not_callable_is_refused_and_leaves_nothing(what: Any) -> None:
    for pool in (pools.GetThreadPool("t", 1), pools.GetMultithreadingPool("p", 1), pools.GetSerialPool("s")):
        with pytest.raises(TypeError, match=f"task 'wrong' of pool '{pool.name}': .* is not callable"):
            pool.add_task("wrong", what)
        with pytest.raises(TypeError, match="is not callable"):
            pool.submit(what)
        assert (len(pool.tasks), pool.num_active_tasks) == (0, 0)


@pytest.mark.parametrize("number", [0, -1, 2.5, "2"])
def test_wrong_number_of_threads_is_named_and_no_pool_is_made(number: Any) -> None:
    for get in (pools.GetThreadPool, pools.GetProcessPool, pools.GetClusterPool):
        with pytest.raises(OptionError, match=f"num_threads of pool 'wrong' must be a whole number .* not {number!r}"):
            get("wrong", number)
    for get_limited in (pools.GetMultithreadingPool, pools.GetLocalMachinePool):
        with pytest.raises((OptionError, TypeError)):
            get_limited("wrong", number)
    assert not pools.dictKnownPools


def test_options_of_ours_belong_to_the_function() -> None:
    pool = pools.GetThreadPool("t", 1)
    given = {"name": 1, "func": 2, "timeout": 3, "self": 4, "options": 5, "may_block": 6, "kind": 7}
    assert pool.add_task("t", functions.echo, **given).wait_return() == ((), given)
    assert pool.submit(functions.echo, **given, fn=8).result() == ((), {**given, "fn": 8})


def test_name_of_a_task_is_a_text() -> None:
    pool: Any = pools.GetThreadPool("t", 1)
    assert pool.add_task(5, functions.add, 1).name == "5"
    assert pool.submit(functions.add, 1).name == "add"


def test_tasks_are_counted_whether_they_wait_or_run() -> None:
    pool = pools.GetThreadPool("t", 1)
    assert (pool.num_active_tasks, pool.queued_tasks, len(pool.tasks)) == (0, 0, 0)
    tasks = [pool.add_task("t", functions.touch_and_wait, f"started{n}", "go") for n in range(3)]
    until(Path("started0").exists, "no start")
    assert (pool.num_active_tasks, pool.active_tasks, pool.ActiveTasks) == (3, 3, 3)
    assert (pool.queued_tasks, pool.tasks.qsize(), len(pool.tasks), list(pool.tasks)) == (2, 2, 3, tasks)
    assert str(pool) == "Pool t with 3 active tasks"
    Path("go").touch()
    pool.wait_completion()
    assert (pool.num_active_tasks, pool.tasks.qsize(), list(pool.tasks)) == (0, 0, tasks)


def test_add_task_blocks_while_too_many_wait_and_submit_does_not() -> None:
    pool = pools.GetProcessPool("c", 1)
    pool.add_task("b", functions.touch_and_wait, "started", "go")
    until(Path("started").exists, "no start")
    for _ in range(WAITING_PER_WORKER):
        pool.submit(functions.add, 1)
    added: list[Any] = []
    thread = threading.Thread(target=lambda: added.append(pool.add_process("c", "touch ran")))
    thread.start()
    pool.submit(functions.add, 1)
    thread.join(0.2)
    assert thread.is_alive()
    assert not Path("ran").exists()  # the command is not started before it has a place
    Path("go").touch()
    thread.join()
    added[0].wait()
    assert Path("ran").exists()


def test_blocked_add_task_is_refused_when_the_pool_closes() -> None:
    pool = pools.GetThreadPool("t", 1)
    pool.add_task("b", functions.touch_and_wait, "started", "go")
    until(Path("started").exists, "no start")
    for _ in range(WAITING_PER_WORKER):
        pool.submit(functions.add, 1)
    errors: list[BaseException] = []

    def add() -> None:
        try:
            pool.add_task("t", functions.add, 1)
        except PoolClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    until(lambda: bool(pool._waiters), "it does not block")
    pool.shutdown(wait=False)
    Path("go").touch()
    thread.join()
    assert len(errors) == 1


def test_closed_pool_refuses_and_starts_nothing() -> None:
    for pool in (pools.GetThreadPool("t", 1), pools.GetProcessPool("c", 1), pools.GetMultithreadingPool("p", 1)):
        pool.shutdown()
        pool.shutdown()
        with pytest.raises(PoolClosedError, match=f"pool '{pool.name}' was shut down; ask for it again"):
            pool.add_task("t", functions.add, 1)
        with pytest.raises(PoolClosedError):
            pool.add_process("c", "touch ran")
        with pytest.raises(RuntimeError):
            pool.submit(functions.add, 1)
        assert (pool.num_active_tasks, len(pool.tasks)) == (0, 0)
    assert not Path("ran").exists()


def test_waiting_for_the_own_pool_is_an_error_and_no_deadlock() -> None:
    made = (pools.GetThreadPool("t", 1), pools.GetSerialPool("s"), pools.GetClusterPool("d", executor="debug"))
    for pool in made:
        with pytest.raises(PoolError, match="would wait for itself"):
            pool.add_task("t", pool.wait_completion).wait()


def test_wait_completion_raises_no_error_of_a_task_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    pool = pools.GetThreadPool("t", 1)
    for n in range(5):
        pool.add_task(f"bad{n}", functions.fail, ValueError, "same reason")
    pool.add_task("other", functions.fail, OSError, "another\nsecond line")
    pool.add_task("silent", functions.fail, functions.NoTextError)
    with caplog.at_level(logging.WARNING, "nornir_pools"):
        pool.wait_completion()
        pool.wait_completion()
        pool.shutdown()
    (record,) = caplog.records
    text = record.getMessage()
    assert "pool 't': 7 failed tasks nobody asked about" in text
    assert "5 × ValueError: same reason (tasks 'bad0', 'bad1', 'bad2' and 2 more)" in text
    assert "1 × OSError: another (" in text
    assert "NoTextError" in text


def test_failures_that_differ_in_numbers_and_names_have_one_cause(caplog: pytest.LogCaptureFixture) -> None:
    pool = pools.GetSerialPool("s")
    for number in range(30):
        pool.add_task(f"tile {number}", functions.fail, OSError, f"task 'tile {number}': its job 7_{number} was lost")
        pool.add_task("other", functions.fail, ValueError, "x" * number)
    pool.wait_completion()
    (record,) = caplog.records
    assert "30 × OSError: task 'tile 0': its job 7_0 was lost (and alike; tasks 'tile 0'," in record.getMessage()
    assert record.getMessage().count("\n") == 11
    assert record.getMessage().endswith("\n  and 21 other causes")


def test_failed_commands_do_not_gather_in_a_pool_that_is_not_checked() -> None:
    pool = pools.GetProcessPool("c", 1)
    pool.add_process("c", "exit 1")
    pool.wait_completion()
    pool.wait_completion(check=True)


def test_failure_that_was_asked_about_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    pool = pools.GetThreadPool("t", 1)
    for ask in ("wait", "wait_return", "result", "exception"):
        task = pool.add_task("bad", functions.fail)
        with contextlib.suppress(ValueError):
            getattr(task, ask)()
    pool.shutdown()
    assert not caplog.records


def test_failure_of_a_parent_that_was_asked_about_through_its_child_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    first, second = pools.GetThreadPool("first", 1), pools.GetThreadPool("second", 1)
    for asked in (True, False):
        parent = first.add_task("parent", functions.fail, ValueError, "no tiles")
        grandchild = second.add_task("grandchild", functions.add, second.add_task("child", functions.add, parent))
        if asked:
            assert isinstance(grandchild.exception(), ParentFailedError)
        first.wait_completion()
        second.wait_completion()
        told = [record.getMessage().partition(" nobody")[0] for record in caplog.records]
        assert told == ([] if asked else ["pool 'first': 1 failed tasks", "pool 'second': 2 failed tasks"])


def test_asking_while_failures_are_told_harms_nothing() -> None:
    class Asked(dict[int, tuple[str, str]]):
        """As if another thread had asked about each just when it is looked at."""

        def __len__(self) -> int:
            count = super().__len__()
            self.clear()
            return count

        def __iter__(self) -> Iterator[int]:
            return iter([*self.keys()])

    unasked = Unasked()
    unasked._failures = Asked({1: ("a", "b")})
    unasked.check("p")


def test_a_task_that_is_being_completed_is_among_the_tasks() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", functions.wait_for_file, "go")
    seen: list[bool] = []
    task.add_done_callback(lambda done: seen.append(done in list(pool.tasks)))
    Path("go").touch()
    pool.wait_completion()
    assert seen == [True]


def test_a_task_that_ends_while_dead_entries_are_swept_out_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pools.GetSerialPool("s")
    first, second = (pools.Task(pool, name, functions.add, (1,), {}) for name in ("first", "second"))

    def ref(task: pools.Task) -> weakref.ref[pools.Task]:
        if task is first:  # another thread sweeps just now
            pool.tasks.remember(second)
        return weakref.ref(task)

    monkeypatch.setattr("nornir_pools.tasks.weakref", SimpleNamespace(ref=ref))
    pool.tasks._sweep_at = 1
    pool.tasks.remember(first)
    assert list(pool.tasks) == [first, second]


def test_callback_may_add_tasks_and_must_not_harm_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    pool = pools.GetThreadPool("t", 1)
    added: list[Any] = []

    def fill(task: Any) -> None:
        added.extend(pool.add_task("more", functions.add, n) for n in range(2 * WAITING_PER_WORKER))
        raise RuntimeError("of the callback")

    pool.add_task("t", functions.add, 1).add_done_callback(fill)
    until(lambda: len(added) == 2 * WAITING_PER_WORKER, "the callback hangs")
    assert [task.wait_return() for task in added] == [n + 1 for n in range(2 * WAITING_PER_WORKER)]


def test_wait_completion_includes_the_callbacks() -> None:
    pool = pools.GetThreadPool("t", 1)
    seen: list[int] = []

    def note(task: Any) -> None:
        time.sleep(0.05)
        seen.append(task.result())

    pool.add_task("t", functions.add, 1).add_done_callback(note)
    pool.wait_completion()
    assert seen == [2]


def test_with_statement_and_map_work_as_in_the_standard_library() -> None:
    with pools.GetThreadPool("t", 2) as pool:
        assert list(pool.map(functions.add, range(100), range(100))) == [2 * n for n in range(100)]
    assert pool.closed
    assert not pools.dictKnownPools


def test_shutdown_can_cancel_what_waits() -> None:
    pool = pools.GetThreadPool("t", 1)
    running = pool.add_task("b", functions.touch_and_wait, "started", "go")
    until(Path("started").exists, "no start")
    waiting = [pool.submit(functions.add, n) for n in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert [task.cancelled() for task in waiting] == [True] * 3
    assert not running.done()
    Path("go").touch()
    pool.shutdown()
    assert running.done()


def test_shutdown_from_a_task_of_the_pool_does_not_hang() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("t", pool.shutdown, False)
    task.wait(10)
    pool.shutdown()


def test_share_gives_the_value_itself_on_this_machine() -> None:
    value = [1]
    assert pools.GetThreadPool("t", 1).share(value) is value


def test_pool_without_a_launcher_is_abstract() -> None:
    pool = PoolBase("abstract", 1)
    with pytest.raises(NotImplementedError):
        pool.add_task("t", functions.add, 1)
    assert pool.num_active_tasks == 0
    pool.shutdown()


def test_forked_child_can_use_the_thread_pools_anew() -> None:
    pool = pools.GetThreadPool("t", 2)
    pool.add_task("t", functions.add, 1).wait()

    def check() -> None:
        assert not pools.dictKnownPools
        for each in (pool, pools.GetThreadPool("t", 1), pools.GetProcessPool("c", 1)):
            assert each.add_task("t", functions.add, 1).wait_return(10) == 2
        assert pools.GetProcessPool("c", 1).add_process("c", "echo a").wait_return(10) == "a\n"
        pools.ClosePools()

    assert in_forked_child(check) == ""
    assert pools.dictKnownPools["t"] is pool
    assert pool.add_task("t", functions.add, 1).wait_return() == 2


def test_forked_child_can_use_worker_processes_anew() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    worker = pool.add_task("t", functions.process_id).wait_return()

    def check() -> None:
        assert pool.add_task("t", functions.process_id).wait_return(10) not in (worker, os.getpid())
        pool.shutdown()

    assert in_forked_child(check) == ""
    assert pool.add_task("t", functions.process_id).wait_return() == worker


def test_tasks_of_the_parent_fail_in_a_forked_child_and_go_on_in_the_parent() -> None:
    pool = pools.GetThreadPool("t", 1)
    task = pool.add_task("mine", functions.touch_and_wait, "started", "go", 5)
    waiting = pool.add_task("too", functions.add, 1)
    until(Path("started").exists, "no start")

    def check() -> None:
        for each in (task, waiting):
            each.wait(10)

    text = in_forked_child(check)
    assert text == "PoolError: task 'mine' of pool 't' belongs to the process that this one was forked from"
    Path("go").touch()
    assert (task.wait_return(), waiting.wait_return()) == (5, 2)


def test_fork_while_other_threads_hold_the_locks_is_safe() -> None:
    pool = pools.GetThreadPool("t", 2)
    pool.submit(functions.add, 1).wait()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with registry._lock, pool._lock, pool._changed:
            held.set()
            release.wait()

    def check() -> None:
        signal.alarm(5)  # a deadlock ends here
        pool.add_task("t", functions.add, 1).wait()
        pool.wait_completion()
        assert pools.GetThreadPool("t", 1) is not pool

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        complaint = in_forked_child(check)
    finally:
        release.set()
        thread.join()
    assert complaint == ""


def test_progress_of_a_pool_writes_nothing_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    pool = pools.GetThreadPool("t", 1)
    for n in range(5):
        pool.add_task("t", functions.add, n)
    pools.WaitOnAllPools()
    pools.ClosePools()
    assert capfd.readouterr() == ("", "")
