"""When a run is not worth going on with, and what is said then."""

from __future__ import annotations

from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import TasksFailedError
from nornir_pools.cluster.failures import Failures
from nornir_pools.cluster.history import PastTask
from nornir_pools.outcome import Outcome
from nornir_pools.task import CommandTask, Task

from ..functions import NoTextError

NAMES = [f"task {letter}" for letter in "abcdefghijklmnopqrstuvwxyz" * 2]


def ends(failures: Failures, *endings: Any) -> list[bool]:
    """Let tasks end with these errors or values."""
    pool = pools.GetSerialPool("for its tasks")
    said = []
    for number, ending in enumerate(endings):
        task = (CommandTask if isinstance(ending, tuple) else Task)(pool, NAMES[number], abs, (1,), {})
        error = ending if isinstance(ending, BaseException) else None
        said.append(failures.note(task, Outcome(None if error else ending, error, {"log": f"{number}.log"})))
    return said


def value_errors(count: int) -> list[ValueError]:
    return [ValueError(f"tile {number} of {NAMES[number]!r} is empty\nline {number * 'x'}") for number in range(count)]


def test_the_first_tasks_all_failing_alike_stop_the_pool() -> None:
    failures = Failures("p", 3, None)
    assert ends(failures, *value_errors(2)) == [False, False]
    assert failures.error is None
    assert ends(failures, *value_errors(2)) == [True, False]
    assert failures.error is not None
    assert (failures.error.failed, failures.error.log) == (3, "0.log")
    text = str(failures.error)
    assert "pool 'p' has stopped, since its first 3 tasks all failed alike" in text
    assert "task 'task a': ValueError: tile 0 of 'task a' is empty\nline" in text
    assert "stop_after=0" in text


@pytest.mark.parametrize("other", [5, KeyError("tile 0"), ValueError("another text"), (0, "", ""), (1, "", "")])
def test_one_that_ends_differently_among_the_first_lets_the_pool_go_on(other: Any) -> None:
    for position in range(3):
        failures = Failures("p", 3, None)
        endings: list[Any] = value_errors(10)
        endings.insert(position, other)
        assert not any(ends(failures, *endings))


def test_the_name_of_the_task_and_numbers_make_no_difference() -> None:
    assert any(ends(Failures("p", 3, None), *(ValueError(f"task {NAMES[n]!r}: job {10**n}_{n} is gone") for n in range(3))))


def test_commands_fail_alike_by_their_status() -> None:
    failures = Failures("p", 2, None)
    assert ends(failures, (3, "", "first words"), (3, "", "second words")) == [False, True]
    assert "exit status 3: first words" in str(failures.error)
    assert not any(ends(Failures("p", 2, None), (3, "", ""), (4, "", "")))
    assert not any(ends(Failures("p", 2, None), *5 * [(0, "", "")]))


def test_zero_turns_it_off() -> None:
    assert not any(ends(Failures("p", 0, None), *value_errors(50)))


def test_too_many_failures_of_any_kind_stop_the_pool() -> None:
    failures = Failures("p", 20, 3)
    assert ends(failures, 1, ValueError("a"), (0, "", ""), KeyError("b"), 2, (1, "", "")) == 5 * [False] + [True]
    assert "since 3 of its tasks have failed (max_failures=3)" in str(failures.error)
    assert "task 'task b': ValueError: a" in str(failures.error)


def test_a_stopped_pool_says_so_each_time_with_an_error_of_its_own() -> None:
    failures = Failures("p", 1, None)
    failures.check()
    ends(failures, ValueError("a"))
    caught = []
    for _ in range(2):
        with pytest.raises(TasksFailedError, match="has stopped") as info:
            failures.check()
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert caught[0].failed == 1


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    ends(Failures("p", 2, 2), *value_errors(10))
    assert ["has stopped" in record.getMessage() for record in caplog.records] == [True]


def test_an_error_without_a_text_counts_too() -> None:
    assert any(ends(Failures("p", 2, None), NoTextError(), NoTextError()))


def past(number: int, *, error: str = "", status: int = 0, given_up: str = "") -> PastTask:
    task = PastTask(number, NAMES[number], 0)
    if given_up:
        task.error = {"kind": given_up, "error": f"job {number} is gone", "parts": {"job_id": str(number)}}
    else:
        task.outcome = {"ok": not error, "error": error, "status": status}
    return task


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([past(n, error=f"ValueError: tile {n}") for n in range(2)], ValueError("tile 5")),
        ([past(n, status=3) for n in range(2)], (3, "", "")),
        ([past(n, given_up="JobLostError") for n in range(2)], pools.JobLostError("job 7 is gone")),
    ],
)
def test_tasks_that_an_earlier_process_saw_end_are_among_the_first(before: list[PastTask], after: Any) -> None:
    for well in (False, True):
        failures = Failures("p", 3, None)
        failures.restore([*before, *([past(9)] if well else [])])
        assert ends(failures, after) == [not well]
    failures = Failures("p", 0, 3)
    failures.restore([*before, past(9)])
    assert ends(failures, after) == [True]
