"""The CPUs that a task's libraries believe to have are those of its job; what the user says goes before that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import cpus, settings
from nornir_pools.cluster.pool import ClusterPool

from .. import functions


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cpus.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def get(executor: str, tmp_path: Path, num_threads: int = 1, **options: object) -> ClusterPool:
    return pools.GetClusterPool("cpus", num_threads, executor=executor, folder=str(tmp_path / "runs"), **options)


def threads_of(pool: ClusterPool) -> list[str | None]:
    found = pool.add_task("t", functions.surroundings, *cpus.THREAD_VARIABLES).wait_return(50)
    return [found[name] for name in cpus.THREAD_VARIABLES]


@pytest.mark.slurm
@pytest.mark.parametrize("options", [{}, {"cpus_per_task": 1}, {"cpus_per_task": 2}], ids=str)
def test_a_task_has_the_cpus_that_its_job_was_given(slurm: object, tmp_path: Path, options: dict[str, int]) -> None:
    pool = get("slurm", tmp_path, **options)
    here = len(os.sched_getaffinity(0))
    count = min(options.get("cpus_per_task", 1), here)
    assert pool.add_task("n", settings.usable_cpus).wait_return(50) == count
    assert threads_of(pool) == [str(count)] * 5
    command = pool.add_process("c", 'echo "$OMP_NUM_THREADS $ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"')
    assert command.wait_return(50) == f"{count} {count}\n"


def test_workers_of_this_machine_share_its_cpus(tmp_path: Path) -> None:
    count = settings.usable_cpus()
    assert threads_of(get("local", tmp_path, 1))[0] == str(count)
    pools.ClosePools()
    assert threads_of(get("local", tmp_path, 2 * count))[0] == "1"


def test_what_the_user_says_goes_first(executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    pool = get(executor, tmp_path, slurm_setup=["export NUMEXPR_NUM_THREADS=6"])
    each = "1" if executor == "slurm" else str(settings.usable_cpus())
    assert threads_of(pool) == [each, "5", each, "6", each]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.setenv("NUMEXPR_NUM_THREADS", "8")
    assert threads_of(pool) == [each, "5", "7", "6", each]
