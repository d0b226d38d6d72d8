"""Errors: they come back as themselves, from every kind of end that a task can come to."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions


def text_of(error: BaseException) -> str:
    """What a user would see of an error."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def error_of(task: pools.Task) -> BaseException:
    error = task.exception(50)
    assert error is not None
    return error


def still_works(pool: PoolBase) -> bool:
    return bool(pool.add_task("good", functions.add, 1, 2).wait_return(50) == 3)


def test_the_original_exception_is_raised_every_time_it_is_asked_for(pool: PoolBase) -> None:
    task = pool.add_task("bad", functions.fail, functions.PlainError, "marker", 7)
    for ask in (task.wait_return, task.wait, task.result, task.wait_return):
        with pytest.raises(functions.PlainError, match="marker") as caught:
            ask(50)
        assert caught.value.args == ("marker", 7)
    assert task.iscompleted is True
    assert still_works(pool)


def test_the_traceback_does_not_grow_with_each_time(pool: PoolBase) -> None:
    task = pool.add_task("bad", functions.fail, ValueError, "marker")
    lengths = set()
    for _ in range(5):
        with pytest.raises(ValueError, match="marker") as caught:
            task.wait_return()
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1


def test_the_error_shows_the_line_that_failed(pool: PoolBase) -> None:
    text = text_of(error_of(pool.add_task("bad", functions.fail_with_cause)))
    assert "in fail_with_cause" in text
    assert "KeyError: 'missing'" in text  # the chain of causes is there as well


@pytest.mark.needs("crosses")
def test_an_error_from_elsewhere_names_task_host_and_process(pool: PoolBase) -> None:
    cause = error_of(pool.add_task("bad task", functions.fail)).__cause__
    assert isinstance(cause, pools.RemoteTraceback)
    assert "Task 'bad task' failed in process" in str(cause)


@pytest.mark.needs("jobs")
def test_an_error_from_a_job_names_job_and_log(pool: PoolBase) -> None:
    task = pool.add_task("bad", functions.fail)
    text = str(error_of(task).__cause__)
    assert f"job {task.facts['job']} (log: {task.facts['log']})" in text
    assert Path(task.facts["log"]).is_file()


@pytest.mark.needs("in_process")
def test_an_error_of_this_process_is_the_same_object(pool: PoolBase) -> None:
    raised = ValueError("mine")

    def fail() -> None:
        raise raised

    error = error_of(pool.add_task("bad", fail))
    assert error is raised
    assert error.__cause__ is None


def test_an_exception_with_a_constructor_of_its_own_keeps_type_and_attributes(pool: PoolBase) -> None:
    error = error_of(pool.add_task("own", functions.fail, functions.OwnConstructorError, 7, "tile 3"))
    assert type(error) is functions.OwnConstructorError
    assert error.code == 7
    assert str(error) == "code 7 at tile 3"


def test_an_exception_class_of_the_script_is_the_same_class_here(pool: PoolBase) -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("local")

    with pytest.raises(LocalError, match="local"):
        pool.add_task("local", fail).wait_return(50)


def test_standard_exceptions_keep_their_parts(pool: PoolBase) -> None:
    error = error_of(pool.add_task("missing", functions.run_program, "/no/such/program"))
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (2, "/no/such/program")


@pytest.mark.needs("crosses")
def test_an_exception_that_cannot_be_sent_is_told(pool: PoolBase) -> None:
    error = error_of(pool.add_task("locked", functions.fail, functions.LockInsideError))
    assert isinstance(error, pools.ResultError)
    assert "'locked'" in str(error)
    assert "LockInsideError: lock inside" in str(error)
    assert still_works(pool)


def test_an_exception_whose_text_fails_is_still_an_error(pool: PoolBase) -> None:
    assert error_of(pool.add_task("no text", functions.fail, functions.NoTextError)) is not None
    assert still_works(pool)


@pytest.mark.needs("crosses")
@pytest.mark.parametrize("kind", ["generator", "lock", "unsendable"])
def test_a_result_that_cannot_be_sent_is_told(pool: PoolBase, kind: str) -> None:
    error = error_of(pool.add_task("odd result", functions.give, kind))
    assert isinstance(error, pools.ResultError)
    assert "the result of task 'odd result'" in str(error)
    assert still_works(pool)


@pytest.mark.needs("crosses")
def test_a_result_that_cannot_be_read_is_told(pool: PoolBase) -> None:
    error = error_of(pool.add_task("unreadable", functions.give, "unreadable"))
    assert isinstance(error, pools.ResultError)
    assert "'unreadable' could not be read here: ValueError: refuses to be read" in str(error)
    assert still_works(pool)


