"""Tasks as arguments: replaced by their values, and what becomes of a task if a parent fails or is cancelled."""

from __future__ import annotations

import logging
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions
from ..conftest import until

needs = pytest.mark.needs


def error_of(task: pools.Task) -> BaseException:
    error = task.exception()
    assert error is not None
    return error


@needs("calls")
def test_a_task_as_an_argument_is_replaced_by_its_value_also_in_lists_tuples_and_dicts(pool: PoolBase) -> None:
    parent = pool.add_task("parent", functions.add, 1, 2)
    child = pool.add_task("child", functions.echo, parent, key=parent)
    assert child.wait_return() == ((3,), {"key": 3})
    assert pool.add_task("later", functions.add, parent, 10).wait_return() == 13  # its parent was over before
    held = [parent, 7]
    child = pool.add_task("inside", functions.echo, held, {"a": (parent, [parent])}, (1, {"b": parent}))
    held[:] = ["changed"]
    assert child.wait_return() == (([3, 7], {"a": (3, [3])}, (1, {"b": 3})), {})


@needs("in_process")
def test_a_container_without_a_task_is_passed_as_the_same_object(pool: PoolBase) -> None:
    class Special(dict[str, Any]):
        pass

    parent = pool.add_task("parent", functions.add, 1, 2)
    plain, endless, special = [1, [2, ()]], [object()], Special(parent=parent)
    endless.append(endless)
    mixed = {"plain": plain, "parent": parent}
    (got, same, too, other), _ = pool.add_task("child", functions.echo, mixed, plain, endless, special).wait_return()
    assert got == {"plain": plain, "parent": 3}
    assert got["plain"] is plain
    assert same is plain
    assert too is endless
    assert other is special
    assert other["parent"] is parent


@needs("concurrent")
def test_a_task_starts_only_when_its_parents_are_done(pool: PoolBase, tmp_path: Path) -> None:
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    slow = pool.add_task("slow", functions.wait_for_file, str(gate))
    done = pool.add_task("done", functions.add, 1)
    done.wait()
    given = pool.add_task("given", functions.echo, [done, slow])
    after = pool.with_options(after=[slow]).add_task("after", functions.touch, str(mark))
    pool.add_task("other", functions.add, 1).wait()
    assert not given.done()
    assert not mark.exists()
    assert pool.tasks.qsize() >= 2
    gate.touch()
    assert given.wait_return() == (([2, None],), {})
    after.wait()
    assert mark.exists()


@needs("calls")
def test_a_failed_parent_fails_its_children_at_once_and_is_named(pool: PoolBase, tmp_path: Path) -> None:
    parent = pool.add_task("bad parent", functions.fail, ValueError, "no tiles")
    mark = tmp_path / "mark"
    child = pool.add_task("child", functions.echo, [parent])
    after = pool.with_options(after=parent).add_task("after", functions.touch, str(mark))
    grandchild = pool.add_task("grandchild", functions.echo, child)
    for task, its_parent in ((child, "bad parent"), (after, "bad parent"), (grandchild, "child")):
        error = error_of(task)
        assert isinstance(error, pools.ParentFailedError)
        assert (error.task, error.parent, error.root) == (task.name, its_parent, "bad parent")
        assert f"task {task.name!r} of pool {pool.name!r} was not run" in str(error)
        assert str(error).endswith("task 'bad parent' has failed: ValueError: no tiles") or "'bad parent', has" in str(error)
        assert isinstance(error.__cause__, ValueError)
    assert not mark.exists()


