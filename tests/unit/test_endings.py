"""What becomes of tasks that a node has failed: handed back, tried again, accepted; and of jobs that do not start."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.endings import Endings
from nornir_pools.cluster.failures import Failures
from nornir_pools.cluster.jobs import FRUITLESS, Group, Job
from nornir_pools.cluster.ledger import Ledger
from nornir_pools.cluster.obituary import mismatch
from nornir_pools.cluster.slurm import Ending
from nornir_pools.cluster.spool import FORMAT, Spool, task_name
from nornir_pools.options import Options
from nornir_pools.outcome import Outcome
from nornir_pools.task import Task


class Run:
    """The pool's side of a run, without scheduler and watcher."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool.create(path)
        self.over: dict[str, Outcome] = {}
        self.ledger = Ledger(self.spool, self._finish, Failures("p", 20, None))
        self.jobs: dict[str, Job] = {}
        self._numbers = itertools.count()
        self.endings = Endings("p", self.spool, self.ledger, self.jobs)
        self.group = self.ledger.group_for(Options())
        self._pool = pools.GetSerialPool("for its tasks")

    def _finish(self, task: Task, outcome: Outcome | None) -> None:
        assert outcome is not None
        self.over[task.name] = outcome

    def add(self, number: int, group: Group | None = None) -> None:
        group = group or self.group
        self.ledger.expect(number, Task(self._pool, f"task {number}", abs, (1,), {}), group)
        self.spool.publish(group.number, task_name(number), [b"call"])

    def claim(self, number: int, worker: str, attempt: int = 0) -> str:
        """A worker takes a task; returns the name of the file."""
        name = task_name(number, attempt)
        self.spool.make_folder(f"claimed/{worker}")
        ((shard, tasks),) = list(self.spool.offers(self.group.number)[0])
        assert name in tasks
        assert self.spool.claim(self.group.number, shard, name, worker)
        return name

    def fail_on(self, node: str, number: int, attempt: int = 0, mark: str = "~") -> bool:
        """A worker on that node takes the task and hands it back; returns whether the outcome does not count."""
        worker = f"{node}job-r0"
        name = self.claim(number, worker, attempt)
        facts = {"node": node, "host": node, "job": f"{node}job", "log": "x.log", "error": "ImportError: nonesuch\nmore"}
        return self.endings.take_back(f"{name}.{worker}{mark}", facts)

    def run_on(self, node: str, number: int, **facts: Any) -> None:
        """A task runs on that node."""
        self.ledger.take(number)
        self.endings.note_end(number, {"node": node, "ok": True, **facts})

    def lose(self, node: str = "n1", state: str = "FAILED", **facts: Any) -> Job:
        """A job ends on that node before it has taken a task."""
        job = Job(f"9_{next(self._numbers)}", self.group.number, **facts)
        self.endings.see_to(job, Ending(state, "127:0", nodes=node))
        return job

    @property
    def words(self) -> set[str]:
        return self.spool.offers(self.group.number)[1]

    @property
    def waiting(self) -> list[str]:
        return [task for _, tasks in self.spool.offers(self.group.number)[0] for task in tasks]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run")
    yield made
    made.spool.close()


def test_a_task_that_is_handed_back_is_tried_again_twice_and_then_its_outcome_counts(run: Run) -> None:
    run.add(1)
    for attempt in range(2):
        assert run.fail_on("n1", 1, attempt)
        assert run.waiting == [task_name(1, attempt + 1)]
        assert run.spool.claims("n1job-r0") == []
    assert not run.fail_on("n1", 1, 2)
    assert (run.waiting, run.spool.claims("n1job-r0")) == ([], [])
    entry = run.ledger.find(1)
    assert entry is not None
    assert entry.retried == {"bad_node": 2}
    assert entry.history[0] == "try 1, job n1job on n1: ImportError: nonesuch"
    assert '"cause": "bad_node"' in (run.spool.path / "journal.jsonl").read_text()
    assert run.group.unfinished == 1


