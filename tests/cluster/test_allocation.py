"""Pools inside a SLURM job that runs already: srun starts a worker job on each of its nodes, and nothing is submitted."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_resume import count_and_add
from .test_whole_nodes import cpus_told

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def allocation(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of an allocation of two whole nodes; this process is as inside of it."""
    command = ["salloc", "--no-shell", "--nodes=2", "--exclusive", "--time=5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=slurm.environment(), check=True)
    (job,) = re.findall(r"Granted job allocation (\d+)", done.stderr)
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_JOB_NODELIST", slurm.run("squeue", "-h", "-j", job, "-o", "%N").strip())
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "8(x2)")
    yield job
    pools.ClosePools()
    slurm.run("scancel", job)
    until(lambda: not slurm.jobs(), "the allocation stays", 40)


def get(tmp_path: Path, **options: Any) -> ClusterPool:
    return pools.GetClusterPool("inside", folder=str(tmp_path / "runs"), **{"executor": "allocation", **options})


def node_and_wait(mark: str, go: str) -> tuple[str, list[str]]:
    functions.touch_and_wait(mark, go)
    return os.environ["SLURMD_NODENAME"], [
        name for name in os.environ if name.startswith(("SLURM_STEP", "SLURM_PROCID", "PMI"))
    ]


def test_tasks_run_on_all_nodes_and_nothing_is_submitted(
    allocation: str, slurm: Slurm, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORNIR_POOLS_EXECUTOR", "allocation")
    with caplog.at_level(logging.WARNING):
        pool = get(tmp_path, executor="slurm", slurm_partition="nonesuch", cpus_per_task=1)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "in an allocation these options mean nothing: slurm_partition" in said
    go = tmp_path / "go"
    tasks = [pool.add_task(str(n), node_and_wait, str(tmp_path / f"mark{n}"), str(go)) for n in range(16)]
    until(lambda: len(list(tmp_path.glob("mark*"))) == 16, "sixteen tasks do not run at once", 60)
    assert slurm.jobs() == [allocation]
    assert pool.folder is not None
    assert {task.job for task in pools.look(pool.folder).tasks} == {f"{allocation}-w1", f"{allocation}-w2"}
    until(lambda: cpus_told(pool) == [1.0] * 16, "it is not told what has been set aside for each", 20)
    go.touch()
    values = [task.wait_return(40) for task in tasks]
    assert len({node for node, _ in values}) == 2
    assert not any(left for _, left in values)
    pool.shutdown()
    until(lambda: not slurm.run("squeue", "-h", "-s", "-j", allocation, "-o", "%j").count("-w"), "steps stay", 20)


def test_what_was_done_without_an_allocation_is_not_done_again_in_one(
    allocation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the tasks', too
    for executor, count in (("local", 2), ("allocation", 4)):
        with get(tmp_path, executor=executor, resume=True) as pool:
            tasks = [pool.add_task("t", count_and_add, n) for n in range(count)]
            assert [task.wait_return(60) for task in tasks] == list(range(1, count + 1))
    assert sorted((tmp_path / "ledger").read_text().split()) == ["0", "1", "2", "3"]


def test_when_the_allocation_ends_tasks_are_told_why(allocation: str, slurm: Slurm, tmp_path: Path) -> None:
    pool = get(tmp_path, tasks_at_once=1)
    go = str(tmp_path / "go")
    tasks = [pool.add_task(str(n), functions.touch_and_wait, str(tmp_path / f"mark{n}"), go) for n in range(4)]
    until(lambda: len(list(tmp_path.glob("mark*"))) == 2, "a task a node does not run", 60)
    until(lambda: cpus_told(pool) == [8.0] * 2, "it is not told what has been set aside for each", 20)
    slurm.run("scancel", allocation)
    errors = [task.exception(60) for task in tasks]
    assert sum(isinstance(error, pools.JobCancelledError) for error in errors) == 2, errors
    waited = [error for error in errors if isinstance(error, pools.SubmissionError)]
    assert len(waited) == 2, errors
    assert f"the allocation {allocation} that it was to run in is over (CANCELLED" in str(waited[0])


SCRIPT = """
import sys
import nornir_pools as pools
from tests.functions import surroundings

with pools.GetClusterPool("script", executor="slurm", folder=sys.argv[1], slurm_partition="nonesuch") as pool:
    print(pool.add_task("t", surroundings, "SLURM_JOB_ID").wait_return(60)["SLURM_JOB_ID"])
"""


def test_a_script_that_submits_jobs_runs_as_it_is_under_salloc(slurm: Slurm, tmp_path: Path) -> None:
    environment = {**slurm.environment(), "NORNIR_POOLS_EXECUTOR": "allocation", "PYTHONPATH": str(ROOT)}
    command = ["salloc", "--nodes=1", "--time=5", sys.executable, "-c", SCRIPT, str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (job,) = re.findall(r"Granted job allocation (\d+)", done.stderr)
    assert done.stdout.strip() == job
    until(lambda: not slurm.jobs(), "the allocation stays", 40)
