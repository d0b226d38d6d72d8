"""Faults of the shared folder: an error that names it, and never a hang."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.folder import Folder
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until

MakeOne = Callable[[], ClusterPool]


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeOne]:
    """Makes a pool with one job, on this machine or on SLURM."""
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None
    yield lambda: pools.GetClusterPool("faults", 1, executor=request.param, folder=str(tmp_path / "runs"))
    for pool in list(pools.dictKnownPools.values()):
        pool.shutdown(cancel_futures=True)
    if slurm is not None:
        until(lambda: not slurm.jobs(), "jobs are left", 20)


@pytest.fixture
def pool(make: MakeOne) -> ClusterPool:
    return make()


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

    def stale(self: Folder, name: str, **how: Any) -> tuple[bytearray, float]:
        if next(faults, None) is not None:
            raise OSError(116, "Stale file handle")
        return real(self, name, **how)

    monkeypatch.setattr(Folder, "read_dated", stale)
    assert pool.add_task("second", functions.add, 2, 2).wait_return(20) == 4
    assert next(faults, None) is None


FLAKY = """
import errno, os
faults = dict.fromkeys(("open", "rename", "listdir", "mkdir", "unlink", "writev"), 3)

def spoil(name, real):
    def call(where, *args, **kwargs):
        # What reaches into a run's folder does so by a descriptor.
        if ("worker" in os.environ.get("FLAKY", "") and faults[name] and (isinstance(where, int) or kwargs)):
            faults[name] -= 1
            raise OSError(errno.ESTALE if faults[name] else errno.EIO, "a bad moment")
        return real(where, *args, **kwargs)
    return call

for name in faults:
    setattr(os, name, spoil(name, getattr(os, name)))
"""


def test_a_worker_bears_faults_that_pass(make: MakeOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(FLAKY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"))
    monkeypatch.setenv("FLAKY", "worker")
    pool = make()
    tasks = [pool.add_task(f"task {i}", functions.add, i, 1) for i in range(20)]
    assert [task.wait_return(50) for task in tasks] == list(range(1, 21))
    faults = pool.add_task("told", faults_left).wait_return(50)
    assert not any(faults.values()), faults
    assert pool.folder is not None
    kinds = [json.loads(line)["t"] for line in (pool.folder / "journal.jsonl").read_text().splitlines()]
    assert not {"again", "ended", "given up"} & set(kinds)


def faults_left() -> dict[str, int]:
    return dict(sys.modules["sitecustomize"].faults)


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