@needs("instant")
def test_a_child_fails_though_other_parents_still_run(pool: PoolBase, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = pool.add_task("slow", functions.wait_for_file, str(gate))
    child = pool.add_task("child", functions.echo, slow, pool.add_task("bad", functions.fail))
    assert isinstance(child.exception(10), pools.ParentFailedError)
    assert not slow.done()
    gate.touch()


@needs("concurrent", "instant")
def test_a_failure_goes_down_a_long_chain(pool: PoolBase, caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    with pools.GetThreadPool("first", 1) as first:
        task = first.add_task("root", lambda: gate.wait(50) and functions.fail(ValueError, "root"))
        for _ in range(3000):
            task = pool.submit(functions.add, task)
        gate.set()
        error = error_of(task)
        assert isinstance(error, pools.ParentFailedError)
        assert error.root == "root"
    pool.wait_completion()
    caplog.clear()


@needs("calls")
def test_a_command_that_fails_fails_its_children_and_its_output_is_their_argument(pool: PoolBase) -> None:
    said = pool.add_process("say", "echo hello")
    assert pool.add_task("child", functions.echo, said).wait_return() == (("hello\n",), {})
    again = pool.add_process("again", ["printf", "%s", said], shell=False)
    assert again.wait_return() == "hello\n"
    bad = pool.add_process("bad", "echo broken >&2; exit 3")
    error = error_of(pool.with_options(after=bad).add_process("next", "echo never"))
    assert isinstance(error, pools.ParentFailedError)
    assert "exit status 3: broken" in str(error)
    assert isinstance(error.__cause__, pools.CommandError)
    assert error.__cause__.returncode == 3
    assert bad.wait_return() == ""


@needs("cancel")
def test_cancelling_goes_from_a_parent_to_its_children_and_not_back(pool: PoolBase, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = pool.add_task("slow", functions.wait_for_file, str(gate), 5)
    child = pool.add_task("child", functions.add, slow)
    grandchild = pool.add_task("grandchild", functions.add, child)
    other = pool.add_task("other", functions.add, slow)
    assert child.cancel()
    assert grandchild.cancelled()
    with pytest.raises(futures.CancelledError):
        grandchild.wait_return()
    gate.touch()
    assert other.wait_return() == 6
    assert not other.cancel()


@needs("concurrent")
def test_shutdown_waits_for_tasks_that_wait_for_parents(pool: PoolBase, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = pool.add_task("slow", functions.wait_for_file, str(gate), 1)
    child = pool.add_task("child", functions.add, slow, 1)
    pool.shutdown(wait=False)
    with pytest.raises(pools.PoolClosedError):
        pool.add_task("refused", functions.add, child)
    gate.touch()
    assert child.wait_return() == 2  # and then it is closed without being told to again: no thread of it is left


@needs("cancel")
def test_shutdown_cancels_tasks_that_wait_for_parents_if_asked_to(pool: PoolBase, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = pool.add_task("slow", functions.touch_and_wait, str(tmp_path / "mark"), str(gate), 1)
    child = pool.add_task("child", functions.add, slow)
    until((tmp_path / "mark").exists, "the parent does not start", 30)
    pool.shutdown(wait=False, cancel_futures=True)
    assert child.cancelled()
    gate.touch()
    assert slow.wait_return() == 1


@needs("calls")
def test_parents_may_be_of_other_pools_and_futures_come_before(pool: PoolBase) -> None:
    with pools.GetThreadPool("other", 1) as other:
        parent = other.add_task("parent", functions.add, 1, 1)
        child = pool.add_task("child", functions.echo, [parent])
        assert other.add_task("back", functions.echo, child).wait_return() == (((([2],), {}),), {})
        foreign: futures.Future[None] = futures.Future()
        timer = threading.Timer(0.1, foreign.set_result, [None])
        timer.start()
        assert pool.with_options(after=[foreign, child]).add_task("after", functions.add, 1).wait_return() == 2
        timer.join()


@needs("crosses")
def test_what_cannot_be_sent_is_refused_at_once_or_fails_the_child_alone(pool: PoolBase) -> None:
    parent = pool.add_task("parent", functions.add, 1)
    with pytest.raises(pools.ArgumentError, match="list, tuple or dict, it would be replaced"):
        pool.add_task("in a set", functions.echo, {parent})
    with pytest.raises(pools.ArgumentError, match="of another executor"):
        pool.add_task("future", functions.echo, futures.Future())
    with pytest.raises(pools.ArgumentError, match="cannot be sent"):
        pool.add_task("lock", functions.echo, parent, threading.Lock())
    with pools.GetThreadPool("other", 1) as other:
        child = pool.add_task("child", functions.echo, other.add_task("lock", threading.Lock))
        with pytest.raises(pools.ArgumentError, match="'child'"):
            child.wait_return()
    assert pool.add_task("fine", functions.add, parent).wait_return() == 3


@needs("crosses")
def test_arrays_come_whole_and_are_the_childs_own(pool: PoolBase) -> None:
    parent = pool.add_task("parent", functions.make_array, 100_000)
    own = functions.make_array(20_000)
    child = pool.add_task("child", functions.sum_two, parent, own)
    own[:] = 0  # it was sent with the values of that moment
    assert child.wait_return() == (sum(range(100_000)), sum(range(20_000)), True)
    assert parent.wait_return().sum() == sum(range(100_000))


@needs("bounded")
def test_tasks_that_wait_for_parents_hold_no_producer_back(pool: PoolBase) -> None:
    gate = threading.Event()
    with pools.GetThreadPool("other", 1) as other:
        parent = other.add_task("parent", gate.wait, 50)
        children = [pool.add_task("child", functions.add, parent) for _ in range(32 * pool.num_threads + 10)]
        assert pool.tasks.qsize() == len(children)
        gate.set()
        assert [child.wait_return() for child in children] == [2] * len(children)


@needs("nested")
def test_a_worker_that_waits_for_a_child_helps_its_parents(pool: PoolBase) -> None:
    def outer() -> Any:
        inner = pool.add_task("inner", functions.add, pool.add_task("deep", functions.add, pool.submit(functions.add, 1)))
        return inner.wait_return()

    assert [task.wait_return(20) for task in [pool.add_task("outer", outer) for _ in range(4)]] == [4] * 4


@needs("in_process", "concurrent")
def test_a_callback_may_wait_for_the_child_of_its_task(pool: PoolBase) -> None:
    gate = threading.Event()
    got: list[Any] = []
    parent = pool.add_task("parent", gate.wait, 50)
    parent.add_done_callback(lambda _: got.append(child.result(20)))  # it is called before the child is launched
    child = pool.add_task("child", functions.add, parent)
    gate.set()
    pool.wait_completion()
    assert got == [2]


@needs("instant")
def test_after_takes_tasks_only(pool: PoolBase) -> None:
    for wrong in (1, ["x"], "name"):
        with pytest.raises(pools.OptionError, match="'after' takes a task"):
            pool.with_options(after=wrong)
    view = pool.with_options(after=pool.add_task("bad", functions.fail)).with_options(timeout_min=5)
    assert isinstance(error_of(view.add_task("still after", functions.add, 1)), pools.ParentFailedError)
    assert view.with_options(after=()).add_task("not any more", functions.add, 1).wait_return() == 2


def test_no_failure_is_logged_from_a_callback(caplog: pytest.LogCaptureFixture) -> None:
    """CPython logs what a done-callback raises, and nothing else would show it."""
    with pools.GetThreadPool("threads", 2) as pool, caplog.at_level(logging.ERROR, "concurrent.futures"):
        bad = pool.add_task("bad", functions.fail)
        for task in (bad, *[pool.add_task("child", functions.add, bad) for _ in range(10)]):
            assert task.exception() is not None
    assert not caplog.records
