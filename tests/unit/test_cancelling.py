"""Cancelling tasks that may have begun: who has a task is not always known at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.cancelling import Cancelling
from nornir_pools.cluster.failures import Failures
from nornir_pools.cluster.jobs import Job
from nornir_pools.cluster.ledger import Ledger
from nornir_pools.cluster.spool import Spool, task_name
from nornir_pools.options import Options
from nornir_pools.outcome import Outcome
from nornir_pools.task import Task


class Run:
    """A run with three tasks, and what is done with them and its jobs."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool.create(path)
        self.ended: dict[str, Outcome | None] = {}
        self.ledger = Ledger(self.spool, self._finish, Failures("p", 20, None))
        self.jobs: dict[str, Job] = {}
        self.ids: list[str] = []
        supply: Any = self
        self.cancelling = Cancelling(self.spool, self.ledger, supply, lambda: None)
        group = self.ledger.group_for(Options())
        pool = pools.GetSerialPool("for its tasks")
        for number in (1, 2, 3):
            self.ledger.expect(number, Task(pool, str(number), abs, (1,), {}), group)
            self.spool.publish(group.number, task_name(number), [b"call"])

    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        self.ended[task.name] = outcome

    def claim(self, number: int, worker: str) -> None:
        self.spool.make_folder(f"claimed/{worker}")
        assert self.spool.claim(0, "0000", task_name(number), worker)

    def hand_over(self, order: Callable[[], None]) -> None:
        order()

    def cancel(self, ids: list[str], *, pending_only: bool) -> None:
        assert not pending_only
        self.ids += ids


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run")
    yield made
    made.spool.close()


def test_a_task_that_waits_is_taken_back_and_one_that_runs_is_ended_with_its_job(run: Run) -> None:
    run.jobs = {name: Job(name, 0, up=True) for name in ("7_0", "7_1")}
    run.claim(1, "7_0-r0")
    run.cancelling.ask([1, 2, 9])
    run.cancelling.carry_out()
    assert run.ended == {"1": None, "2": None}
    assert run.ids == ["7_0"]
    assert (run.jobs["7_0"].called_off, run.jobs["7_0"].live, run.jobs["7_1"].live) == (True, False, True)
    assert (run.cancelling.has_begun(3), run.cancelling.has_begun(1)) == (False, False)
    run.cancelling.carry_out()
    assert run.ids == ["7_0"]  # once


def test_a_task_whose_worker_is_not_known_yet_is_cancelled_when_it_is(run: Run) -> None:
    run.claim(1, "7_0-r0")
    assert run.cancelling.has_begun(1)
    run.cancelling.ask([1])
    for job in (None, Job("7_0", 0)):  # it was not heard of, or has not said that it is up
        run.jobs = {"7_0": job} if job else {}
        run.cancelling.carry_out()
        assert not run.ended
        assert not run.ids
    run.jobs["7_0"].up = True
    run.cancelling.carry_out()
    assert (run.ended, run.ids) == ({"1": None}, ["7_0"])


def test_a_task_that_has_ended_meanwhile_keeps_its_outcome(run: Run) -> None:
    run.claim(1, "7_0-r0")
    run.spool.drop_claim("7_0-r0", task_name(1))  # its outcome is in the inbox
    run.cancelling.ask([1])
    run.cancelling.carry_out()
    task = run.ledger.take(1)
    assert task is not None
    run.cancelling.carry_out()
    assert not run.ended
    assert not run.ids
