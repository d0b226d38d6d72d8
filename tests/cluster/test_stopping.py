"""A pool that stops because its tasks fail: what waits is not run, what runs goes on, and the error says why."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import TasksFailedError
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.cluster.spool import Spool

from .. import functions
from ..conftest import until


def make(count: int = 1, **options: Any) -> ClusterPool:
    return pools.GetClusterPool("stopping", count, **{"executor": "local", **options})


def note_and_fail(ledger: str, number: int) -> None:
    with open(ledger, "a") as file:
        file.write("x")
    time.sleep(0.02)  # time for the pool to stop before all is done
    raise ValueError(f"tile {number} is empty")


def add_many(pool: ClusterPool, count: int, func: Callable[..., Any], *args: Any) -> list[pools.Task]:
    return [pool.submit(func, *args, number) for number in range(count)]


def test_the_first_20_tasks_failing_alike_stop_the_pool(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    pool = make()
    tasks = add_many(pool, 300, note_and_fail, str(ledger))
    errors = [task.exception(40) for task in tasks]
    own = [error for error in errors if isinstance(error, ValueError)]
    assert 20 <= len(own) == len(ledger.read_text()) < 300
    assert {type(error) for error in errors} == {ValueError, TasksFailedError}
    stopped = next(error for error in errors if isinstance(error, TasksFailedError))
    assert "pool 'stopping' has stopped, since its first 20 tasks all failed alike" in str(stopped)
    assert "ValueError: tile" in str(stopped)
    assert stopped.log
    assert Path(stopped.log).exists()
    for _ in range(2):
        with pytest.raises(TasksFailedError, match="stop_after=0"):
            pool.add_task("later", functions.add, 1)
    with pytest.raises(TasksFailedError):
        pool.add_process("later", "true")
    assert pool.folder is not None
    journal = (pool.folder / "journal.jsonl").read_text()
    assert '"t": "stopped"' in journal
    assert '"name": "later"' not in journal
    pool.shutdown()
    assert make().add_task("a new pool", functions.add, 1, 2).wait_return(40) == 3


def test_a_script_that_adds_tasks_all_the_time_is_told(tmp_path: Path) -> None:
    pool = make()

    def produce() -> None:
        for number in range(10_000):  # held back once 32 wait
            pool.add_task(f"tile {number}", note_and_fail, str(tmp_path / "ledger"), number)

    with pytest.raises(TasksFailedError, match=r"task 'tile \d+': ValueError"):
        produce()
    pool.wait_completion()
    assert len((tmp_path / "ledger").read_text()) < 200


def test_a_task_that_is_added_at_the_moment_of_the_stop_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make(max_failures=1, idle_seconds=0)
    pool.add_task("good", functions.add, 1, 2).wait_return(40)
    until(lambda: not pool.get_active_nodes(), "the worker stays", 20)  # or it might be faster
    assert pool._run is not None
    run, publish = pool._run, Spool.publish

    def stop_before(spool: Spool, *arguments: Any) -> None:
        run.watcher.ledger.failures.error = TasksFailedError("stopped just now")
        publish(spool, *arguments)

    monkeypatch.setattr(Spool, "publish", stop_before)
    with pytest.raises(TasksFailedError, match="stopped just now"):
        pool.add_task("late", functions.add, 1)
    assert pool.num_active_tasks == 0
    assert len(run.watcher.ledger) == 0


def test_stop_after_0_goes_on_whatever_fails(tmp_path: Path) -> None:
    tasks = add_many(make(stop_after=0), 40, note_and_fail, str(tmp_path / "ledger"))
    assert all(isinstance(task.exception(40), ValueError) for task in tasks)
    assert len((tmp_path / "ledger").read_text()) == 40


def test_one_success_is_enough_to_go_on(tmp_path: Path) -> None:
    pool = make()
    assert pool.add_task("good", functions.add, 1, 2).wait_return(40) == 3
    tasks = add_many(pool, 60, note_and_fail, str(tmp_path / "ledger"))
    assert all(isinstance(task.exception(40), ValueError) for task in tasks)


def test_what_runs_when_the_pool_stops_goes_on_to_its_value(tmp_path: Path) -> None:
    mark, go = str(tmp_path / "mark"), str(tmp_path / "go")
    pool = make(2, max_failures=3)
    running = pool.add_task("running", functions.touch_and_wait, mark, go, "value")
    until(Path(mark).exists, "the task does not start", 40)
    errors = [task.exception(40) for task in add_many(pool, 40, note_and_fail, str(tmp_path / "ledger"))]
    assert any(isinstance(error, TasksFailedError) for error in errors)
    assert not running.done()
    (tmp_path / "go").touch()
    assert running.wait_return(40) == "value"


def test_commands_count_by_their_status_and_a_variable_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_POOLS_MAX_FAILURES", "4")
    pool = make()
    assert pool.options.max_failures == 4
    assert pool.add_process("good", "true").wait_return(40) == ""
    tasks = [pool.add_process(str(number), f"exit {number + 1}") for number in range(4)]
    assert [task.exception(40) for task in tasks] == [None] * 4
    assert [task.returncode for task in tasks] == [1, 2, 3, 4]
    with pytest.raises(TasksFailedError, match=r"since 4 of its tasks have failed \(max_failures=4\).*exit status [1-4]\n"):
        pool.add_process("later", "true")


def work_unless(path: str, number: int) -> int:
    """Takes 0.2 s of a CPU's time, unless that file is there."""
    if not Path(path).exists():
        time.sleep(0.2)
    return number


