"""Outcomes: whatever a task returns or raises, the reader gets something."""

from __future__ import annotations

import builtins
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from nornir_pools import RemoteTraceback, ResultError, TaskExitError, TaskInterruptedError, outcome
from nornir_pools.outcome import Outcome

from .. import functions


def sent(result: Outcome) -> Outcome:
    """The outcome after its way through another process."""
    facts, parts = outcome.freeze(result, "the task")
    return outcome.thaw(pickle.loads(pickle.dumps(facts)), [bytes(part) for part in parts], "the task")


def run(func: Callable[..., Any], *args: Any) -> Outcome:
    return outcome.call(func, args, {})


def test_value_comes_back() -> None:
    assert sent(run(functions.add, 1, 2)).value == 3
    assert sent(run(functions.echo)).value == ((), {})


@pytest.mark.parametrize("error", [ValueError("a", 1), functions.PlainError("p"), OSError(2, "no such", "file"), KeyError()])
def test_exception_comes_back_with_type_and_arguments(error: Exception) -> None:
    got = sent(run(raise_, error)).error
    assert type(got) is type(error)
    assert got.args == error.args
    assert str(got) == str(error)


def raise_(error: BaseException) -> None:
    raise error


def test_attributes_and_notes_of_an_exception_come_back() -> None:
    error = ValueError("v")
    error.place = "here"  # type: ignore[attr-defined]
    error.__notes__ = ["a note"]  # type: ignore[attr-defined,unused-ignore]
    got = sent(run(raise_, error)).error
    assert vars(got) == {"place": "here", "__notes__": ["a note"]}


def test_exception_with_a_constructor_of_its_own_comes_back() -> None:
    got = sent(run(raise_, functions.OwnConstructorError(7, "home"))).error
    assert isinstance(got, functions.OwnConstructorError)
    assert (got.code, str(got)) == (7, "code 7 at home")


def test_failed_command_of_a_task_comes_back() -> None:
    got = sent(run(raise_, subprocess.CalledProcessError(3, ["a"], "out", "err"))).error
    assert isinstance(got, subprocess.CalledProcessError)
    assert (got.returncode, got.output, got.stderr) == (3, "out", "err")


def test_exception_that_cannot_be_sent_becomes_a_result_error_with_its_text() -> None:
    got = sent(run(raise_, functions.LockInsideError())).error
    assert isinstance(got, ResultError)
    assert "LockInsideError: lock inside" in str(got)
    assert "Traceback" in str(got)
    assert "'the task'" in str(got)


def test_exception_without_a_text_is_not_lost() -> None:
    got = sent(run(raise_, functions.NoTextError())).error
    assert isinstance(got, ResultError)
    assert "NoTextError" in str(got)


@pytest.mark.parametrize("kind", ["generator", "lock", "refuses"])
def test_value_that_cannot_be_sent_names_task_and_type(kind: str) -> None:
    got = sent(run(functions.give, kind)).error
    assert isinstance(got, ResultError)
    assert "'the task'" in str(got)
    assert type(functions.give(kind)).__qualname__ in str(got)


def test_value_that_cannot_be_read_is_told_and_not_raised() -> None:
    got = sent(run(functions.give, "unreadable")).error
    assert isinstance(got, ResultError)
    assert "refuses to be read" in str(got)
    assert isinstance(got.__cause__, ValueError)


def test_damaged_parts_are_an_outcome_too() -> None:
    facts, _ = outcome.freeze(run(functions.fail, ValueError, "v"), "the task")
    got = outcome.thaw(facts, [b"rubbish"], "the task").error
    assert isinstance(got, ResultError)
    assert "ValueError: v" in str(got)


def test_remote_traceback_tells_the_whole_chain_and_the_place() -> None:
    got = sent(run(functions.fail_with_cause)).error
    assert got is not None
    assert isinstance(got.__cause__, RemoteTraceback)
    text = str(got.__cause__)
    assert "KeyError: 'missing'" in text
    assert "ValueError: outer" in text
    assert "Task 'the task' failed in process" in text


def test_job_and_log_are_named_where_there_are_any() -> None:
    facts, parts = outcome.freeze(Outcome(error=ValueError(), facts={"job": "12_3", "log": "/logs/12_3.log"}), "t")
    assert "job 12_3 (log: /logs/12_3.log)" in str(outcome.thaw(facts, parts, "t").error.__cause__)  # type: ignore[union-attr]


def test_traceback_begins_in_the_users_code() -> None:
    error = run(functions.fail).error
    assert error is not None
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


@pytest.mark.parametrize("code", [None, 0, 3, "message"])
def test_exit_of_a_task_is_an_error_with_its_code(code: Any) -> None:
    for result in (run(functions.exit_with, code), sent(run(functions.exit_with, code))):
        assert isinstance(result.error, TaskExitError)
        assert result.error.code == code


def test_interrupt_by_the_task_itself_is_an_error() -> None:
    assert isinstance(run(raise_, KeyboardInterrupt()).error, TaskInterruptedError)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_group_of_exceptions_comes_back() -> None:
    group: type[Exception] = vars(builtins)["ExceptionGroup"]
    got: Any = sent(run(raise_, group("several", [ValueError("a"), OSError(1, "b")]))).error
    assert [type(error) for error in got.exceptions] == [ValueError, PermissionError]


def test_failure_states_plain_facts() -> None:
    result = outcome.failure(ResultError("gone"), "t")
    assert result.facts["error"] == "ResultError: gone"
    assert result.facts["ok"] is False
