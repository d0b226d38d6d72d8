"""What jobs have used, in core-hours: by words of their workers, and by a journal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from nornir_pools import BudgetSpentError
from nornir_pools.cluster.budget import Budget, cpus_of
from nornir_pools.cluster.history import read_history
from nornir_pools.cluster.jobs import Group, Job
from nornir_pools.cluster.spool import Spool
from nornir_pools.options import Options

FOUR = Group(1, Options.of({"cpus_per_task": 4}))
ONE = Group(0, Options())


def seconds(budget: Budget) -> float:
    return round(budget.used * 3600, 1)


def test_a_worker_counts_from_being_up_to_leaving_by_its_cpus() -> None:
    budget = Budget("p", "p-run", 1.0)
    budget.note("up", "1_0", FOUR, 100.0)
    budget.note("idle", "1_0", FOUR, 105.0)
    budget.note("up", "1_1", ONE, 100.0)
    budget.note("left", "1_0", FOUR, 110.0)
    assert seconds(budget) == 40.0
    budget.note("left", "1_1", ONE, 103.0)
    assert seconds(budget) == 43.0
    budget.note("left", "1_1", ONE, 200.0)  # it was idle, looked once more, and goes
    budget.note("up", "1_0", FOUR, 200.0)
    budget.note("left", "1_0", FOUR, 201.0)
    assert seconds(budget) == 47.0


def test_the_cpus_are_those_that_the_scheduler_has_set_aside() -> None:
    budget = Budget("p", "p-run", 100 / 3600)
    whole = Group(1, FOUR.options)
    whole.seconds, whole.finished = 2.0, 1
    assert budget.room(whole, 0, 50) == 13  # of 2 s on 4 CPUs
    whole.set_aside = 8.0  # the node is the job's alone
    budget.note("up", "1_0", whole, 100.0)
    budget.note("left", "1_0", whole, 103.0)
    assert seconds(budget) == 24.0
    assert budget.room(whole, 0, 50) == 5
    whole.set_aside = 0.0  # started by hand, without a scheduler
    budget.note("up", "1_1", whole, 100.0)
    budget.note("left", "1_1", whole, 103.0)
    assert seconds(budget) == 36.0


def test_one_that_runs_counts_until_now_and_one_that_is_gone_until_then() -> None:
    budget = Budget("p", "p-run", 1.0)
    now = time.time()
    budget.note("up", "runs", FOUR, now - 10)
    budget.note("up", "gone", FOUR, now - 10)
    jobs = {name: Job(name, 0, up=True) for name in ("runs", "gone")}
    jobs["gone"].gone_since = time.monotonic() - 5
    budget.look(jobs)
    assert 60 <= budget.used * 3600 < 70
    budget.look({"runs": jobs["runs"]})
    budget.look({})
    assert 60 <= budget.used * 3600 < 70
    assert not budget._clocks


def test_a_journal_tells_what_was_used_before_the_run_was_taken_over(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run")
    spool.note(t="group", n=0, options=Options().plain())
    spool.note(t="group", n=1, options=FOUR.options.plain())
    spool.note(t="sending", name="x", group=1, count=4)
    spool.note(t="jobs", name="x", group=1, ids=["1_0", "1_1", "1_2", "1_3"])
    journal = tmp_path / "run" / "journal.jsonl"
    begun = time.time() - 1000

    def word(word: str, job: str, at: float, **more: float) -> None:
        facts = {"job": job, "worker": f"{job}-r0", "host": "n1", "node": "n1", "group": 1, "log": "", "pid": 1, "born": "1"}
        spool.note(t=word, **facts, **more, at=begun + at)

    def ended(job: str, at: float) -> None:
        with journal.open("a") as file:
            file.write(json.dumps({"t": "ended", "job": job, "state": "FAILED", "claims": [], "time": begun + at}) + "\n")

    word("up", "1_0", 0, cpus=8.0)
    word("idle", "1_0", 5)
    word("left", "1_0", 10)
    word("up", "1_1", 0)
    ended("1_1", 20)
    word("up", "1_2", 980, cpus=1.5)
    ended("1_3", 30)  # it was never up
    history = read_history(spool)
    spool.close()
    budget = Budget("p", "p-run", 1.0)
    budget.restore(history)
    assert seconds(budget) == 10 * 8 + 20 * 4
    budget.look({"1_2": Job("1_2", 1, up=True)})
    assert 190 <= budget.used * 3600 < 200
    unlimited = Budget("p", "p-run", None)
    unlimited.restore(history)
    assert unlimited.verdict(0, 0) is None


def test_the_error_says_what_was_used_and_how_to_go_on() -> None:
    budget = Budget("tiles", "tiles-run", 0.01)
    budget.note("up", "1_0", FOUR, 100.0)
    budget.note("left", "1_0", FOUR, 108.9)
    assert budget.verdict(7, 5) is None
    budget.note("up", "1_0", FOUR, 110.0)
    budget.note("left", "1_0", FOUR, 110.2)
    error = budget.verdict(7, 5)
    assert isinstance(error, BudgetSpentError)
    assert (error.budget, error.done, error.left) == (0.01, 7, 5)
    assert error.used == budget.used
    text = str(error)
    for words in ("pool 'tiles'", "budget of 0.01 core-hours", "used 0.0101.", "7 of its tasks are done and 5 are left"):
        assert words in text
    assert "nornir-pools retry tiles-run --failed" in text
    assert "budget_core_hours=" in text


def test_without_a_budget_nothing_is_added_up() -> None:
    budget = Budget("p", "p-run", None)
    budget.note("up", "1_0", FOUR, 0.0)
    budget.look({})
    assert budget.used == 0
    assert budget.verdict(0, 1) is None
    assert budget.room(Group(1, FOUR.options), 3, 50) == 50


def test_more_jobs_are_paid_for_by_what_is_left() -> None:
    budget = Budget("p", "p-run", 100 / 3600)
    group = Group(1, FOUR.options)
    assert budget.room(group, 0, 50) == 50  # nothing is known
    group.seconds, group.finished = 10.0, 2
    assert budget.room(group, 0, 50) == 5
    assert budget.room(group, 2, 50) == 3
    assert budget.room(group, 2, 1) == 1
    group.seconds = 1e6
    assert budget.room(group, 0, 50) == 1  # it cannot be known that it is more than is left
    budget.note("up", "1_0", FOUR, 0.0)
    budget.note("left", "1_0", FOUR, 25.1)
    assert budget.room(group, 0, 50) == 0


@pytest.mark.parametrize(
    ("given", "cpus"),
    [
        ({}, 1),
        ({"cpus_per_task": 4}, 4),
        ({"cpus_per_task": 4, "slurm_cpus_per_task": 2}, 2),
        ({"cpus_per_task": 2, "tasks_per_node": 3, "nodes": 2}, 12),
        ({"slurm_ntasks_per_node": 3, "slurm_nodes": 2}, 6),
        ({"slurm_cpus_per_task": "many"}, 1),
    ],
)
def test_cpus_of_a_job(given: dict[str, Any], cpus: int) -> None:
    assert cpus_of(Options.of(given)) == cpus
