"""Clusters that take few jobs at once: all tasks end all the same, and it is said once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_jobs import wait_in_job
from .test_lab import make_lab, pytestmark

__all__ = ["pytestmark"]

Make = Callable[..., ClusterPool]


@pytest.fixture(scope="module")
def small() -> Iterator[Slurm]:
    """A lab in which a user may have 8 jobs, and an array 5 elements."""
    lab = make_lab(1)
    try:
        result = lab.start("--max-submit", "8", "--max-array-size", "5")
        assert result.returncode == 0, result.stderr
        yield Slurm(lab.env["SLURM_CONF"], ours=False)
    finally:
        lab.stop("--purge")


@pytest.fixture
def cluster(small: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("SLURM_CONF", small.conf)

    def get(num_threads: int | None = None, **options: object) -> ClusterPool:
        return pools.GetClusterPool("cluster", num_threads, executor="slurm", folder=str(tmp_path / "runs"), **options)

    yield get
    for pool in list(pools.dictKnownPools.values()):
        pool.shutdown(cancel_futures=True)
    until(lambda: not small.jobs(), "jobs are left", 20)


@pytest.mark.parametrize("account", ["lab", "lab-assoc"])
def test_a_hundred_tasks_end_though_few_jobs_may_be_sent(cluster: Make, caplog: pytest.LogCaptureFixture, account: str) -> None:
    pool = cluster(slurm_account=account)
    with caplog.at_level(logging.WARNING):
        tasks = [pool.submit(functions.add, i) for i in range(100)]
        assert [task.result(100) for task in tasks] == list(range(1, 101))
    assert len([record for record in caplog.records if "SLURM did not take" in record.getMessage()]) <= 1


def test_tasks_with_a_job_each_end_though_few_jobs_may_be_sent(
    cluster: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def told() -> int:
        return len([record for record in caplog.records if "SLURM did not take" in record.getMessage()])

    pool = cluster(tasks_per_job=1)
    with caplog.at_level(logging.WARNING):
        tasks = [pool.submit(wait_in_job, str(tmp_path / "go")) for _ in range(30)]
        until(lambda: told() == 1, "all jobs are taken", 40)
        (tmp_path / "go").touch()
        assert len({task.result(100) for task in tasks}) == 30
    assert told() == 1


def test_an_account_that_does_not_exist_is_told_at_once(cluster: Make) -> None:
    task = cluster(slurm_account="nonesuch").add_task("t", functions.add, 1)
    with pytest.raises(pools.SubmissionError, match="Invalid account"):
        task.wait_return(15)
