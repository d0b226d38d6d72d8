"""A task is a Future: its states, its callbacks, waiting for one or for many, and awaiting it.

Which of CPython's own checks each test stands for is listed in `cpython.py`.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions
from ..backends import Backend
from ..conftest import until
from ..functions import Busy


def waiter(ask: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that asks, and what comes of it."""
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(ask())
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, got


def until_gone(watch: weakref.ref[Any]) -> None:
    until(lambda: gc.collect() >= 0 and watch() is None, "it is kept alive")


def test_a_task_that_is_over_tells_so_and_is_final(pool: PoolBase) -> None:
    good, bad = pool.submit(functions.add, 41), pool.submit(functions.fail, OSError, "marker")
    futures.wait([good, bad], timeout=50)
    assert [good.result(timeout=0), good.exception(timeout=0), good.wait_return(0)] == [42, None, 42]
    with pytest.raises(OSError, match="marker"):
        bad.result(timeout=0)
    assert isinstance(bad.exception(timeout=0), OSError)
    for task in (good, bad):
        assert (task.done(), task.running(), task.cancelled(), task.cancel()) == (True, False, False, False)
        assert not pool.cancel(task)
        assert not pool.cancel(task, running=True)
    for task in (good, bad):
        with pytest.raises(futures.InvalidStateError, match=r"<Task \d+ "):
            task.set_result(1)
        with pytest.raises(futures.InvalidStateError, match=r"<Task \d+ "):
            task.set_exception(ValueError())
    assert repr(good).endswith(f"'add' of pool {pool.name!r}: finished returned int>")
    assert repr(bad).endswith(f"'fail' of pool {pool.name!r}: finished raised OSError>")
    assert good.result() == 42
    for error in (functions.FalseError, functions.EmptyError):
        with pytest.raises(error, match="falsy"):
            pool.submit(functions.fail, error, "falsy").result(50)
    with pytest.raises(TypeError):
        pool.submit(fn=functions.add)  # type: ignore[call-arg]
    assert pool.submit(functions.echo, 1, self=2, fn=3).result(50) == ((1,), {"self": 2, "fn": 3})


@pytest.mark.needs("cancel")
def test_a_task_goes_through_its_states(pool: PoolBase, tmp_path: Path) -> None:
    busy = Busy(pool, tmp_path)
    running = busy.tasks[0]
    waiting, cancelled = pool.add_task("w", functions.add, 41), pool.add_task("c", functions.touch, "touched")
    asking = [waiter(lambda: cancelled.result(50)), waiter(lambda: cancelled.exception(50))]
    assert (running.running(), running.done(), running.cancelled(), running.cancel()) == (True, False, False, False)
    assert (waiting.running(), waiting.done(), waiting.cancelled()) == (False, False, False)
    for task in (running, waiting):
        for ask in (task.result, task.exception, task.wait_return):
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError):
                    ask(timeout=timeout)
    assert "pending>" in repr(waiting)
    assert cancelled.cancel()
    assert cancelled.cancel()  # once more does no harm
    assert pool.cancel(cancelled, running=True)
    assert (cancelled.done(), cancelled.running(), cancelled.cancelled()) == (True, False, True)
    assert "cancelled>" in repr(cancelled)
    for ask in (cancelled.result, cancelled.exception, cancelled.wait_return):
        with pytest.raises(futures.CancelledError):
            ask(timeout=0)
    for thread, got in asking:
        thread.join(50)
        assert isinstance(got[0], futures.CancelledError)
    asking = [waiter(lambda: waiting.result(50)), waiter(lambda: waiting.exception(50))]
    busy.end()
    for thread, _ in asking:
        thread.join(50)
    assert [got for _, got in asking] == [[42], [None]]
    pool.shutdown()
    assert not Path("touched").exists()


