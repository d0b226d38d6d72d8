"""What `nornir_pools.testing` gives to tests of users: each scripted end is the error that it stands for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.testing import PretendSlurm

from .. import functions
from ..conftest import until

pytest_plugins = ["nornir_pools.testing"]

ERRORS: dict[str, type[pools.PoolError]] = {
    "cancelled": pools.JobCancelledError,
    "lost": pools.JobLostError,
    "node_failed": pools.NodeFailedError,
    "oom": pools.JobOutOfMemoryError,
    "preempted": pools.JobPreemptedError,
    "timeout": pools.JobTimeoutError,
    "worker_died": pools.WorkerDiedError,
}


def note(mark: str) -> None:
    with open(mark, "a") as file:
        file.write("called\n")


@pytest.mark.parametrize("how", ERRORS)
def test_a_job_ends_as_the_test_has_said(pretend_slurm: PretendSlurm, tmp_path: Path, how: str) -> None:
    pool = pretend_slurm.pool(retries=0)
    pretend_slurm.end(how, task="unlucky")
    unlucky = pool.add_task("unlucky", note, str(tmp_path / "mark"))
    error = unlucky.exception(30)
    assert type(error) is ERRORS[how]
    assert [pool.add_task("lucky", functions.add, n).result(30) for n in range(2)] == [1, 2]
    assert not (tmp_path / "mark").exists()
    assert pretend_slurm.ends_left == 0


def test_cluster(cluster_pool: ClusterPool) -> None:
    assert cluster_pool.add_task("sum", functions.add, 1, 2).wait_return(30) == 3
