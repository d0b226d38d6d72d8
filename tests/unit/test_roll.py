"""Workers side by side in one job, as the pool knows them: by what they, and the crew that looks after them, say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster import lag as lags
from nornir_pools.cluster import supply
from nornir_pools.cluster.polling import States
from nornir_pools.outcome import Outcome
from nornir_pools.task import Task

from ..conftest import until
from .test_watcher import Run


class Cancellable(Run):
    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        if outcome is not None:
            super()._finish(task, outcome)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(lags, "GRACE", 0.125)
    monkeypatch.setattr(supply, "STOPPING", 0.1)
    made = Cancellable(tmp_path / "run", 4, None)
    yield made
    made.close()


def say(run: Run, job: str, number: int, word: str, order: int = 1, **facts: str) -> None:
    """A worker of a job of four says a word."""
    post = f"{job}+{number}" if number else job
    run.there.say(f"{post}-r0", order, word, {**run._facts(post), "job": job, "at_once": 4, **facts})


def start(run: Run) -> str:
    """A job of four, each of whose workers has claimed a task."""
    run.add(4, tasks_at_once=4)
    job = run.job()
    for number in range(4):
        run.claim(f"{job}+{number}" if number else job, number + 1)
    say(run, job, 2, "up")
    until(lambda: len(run.watcher.supply.jobs) == 4, "its workers are not known from the first word on")
    assert all(known.up for known in run.watcher.supply.jobs.values())
    for number in (0, 1, 3):
        say(run, job, number, "up")
    return job


def test_one_that_dies_is_answered_for_by_itself_and_followed_by_another(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lags, "GRACE", 60.0)  # it is certain that nothing more will come from it
    job = start(run)
    say(run, job, 1, "left", 99, reason="died 0:9")
    until(lambda: bool(run.journal("again")), "its task is not tried again")
    (again,) = run.journal("again")
    assert (again["n"], again["cause"], again["job"]) == (2, "worker_died", job)
    assert set(run.watcher.supply.jobs) == {job, f"{job}+2", f"{job}+3"}
    run.claim(f"{job}+4", 2, 1)
    say(run, job, 4, "up")
    until(lambda: f"{job}+4" in run.watcher.supply.jobs, "the one that follows is not known")
    run.deliver(job, 1, "one")
    run.deliver(f"{job}+4", 2, "two", 1)
    run.deliver(f"{job}+2", 3, "three")
    run.deliver(f"{job}+3", 4, "four")
    assert run.values() == ["one", "two", "three", "four"]
    assert run.scheduler.sent == [job]


def test_the_end_of_a_job_is_that_of_all_its_workers(run: Run) -> None:
    job = start(run)
    run.scheduler.end(job, state="CANCELLED")
    errors = run.values()
    assert all(isinstance(error, pools.JobCancelledError) and error.job_id == job for error in errors), errors
    assert sorted(entry["job"] for entry in run.journal("ended")) == [job, *(f"{job}+{number}" for number in (1, 2, 3))]
    assert set(run.scheduler.asked) == {job}


def test_a_task_that_is_cancelled_costs_its_worker_and_no_other(run: Run) -> None:
    job = start(run)
    run.watcher.cancelling.ask([3])
    word = f"end.{job}+2-r0"
    until(lambda: word in run.there.offers(0)[1], "nobody is told")
    say(run, job, 2, "left", 99, reason="died 0:15")
    until(lambda: f"{job}+2" not in run.watcher.supply.jobs, "it is not forgotten")
    assert run.scheduler.known[job] == "RUNNING"
    for number in (0, 1, 3):
        run.deliver(f"{job}+{number}" if number else job, number + 1, number)
    until(lambda: len(run.done) == 3, "the others are not done")
    assert not run.journal("again")


def test_what_the_scheduler_says_of_its_job_does_not_bring_a_dead_one_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.watcher.supply, "_bury", lambda now: None)
    job = start(run)
    say(run, job, 1, "left", 99, reason="died 0:9")
    dead = run.watcher.supply.jobs[f"{job}+1"]
    until(lambda: dead.gone_since is not None, "its word is not heard")
    run.watcher.supply._note_states(States({job: "RUNNING"}, time.monotonic()))
    assert dead.gone_since is not None
    assert not dead.live
