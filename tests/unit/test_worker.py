"""The worker, without a job around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_pools.cluster.spool import Spool, task_name
from nornir_pools.cluster.worker import Worker


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