def test_a_single_failure_counts_unless_others_have_run_elsewhere(run: Run) -> None:
    for number in range(1, 5):
        run.add(number)
    assert not run.fail_on("n1", 1, mark="?")
    assert run.spool.claims("n1job-r0") == []
    run.run_on("n1", 2)
    assert not run.fail_on("n1", 3, mark="?")
    run.run_on("n2", 2)
    assert run.fail_on("n1", 4, mark="?")


@pytest.mark.parametrize(
    ("other", "waits"),
    [
        ({"node": "n2", "up": True}, True),
        ({"node": "n1", "up": True}, False),
        ({"node": "n2", "up": True, "idle": True}, False),
        ({"node": "n2", "up": True, "left": True}, False),
        ({"node": "", "up": True}, False),
    ],
)
def test_a_single_failure_waits_for_what_runs_elsewhere(run: Run, other: dict[str, Any], waits: bool) -> None:
    run.add(1)
    run.jobs["other"] = Job("other", run.group.number, **other)
    assert run.fail_on("n1", 1, mark="?") == waits


def test_workers_are_told_of_a_suspect_and_told_otherwise_once_it_is_none(run: Run) -> None:
    run.add(1)
    run.fail_on("n1", 1)
    assert run.words == {"avoid.n1"}
    assert run.endings.avoid(run.group) == {"n1"}
    run.fail_on("n2", 1, 1)
    assert run.words == set()
    run.run_on("n3", 1)
    assert run.words == {"avoid.n1", "avoid.n2"}


def test_a_group_that_comes_later_is_told_as_well(run: Run) -> None:
    run.add(1)
    run.fail_on("n1", 1)
    later = run.ledger.group_for(Options.of({"mem_gb": 2}))
    assert run.endings.avoid(later) == {"n1"}
    assert run.spool.offers(later.number)[1] == {"avoid.n1"}


def test_nodes_that_cannot_be_avoided_are_not(run: Run) -> None:
    run.add(1)
    run.fail_on("n1", 1)
    job = Job("9_0", 0, node="n1")
    facts = {"reason": "avoided", "handed_back": []}
    run.endings.note_leave(job, facts)  # it was sent before the node was a suspect
    assert run.words == {"avoid.n1"}
    job.avoids = frozenset({"n1"})
    run.endings.note_leave(job, facts)
    assert run.words == set()
    assert run.endings.avoid(run.group) == frozenset()


@pytest.mark.parametrize("mark", ["~", "?"])
def test_what_is_handed_back_too_late_is_of_no_interest(run: Run, mark: str) -> None:
    run.add(1)
    run.claim(1, "w-r0")
    entry = run.ledger.find(1)
    assert entry is not None
    entry.attempt = 1  # it was given up for dead, and is tried again
    assert run.endings.take_back(f"{task_name(1)}.w-r0{mark}", {"node": "n1"})
    assert run.spool.claims("w-r0") == []
    run.ledger.take(1)
    assert run.endings.take_back(f"{task_name(1)}.w-r0{mark}", {"node": "n1"})
    assert run.words == set()


def test_what_its_worker_has_given_back_when_it_was_started_again_is_not_tried_twice(run: Run) -> None:
    run.add(1)
    name = run.claim(1, "w-r0")
    run.spool.give_back(0, name, "w-r0")
    facts = {"node": "n1", "host": "n1", "job": "w", "log": "", "error": "ImportError"}
    assert run.endings.take_back(f"{name}.w-r0~", facts)
    assert run.waiting == [name]


def test_a_pool_that_has_stopped_tries_nothing_again(run: Run) -> None:
    run.add(1)
    run.ledger.failures.error = pools.TasksFailedError("stopped")
    assert not run.fail_on("n1", 1)


def test_jobs_that_start_nowhere_end_the_wait_after_some_in_a_row(run: Run) -> None:
    run.add(1)
    for node in ("n1", "n2", "n3")[:FRUITLESS]:
        assert not run.over
        run.lose(node)
    assert isinstance(run.over["task 1"].error, pools.WorkerDiedError)
    assert run.words == set()