@pytest.mark.parametrize("code", [3, 0, None, "words"])
def test_sys_exit_of_a_task_does_not_end_the_script(pool: PoolBase, code: object) -> None:
    error = error_of(pool.add_task("exit", functions.exit_with, code))
    assert isinstance(error, pools.TaskExitError)
    assert error.code == code
    assert still_works(pool)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, StopIteration, BaseException])
def test_any_exception_is_an_outcome(pool: PoolBase, kind: type[BaseException]) -> None:
    task = pool.add_task("odd", functions.fail, kind)
    expected = pools.TaskInterruptedError if kind is KeyboardInterrupt else kind
    with pytest.raises(expected):
        task.wait_return(50)
    assert still_works(pool)


@pytest.mark.needs("survives")
@pytest.mark.parametrize(("how", "words"), [("SIGKILL", "SIGKILL"), ("segfault", "SIGSEGV"), ("os._exit", "exit status 3")])
def test_the_death_of_the_process_is_told_and_costs_no_other_task(pool: PoolBase, how: str, words: str) -> None:
    tasks = [pool.add_task(f"task {i}", functions.add, i) for i in range(6)]
    dead = pool.add_task("dead", functions.die, how)
    tasks += [pool.add_task(f"task {i}", functions.add, i) for i in range(6, 12)]
    error = error_of(dead)
    assert isinstance(error, pools.WorkerDiedError)
    assert "'dead'" in str(error)
    assert words in str(error)
    assert [task.wait_return(50) for task in tasks] == list(range(1, 13))
    assert still_works(pool)


@pytest.mark.needs("survives")
def test_a_pickle_that_harms_the_process_is_an_error_and_no_hang(pool: PoolBase) -> None:
    expected = {"refuse": ValueError, "exit": pools.TaskExitError, "SIGKILL": pools.WorkerDiedError}
    for how, kind in expected.items():
        assert isinstance(error_of(pool.submit(id, functions.Harmful(how, read=True))), kind), how
    for how in ("exit", "SIGKILL"):
        assert isinstance(error_of(pool.submit(functions.harmful_result, how)), pools.WorkerDiedError), how
    assert still_works(pool)


@pytest.mark.needs("survives")
def test_a_death_is_seen_though_a_grandchild_lives_on(pool: PoolBase, tmp_path: Path) -> None:
    dead = pool.add_task("dead", functions.leave_child_and_die, str(tmp_path / "go"))
    assert isinstance(error_of(dead), pools.WorkerDiedError)
    (tmp_path / "go").touch()


def test_wait_completion_never_raises_a_tasks_error(pool: PoolBase, caplog: pytest.LogCaptureFixture) -> None:
    task = pool.add_task("bad", functions.fail, ValueError, "asked for later")
    pool.wait_completion()
    assert task.iscompleted
    with pytest.raises(ValueError, match="asked for later"):
        task.wait_return()


def test_a_failure_nobody_asks_about_is_logged_once(pool: PoolBase, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(3):
        pool.add_task(f"lost {i}", functions.fail, ValueError, "lost marker")
    asked = pool.add_task("asked", functions.fail, ValueError, "asked marker")
    assert asked.exception(50) is not None
    pool.wait_completion()
    pool.shutdown()
    warnings = [record.getMessage() for record in caplog.records if "nobody asked" in record.getMessage()]
    assert len(warnings) == 1
    assert "3 failed tasks nobody asked about" in warnings[0]
    assert "3 × ValueError: lost marker" in warnings[0]
    assert "asked marker" not in warnings[0]


def test_checking_raises_one_error_with_all_failures_nobody_asked_about(
    pool: PoolBase, caplog: pytest.LogCaptureFixture
) -> None:
    pool.wait_completion(check=True)
    for name in ("first", "second"):
        pool.add_task(name, functions.fail, ValueError, f"no tile {name == 'second':d}")
    pool.add_process("command", "exit 3")
    pool.add_task("good", functions.add, 1)
    assert pool.add_task("asked", functions.fail).exception(50) is not None
    assert pool.add_process("also asked", "exit 4").returncode == 4
    with pytest.raises(pools.TasksFailedError) as info:
        pool.with_options(mem_gb=1).wait_completion(check=True)
    assert info.value.failed == 3
    assert info.value.failures == (
        ("first", "ValueError: no tile 0"),
        ("second", "ValueError: no tile 1"),
        ("command", "exit status 3"),
    )
    assert "2 × ValueError: no tile 0 (and alike; tasks 'first', 'second')\n  1 × exit status 3 (tasks 'command')" in str(
        info.value
    )
    assert pickle.loads(pickle.dumps(info.value)).failures == info.value.failures
    pool.wait_completion(check=True)  # each is told once
    pool.add_task("later", functions.fail)
    with pytest.raises(pools.TasksFailedError, match="a task has failed:\n  1 × ValueError"):
        pool.wait_completion(check=True)
    pool.shutdown()
    assert not [record for record in caplog.records if "nobody asked" in record.getMessage()]
