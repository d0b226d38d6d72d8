"""Jobs that SLURM starts once more, or gives more time: a value comes once, whoever delivers it."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from nornir_pools.cluster.pool import ClusterPool

from ..conftest import until
from ..lab import Slurm
from .test_endings import Running, journal

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
Make = Callable[..., ClusterPool]


def write_slowly(ledger: str, number: int) -> tuple[int, bytes]:
    """Note the job, take a while, and return what takes a while to be written."""
    with open(ledger, "a") as file:
        file.write(f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}\n")
    time.sleep(0.2)
    return number, bytes([number]) * 20_000_000


def test_a_job_that_is_requeued_while_it_runs_costs_nothing_but_time(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    slurm.run("scontrol", "requeue", running.job)
    until(lambda: len(running.lines) == 2, "it is not tried again", 60)
    running.go.touch()
    assert running.task.wait_return(20) == "done"
    assert len([entry for entry in journal(pool) if entry["t"] == "done"]) == 1


def test_values_arrive_once_though_jobs_are_requeued_while_they_write(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(2)
    ledger = tmp_path / "ledger"
    tasks = [pool.submit(write_slowly, str(ledger), number) for number in range(30)]
    until(lambda: ledger.exists(), "tasks do not start", 40)
    for _ in range(3):
        time.sleep(random.uniform(1, 2))
        try:
            slurm.run("scontrol", "requeue", random.choice(slurm.jobs("-t", "running")))
        except (subprocess.CalledProcessError, IndexError):
            continue  # it has just ended
    for number, task in enumerate(tasks):
        assert task.result(100) == (number, bytes([number]) * 20_000_000)
    done = [entry["n"] for entry in journal(pool) if entry["t"] == "done"]
    assert Counter(done) == Counter(range(1, 31))
    again = [entry for entry in journal(pool) if entry["t"] == "again"]
    assert len(ledger.read_text().split()) <= 30 + len(again)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_task_that_ran_out_of_time_is_tried_again_with_more_if_asked_for(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(1, timeout_min=1, retries={"timeout": "timeout_min*2<=240"})
    task = pool.add_task("long", take_long, str(tmp_path / "mark"), 100)
    job = task.wait_return(280)
    assert slurm.run("squeue", "-h", "-j", job, "-t", "all", "-o", "%l").strip() == "2:00"
    (again,) = [entry for entry in journal(pool) if entry["t"] == "again"]
    assert (again["cause"], again["options"]) == ("timeout", {"timeout_min": 2})
    assert len((tmp_path / "mark").read_text()) == 2


def take_long(mark: str, seconds: float) -> str:
    with open(mark, "a") as file:
        file.write("x")
    time.sleep(seconds)
    return os.environ["SLURM_JOB_ID"]
