"""The worker's dealings with what a predecessor has left, without a scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest

from nornir_pools.cluster.spool import Spool, task_name
from nornir_pools.cluster.worker import Worker


def test_a_requeued_job_gives_back_what_it_had_claimed_but_not_what_it_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    spool = Spool.create(tmp_path / "run", {})
    spool.make_folder("claimed/7_0-r0")
    for number in (1, 2):
        spool.publish(0, task_name(number), [b"a call"])
        assert spool.claim(0, "0000", task_name(number), "7_0-r0")
    spool.deliver(spool.draft("inbox", [b"an outcome"], "7_0-r0"), task_name(1), "7_0-r0", keep_claim=True)
    worker = Worker(spool, 0, "7_0", idle_seconds=0, one_task=False)
    assert worker.predecessors == ["7_0-r0"]
    worker._give_back("7_0-r0")
    assert spool.names("todo/0/0000") == [task_name(2)]
    spool.close()
