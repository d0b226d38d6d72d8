"""Tasks that want more memory than their job has: told as such, and tried again with more if that is asked for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]
Make = Callable[..., ClusterPool]


def use_memory(megabytes: int) -> str:
    """Use that much for a moment; returns the job."""
    data = [b"x" * 1_000_000 for _ in range(megabytes)]
    time.sleep(2)
    return os.environ["SLURM_JOB_ID"] if len(data) == megabytes else ""


def journal(pool: ClusterPool) -> list[dict[str, object]]:
    assert pool.folder is not None
    return [json.loads(line) for line in (pool.folder / "journal.jsonl").read_text().splitlines()]


def asked_memory(slurm: Slurm, job: str) -> str:
    return slurm.run("squeue", "-h", "-j", job, "-t", "all", "-o", "%m").strip()


@pytest.fixture
def constrained(slurm: Slurm) -> None:
    """SLURM limits the memory of its jobs by cgroups."""
    if "proctrack/cgroup" not in slurm.run("scontrol", "show", "config"):
        pytest.skip("this SLURM does without cgroups")


@pytest.mark.usefixtures("constrained")
def test_a_task_that_the_kernel_ends_is_a_memory_error_with_asked_and_used(cluster: Make) -> None:
    pool = cluster(1, mem_gb=0.1)
    begun = time.monotonic()
    large = pool.add_task("large", use_memory, 400)
    error = large.exception(timeout=60)
    assert time.monotonic() - begun < 30
    assert isinstance(error, pools.WorkerOutOfMemoryError)
    assert isinstance(error, MemoryError)
    assert isinstance(error, pools.WorkerDiedError)
    assert 90e6 < error.memory_asked < 110e6
    assert 50e6 < error.memory < 120e6
    assert "out of memory, says the kernel (it used" in str(error)
    small = pool.add_task("small", functions.add, 1, 2)
    assert small.wait_return(50) == 3
    assert small.facts["job"] == large.facts["job"]
    assert pool.folder is not None
    claimed = pool.folder / "claimed"
    until(lambda: not [path for path in claimed.rglob("*") if path.is_file()], "claims are left")


@pytest.mark.usefixtures("constrained")
def test_out_of_memory_is_tried_again_in_a_larger_job_if_asked_for(cluster: Make, slurm: Slurm) -> None:
    pool = cluster(1, mem_gb=0.1, retries={"oom": "mem_gb*2<=64"})
    task = pool.add_task("large", use_memory, 300)
    job = task.wait_return(100)
    assert asked_memory(slurm, job) in ("400M", "409M", "410M")
    again = [entry for entry in journal(pool) if entry["t"] == "again"]
    assert [entry["cause"] for entry in again] == ["oom", "oom"]
    assert [entry["options"] for entry in again] == [{"mem_gb": 0.2}, {"mem_gb": 0.4}]


@pytest.mark.usefixtures("constrained")
def test_out_of_memory_beyond_the_rules_limit_tells_all_tries(cluster: Make) -> None:
    pool = cluster(1, mem_gb=0.1, retries={"oom": "mem_gb*2<=0.2"})
    error = pool.add_task("large", use_memory, 400).exception(timeout=100)
    assert isinstance(error, pools.WorkerOutOfMemoryError)
    assert len(error.tries) == 2
    assert error.tries[0].endswith("then with mem_gb=0.2")
    assert "it was tried 2 times" in str(error)
    assert pool.folder is not None
    claimed = pool.folder / "claimed"
    until(lambda: not [path for path in claimed.rglob("*") if path.is_file()], "claims are left")
