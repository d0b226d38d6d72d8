"""Faults of the shared folder: an error that names it, and never a hang."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.folder import Folder
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until

Make = Callable[..., ClusterPool]


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterPool]:
    """A pool with one job, on this machine or on SLURM."""
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None
    pool = pools.GetClusterPool("faults", 1, executor=request.param, folder=str(tmp_path / "runs"))
    yield pool
    pool.shutdown(cancel_futures=True)
    if slurm is not None:
        until(lambda: not slurm.jobs(), "jobs are left", 20)


def test_a_folder_that_is_removed_is_an_error_and_no_hang(pool: ClusterPool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    task = pool.add_task("running", functions.touch_and_wait, str(mark), str(tmp_path / "go"))
    until(mark.exists, "the task does not start", 40)
    assert pool.folder is not None
    shutil.rmtree(pool.folder)
    with pytest.raises(pools.SpoolError, match=r"inbox: was it removed\?") as caught:
        task.wait_return(20)
    assert caught.value.folder == str(pool.folder)
    with pytest.raises(pools.SpoolError, match=str(pool.folder)):
        pool.add_task("later", functions.add, 1)
    (tmp_path / "go").touch()


def test_a_fault_that_passes_costs_nothing(pool: ClusterPool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.add_task("first", functions.add, 1, 2).wait_return(40) == 3
    real, faults = Folder.read_dated, iter(range(3))

    def stale(self: Folder, name: str) -> tuple[bytearray, float]:
        if next(faults, None) is not None:
            raise OSError(116, "Stale file handle")
        return real(self, name)

    monkeypatch.setattr(Folder, "read_dated", stale)
    assert pool.add_task("second", functions.add, 2, 2).wait_return(20) == 4
    assert next(faults, None) is None


def test_a_result_too_large_for_the_disk_is_an_error_and_the_next_task_works(pool: ClusterPool) -> None:
    with pytest.raises(pools.SpoolError, match="cannot be written"):
        pool.add_task("full", fill_the_disk).wait_return(40)
    assert pool.add_task("small", functions.add, 1, 2).wait_return(40) == 3


def fill_the_disk() -> bytes:
    """As on a full disk: no file may grow beyond 4 kB in this process from now on."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return b"x" * 1_000_000


def test_a_task_that_ends_itself_by_sigterm_is_told(pool: ClusterPool) -> None:
    error = pool.add_task("term", end_by_sigterm).exception(timeout=55)
    assert isinstance(error, pools.WorkerDiedError)
    assert "'term'" in str(error)


def end_by_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