def test_a_spent_budget_keeps_what_is_done_and_runs_nothing_more(executor: str, tmp_path: Path) -> None:
    quick = str(tmp_path / "quick")
    budget = 3 / 3600
    pool = make(2, executor=executor, folder="runs", budget_core_hours=budget, idle_seconds=600)
    tasks = add_many(pool, 60, work_unless, quick)
    errors = [task.exception(60) for task in tasks]
    done = [task for task, error in zip(tasks, errors, strict=True) if error is None]
    stopped = [error for error in errors if isinstance(error, pools.BudgetSpentError)]
    assert len(done) + len(stopped) == 60
    assert 0 < len(done) < 40
    assert {task.result() for task in done} == {number for number, error in enumerate(errors) if error is None}
    assert (stopped[0].budget, stopped[0].done + stopped[0].left) == (budget, 60)
    assert 0 <= len(done) - stopped[0].done <= 2 + 2 + 2  # that ran, had ended unseen, or were claimed before that was over
    with pytest.raises(pools.BudgetSpentError, match="nornir-pools retry stopping-"):
        pool.add_task("later", functions.add, 1)
    until(lambda: not pool.get_active_nodes(), "idle jobs stay", 20)
    assert pool.folder is not None
    journal = (pool.folder / "journal.jsonl").read_text()
    assert '"t": "stopped", "kind": "BudgetSpentError"' in journal
    pool.shutdown()
    Path(quick).touch()
    last = max(number for number, error in enumerate(errors) if error is not None)
    again = pools.retry(pool.folder, [last + 1])
    assert [task.result(60) for task in again.tasks] == [last]
    again.shutdown()


def test_what_a_run_has_used_counts_when_it_is_taken_over(executor: str) -> None:
    pool = make(1, executor=executor, folder="runs", budget_core_hours=1.0)
    pool.add_task("running", functions.touch_and_wait, "mark", "go")
    assert pool._run is not None
    budget = pool._run.watcher.ledger.budget
    until(lambda: budget.used * 3600 > 1, "what is used is not added up", 40)
    pool.detach()
    again = pools.attach("stopping")
    assert again._run is not None
    now = again._run.watcher.ledger.budget
    until(lambda: now.used > budget.used, "it is forgotten", 20)
    assert now.used * 3600 < 100
    Path("go").touch()
    again.shutdown()
