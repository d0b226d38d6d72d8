"""What an earlier try or an earlier worker has left, without a scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import message
from nornir_pools import outcome as outcomes
from nornir_pools.cluster.spool import Spool, task_name
from nornir_pools.cluster.worker import Worker

from .. import functions
from ..conftest import until


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.create(tmp_path / "run")
    yield made
    made.close()


def test_a_requeued_job_gives_back_what_it_had_claimed_but_for_what_is_over(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.make_folder("claimed/7_0-r0")
    for number in range(1, 6):
        spool.publish(0, task_name(number), [b"x"])
        assert spool.claim(0, "0000", task_name(number), "7_0-r0")
    spool.write(f"inbox/{task_name(1)}.7_0-r0", [b"delivered just before the end"], "7_0-r0")
    for number, end in ((2, "done"), (3, "given up"), (4, "cancelled")):
        spool.note(t=end, n=number)
    spool.note(t="again", n=5)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    Worker(spool, 0, "7_0", idle_seconds=0, one_task=False)._give_back_claims_of_predecessors()
    assert [tasks for _, tasks in spool.offers(0)[0]] == [[task_name(5)]]
    assert spool.claims("7_0-r0") == [task_name(1)]  # the pool has yet to read its outcome


def test_an_early_try_that_died_for_want_of_memory_does_not_end_the_one_after_it(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("p", 1, executor="local", folder=str(tmp_path / "runs"))
    task = pool.add_task("t", functions.touch_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"), "done")
    until((tmp_path / "mark").exists, "it does not start", 30)
    assert pool.folder is not None
    spool = Spool(pool.folder)
    (worker,) = spool.names("claimed")
    facts = {"job": "L0", "worker": "L0-r0", "cause": "oom"}
    early = outcomes.freeze(outcomes.Outcome(error=pools.WorkerOutOfMemoryError("too much"), facts=facts), "t")
    spool.write(f"inbox/{task_name(1, 9)}.L0-r0", message.pack(*early), "test")
    until(lambda: not spool.answers(), "it is not taken in")
    assert spool.claims(worker) == [task_name(1)]
    (tmp_path / "go").touch()
    assert task.wait_return(20) == "done"
    spool.close()
