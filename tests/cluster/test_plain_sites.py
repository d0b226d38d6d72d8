"""Sites without cgroups, or without accounting: memory limits and ends of jobs are told as well as can be known there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_endings import Running
from .test_lab import make_lab, pytestmark
from .test_memory import asked_memory, journal, use_memory

__all__ = ["pytestmark"]

Make = Callable[..., ClusterPool]


@pytest.fixture(scope="module", params=[(), ("--no-accounting",)], ids=["with accounting", "without accounting"])
def plain(request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """A lab without cgroups."""
    lab = make_lab(1)
    try:
        result = lab.start("--no-cgroup", *request.param)
        assert result.returncode == 0, result.stderr
        yield Slurm(lab.env["SLURM_CONF"], ours=False)
    finally:
        lab.stop("--purge")


@pytest.fixture
def has_accounting(plain: Slurm) -> bool:
    return "accounting_storage/slurmdbd" in plain.run("scontrol", "show", "config")


@pytest.fixture
def cluster(plain: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("SLURM_CONF", plain.conf)

    def get(num_threads: int | None = None, **options: object) -> ClusterPool:
        return pools.GetClusterPool("cluster", num_threads, executor="slurm", folder=str(tmp_path / "runs"), **options)

    yield get
    for pool in list(pools.dictKnownPools.values()):
        pool.shutdown(cancel_futures=True)
    until(lambda: not plain.jobs(), "jobs are left", 20)


def test_too_much_memory_is_told_with_asked_and_used(cluster: Make, plain: Slurm, has_accounting: bool) -> None:
    pool = cluster(1, mem_gb=0.1, retries=0)
    task = pool.add_task("large", use_memory, 400)
    until(lambda: "FAILED" in plain.run("squeue", "-h", "-r", "-t", "all", "-o", "%T"), "SLURM does not see it", 40)
    seen = time.monotonic()
    error = task.exception(timeout=30)
    assert time.monotonic() - seen < 15  # it is the poll for the states, and the grace
    assert "memory" in str(error)
    if has_accounting:
        assert isinstance(error, pools.JobOutOfMemoryError)
        assert 90e6 < error.memory_asked < 110e6 < error.memory
        assert f"it used {error.memory / 1e6:.0f} MB of {error.memory_asked / 1e6:.0f} MB asked for" in str(error)
    else:  # nobody knows what it used: the log does, and it is shown
        assert isinstance(error, pools.WorkerDiedError)
        assert "exceeded memory limit" in str(error)
    assert pool.add_task("small", functions.add, 1, 2).wait_return(30) == 3


def test_out_of_memory_is_tried_again_in_a_larger_job(cluster: Make, plain: Slurm, has_accounting: bool) -> None:
    if not has_accounting:
        pytest.skip("without accounting nobody knows that it was for want of memory")
    pool = cluster(1, mem_gb=0.1, retries={"oom": "mem_gb*8<=64"})
    job = pool.add_task("large", use_memory, 300).wait_return(90)
    assert asked_memory(plain, job) == "819M"
    assert [entry["cause"] for entry in journal(pool) if entry["t"] == "again"] == ["oom"]


def test_a_cancelled_job_is_told(cluster: Make, plain: Slurm, tmp_path: Path) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    plain.run("scancel", running.job)
    assert isinstance(running.error(15), pools.JobCancelledError)


def test_a_killed_worker_is_tried_again(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    running.worker.kill()
    until(lambda: len(running.lines) == 2, "it is not tried again", 45)
    running.go.touch()
    assert running.task.wait_return(20) == "done"