def test_a_node_that_swallows_jobs_does_not_end_a_run_that_could_go_on_elsewhere(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.add(1)
    for _ in range(10):
        run.lose("n1")
    assert run.group.fruitless < FRUITLESS
    assert not run.over
    assert run.words == {"avoid.n1"}
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "kept away from node n1 from now on: jobs end there before they take a task" in told[0].getMessage()
    assert "exit code 127:0" in told[0].getMessage()
    run.lose("n2")  # the first that was sent elsewhere: so it is not the node
    assert isinstance(run.over["task 1"].error, pools.WorkerDiedError)
    assert run.words == set()


def test_a_node_that_swallows_jobs_though_they_are_kept_away_ends_the_run(run: Run) -> None:
    run.add(1)
    run.lose("n1")
    run.lose("n1")
    assert not run.over
    run.lose("n1", avoids=frozenset({"n1"}))  # there is no other
    assert run.over


@pytest.mark.parametrize("state", ["PREEMPTED", "TIMEOUT", "CANCELLED"])
def test_an_end_that_is_not_the_nodes_doing_speaks_against_no_node(run: Run, state: str) -> None:
    for _ in range(2):
        run.lose("n1", state)
    assert run.words == set()


def test_a_job_whose_worker_was_up_speaks_against_no_node(run: Run) -> None:
    for _ in range(2):
        run.lose("n1", up=True)
    assert run.words == set()


def test_workers_that_can_start_no_process_end_the_wait_too(run: Run) -> None:
    run.add(1)
    for node in ("n1", "n1", "n2"):
        assert not run.over
        run.endings.note_leave(Job("9_0", 0, up=True, left=True, node=node), {"reason": "bad_node", "handed_back": []})
    assert run.over


def test_a_worker_that_has_handed_back_tasks_is_no_job_in_vain(run: Run) -> None:
    run.add(1)
    for _ in range(5):
        facts = {"reason": "bad_node", "handed_back": [task_name(1)]}
        run.endings.note_leave(Job("9_0", 0, up=True, left=True, node="n1"), facts)
    assert not run.over


def test_what_a_job_had_beside_a_task_that_was_cancelled_is_tried_again_uncharged(run: Run) -> None:
    run.add(1)
    run.claim(1, "7_0-r0")
    run.endings.see_to(Job("7_0", run.group.number, up=True, called_off=True), Ending("CANCELLED"))
    assert run.waiting == [task_name(1, 1)]
    assert not run.over
    entry = run.ledger.find(1)
    assert entry is not None
    assert entry.retried == {"called_off": 1}
    assert "ended with another task, which was cancelled" in entry.history[0]
    run.endings.see_to(Job("7_1", run.group.number, up=True, called_off=True), Ending("CANCELLED"))
    assert run.group.fruitless == 0


def test_another_version_of_the_package_is_told_from_another_python() -> None:
    facts = {"python": "{}.{}".format(*sys.version_info), "host": "n1", "format": FORMAT - 1}
    assert f"on n1 write runs differently (format {FORMAT} and {FORMAT - 1})" in str(mismatch("p", facts))
    assert "its jobs Python 2.7 on n1" in str(mismatch("p", {**facts, "python": "2.7"}))


def test_a_task_that_another_jobs_end_cut_short_has_its_own_tries_yet(run: Run) -> None:
    group = run.group = run.ledger.group_for(Options.of({"retries": {"timeout": 1}}))
    run.add(1, group)
    for attempt, finished in enumerate((3, 0)):  # the first job had done others before
        job = Job(f"9_{attempt}", run.group.number, up=True, finished=finished)
        run.claim(1, f"{job.id}-r0", attempt)
        run.endings.see_to(job, Ending("TIMEOUT"))
        entry = run.ledger.find(1)
        assert entry is not None
        run.group = entry.group
    assert entry is not None
    assert entry.retried == {"cut_short": 1, "timeout": 1}
    assert run.group.options.strict
    assert run.waiting == [task_name(1, 2)]
