"""A task's own limit on a real SLURM: all that it has started goes, and the job goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..unit.script import is_alive

pytestmark = pytest.mark.slurm


def test_a_task_at_its_limit_ends_with_all_it_has_started_and_its_job_goes_on(
    cluster: Callable[..., ClusterPool], tmp_path: Path
) -> None:
    pool = cluster(1, task_timeout=3)
    log = tmp_path / "log"
    task = pool.add_task("hangs", functions.start_programs_and_hang, str(log))
    error = task.exception(50)
    assert isinstance(error, pools.TaskTimeoutError)
    assert error.job_id in str(error)
    assert Path(error.log).exists()
    processes = [int(word) for word in log.read_text().split()]
    assert len(processes) == 3
    until(lambda: not any(map(is_alive, processes)), "processes are left")
    after = pool.add_task("next", os.getpid)
    assert after.wait_return(50) not in processes
    assert after.facts["job"] == task.facts["job"] == error.job_id