def test_callbacks_run_in_order_and_one_that_fails_costs_nothing(
    pool: PoolBase, backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beside = "concurrent" in backend.capabilities  # else the tasks are over when callbacks are added
    seen: list[Any] = []
    threads: list[threading.Thread] = []

    def fail(task: Any) -> None:
        threads.append(threading.current_thread())
        raise ValueError("of a callback")

    def leave(task: Any) -> None:
        raise SystemExit

    if not beside:
        (tmp_path / "go").touch()
    tasks = [pool.submit(functions.wait_for_file, str(tmp_path / "go"), 5), pool.submit(functions.fail, OSError)]
    for task in tasks:
        for callback in (lambda task: seen.append((task, 1)), fail, lambda task: seen.append((task, 2))):
            task.add_done_callback(callback)
    if beside:  # (else it would end this thread)
        tasks[0].add_done_callback(leave)
    tasks[0].add_done_callback(lambda task: seen.append((task, task.result())))
    (tmp_path / "go").touch()
    until(lambda: len(seen) == 5, "callbacks have not run", 40)
    assert [what for task, what in seen if task is tasks[0]] == [1, 2, 5]
    assert [what for task, what in seen if task is tasks[1]] == [1, 2]
    assert (tasks[0].result(50), type(tasks[1].exception(50))) == (5, OSError)
    assert (threads[0] is threading.main_thread()) is not beside
    tasks[0].add_done_callback(lambda task: threads.append(threading.current_thread()))
    assert threads[-1] is threading.main_thread()  # that of one which is added when all is over
    assert caplog.text.count("exception calling callback for <Task") == 2 + beside
    assert "of a callback" in caplog.text
    assert pool.submit(functions.add, 1).result(50) == 2  # no thread of the pool was lost


@pytest.mark.needs("cancel")
def test_callbacks_of_a_cancelled_task_run_where_it_is_cancelled(pool: PoolBase, tmp_path: Path) -> None:
    busy = Busy(pool, tmp_path)
    task = pool.submit(functions.add, 1)
    seen: list[tuple[bool, threading.Thread]] = []
    task.add_done_callback(lambda task: seen.append((task.cancelled(), threading.current_thread())))
    assert task.cancel()
    task.add_done_callback(lambda task: seen.append((task.cancelled(), threading.current_thread())))
    assert seen == [(True, threading.current_thread())] * 2
    busy.end()


@pytest.mark.needs("cancel")
def test_waiting_for_many_tasks_of_several_pools(pool: PoolBase, tmp_path: Path) -> None:
    other = pools.GetThreadPool("other", 1)
    good, bad = other.submit(functions.add, 1), other.submit(functions.fail)
    futures.wait([good, bad])
    busy = Busy(pool, tmp_path)
    running, waiting, cancelled = busy.tasks[0], pool.submit(functions.add, 1), pool.submit(functions.add, 2)
    cancelled.cancel()
    over = {good, bad, cancelled}

    # Those that are done come without waiting, each once, and the rest is told when the time is up.
    for timeout in (0, 0.05):
        completed = futures.as_completed([*over, *over, running, waiting], timeout=timeout)
        assert {next(completed) for _ in range(3)} == over
        with pytest.raises(futures.TimeoutError, match=r"^2 \(of 5\) futures unfinished$"):
            next(completed)
        assert futures.wait([*over, running], timeout=timeout) == (over, {running})
    first = futures.wait([good, cancelled, running], timeout=50, return_when=futures.FIRST_COMPLETED)
    assert first == ({good, cancelled}, {running})
    failed = futures.wait([bad, running], timeout=50, return_when=futures.FIRST_EXCEPTION)
    assert failed == ({bad}, {running})
    none_failed = futures.wait([good, running], timeout=0.05, return_when=futures.FIRST_EXCEPTION)
    assert none_failed == ({good}, {running})

    # What ends while somebody waits wakes them.
    go = tmp_path / "fails"
    fails = other.submit(functions.wait_and_fail, str(go))
    asking = [
        waiter(lambda how=how: futures.wait([fails, running, running], timeout=50, return_when=how))  # type: ignore[misc]
        for how in (futures.FIRST_COMPLETED, futures.FIRST_EXCEPTION)
    ]
    go.touch()
    for thread, got in asking:
        thread.join(50)
        assert got == [({fails}, {running})]
    everyone = waiter(lambda: futures.wait([*over, *busy.tasks, waiting], timeout=50))
    in_turn = waiter(lambda: list(futures.as_completed(iter([running, running, waiting]), timeout=50)))
    busy.end()
    for thread, _ in (everyone, in_turn):
        thread.join(50)
    assert everyone[1] == [({*over, *busy.tasks, waiting}, set())]
    assert (len(in_turn[1][0]), set(in_turn[1][0])) == (2, {running, waiting})


def test_nothing_keeps_what_was_taken_alive(pool: PoolBase) -> None:
    tasks = [pool.submit(functions.make_plain_error) for _ in range(4)]
    futures.wait(tasks, timeout=50)
    for done in futures.as_completed(tasks, timeout=50):
        tasks = [task for task in tasks if task is not done]
        watch = weakref.ref(done)
        del done
        until_gone(watch)
    for size in (1, 2):
        for value in pool.map(functions.make_plain_error, range(4), chunksize=size):
            watch = weakref.ref(value)
            del value
            until_gone(watch)


def test_tasks_go_with_asyncio(pool: PoolBase) -> None:
    async def all_of_it() -> None:
        loop = asyncio.get_running_loop()
        assert await pool.submit(functions.add, 1) == 2
        assert await asyncio.wrap_future(pool.submit(functions.add, 2)) == 3
        assert await asyncio.gather(*(pool.submit(functions.add, i) for i in range(4))) == [1, 2, 3, 4]
        wrapped = [asyncio.wrap_future(pool.submit(functions.add, i)) for i in range(4)]
        assert sorted([await task for task in asyncio.as_completed(wrapped, timeout=50)]) == [1, 2, 3, 4]
        assert await loop.run_in_executor(pool, functions.add, 4) == 5
        assert await loop.run_in_executor(pool.with_options(cpus_per_task=1), functions.add, 5) == 6
        with pytest.raises(ValueError, match="marker"):
            await pool.submit(functions.fail, ValueError, "marker")
        with pytest.raises(OSError, match="marker"):
            await loop.run_in_executor(pool, functions.fail, OSError, "marker")

    asyncio.run(all_of_it())


@pytest.mark.needs("cancel")
def test_asyncio_cancels_tasks_and_hears_of_those_that_are_cancelled(pool: PoolBase, tmp_path: Path) -> None:
    busy = Busy(pool, tmp_path)
    waiting = [pool.submit(functions.touch, "touched") for _ in range(4)]

    async def all_of_it() -> None:
        awaiting = asyncio.ensure_future(waiting[0])
        wrapped = asyncio.wrap_future(waiting[1])
        gathered = asyncio.gather(waiting[2], asyncio.wrap_future(waiting[3]), return_exceptions=True)
        await asyncio.sleep(0)
        awaiting.cancel()
        wrapped.cancel()
        waiting[2].cancel()
        gathered_last = asyncio.wait_for(asyncio.wrap_future(busy.tasks[0]), 0.01)
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):  # and it asked for the task to be cancelled, in vain
            await gathered_last
        waiting[3].cancel()
        assert [type(error) for error in await gathered] == [asyncio.CancelledError] * 2
        for future in (awaiting, wrapped):
            with pytest.raises(asyncio.CancelledError):
                await future

    asyncio.run(all_of_it())
    until(lambda: all(task.cancelled() for task in waiting), "not cancelled")
    assert not busy.tasks[0].cancelled()
    busy.end()
    pool.shutdown()
    assert not Path("touched").exists()
