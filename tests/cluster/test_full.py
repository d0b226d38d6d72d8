"""A run's folder on a disk that is full: an error that names the folder, and never a hang."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

Make = Callable[..., ClusterPool]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield path
    (path / "filler").unlink(missing_ok=True)
    pools.ClosePools()
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def pool(disk: Path) -> ClusterPool:
    """A pool with one local job and its run on the small disk."""
    pool = pools.GetClusterPool("full", 1, executor="local", folder=str(disk))
    assert pool.add_task("first", functions.add, 1, 2).wait_return(50) == 3
    return pool


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte; returns the file that does so."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path


def names_the_folder(error: BaseException | None, pool: ClusterPool) -> bool:
    assert isinstance(error, pools.SpoolError)
    assert pool.folder is not None
    return error.folder == str(pool.folder) and str(pool.folder) in str(error)


def test_a_full_disk_is_an_error_of_add_task_and_it_works_again_when_there_is_room(pool: ClusterPool, disk: Path) -> None:
    filler = fill(disk)
    for call in (lambda: pool.add_task("t", functions.add, 1), lambda: pool.share(b"x" * 100_000)):
        with pytest.raises(pools.SpoolError, match="No space left on device") as caught:
            call()
        assert names_the_folder(caught.value, pool)
        assert caught.value.errno == errno.ENOSPC
    assert pool.num_active_tasks == 0
    filler.unlink()
    assert pool.add_task("later", functions.add, 2, 2).wait_return(50) == 4


def test_an_outcome_without_room_is_an_error_and_the_next_works(pool: ClusterPool, disk: Path, tmp_path: Path) -> None:
    task = pool.add_task("t", functions.touch_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"), b"x" * 100)
    until((tmp_path / "mark").exists, "the task does not start", 50)
    filler = fill(disk)
    (tmp_path / "go").touch()
    time.sleep(1.0)  # the worker has tried by now, and waits for room
    filler.unlink()
    assert names_the_folder(task.exception(timeout=20), pool)
    assert "No space left on device" in str(task.exception())
    assert pool.add_task("later", functions.add, 2, 2).wait_return(50) == 4
    assert task.facts["job"] == "L1"  # the worker has borne it


def test_the_death_of_a_task_for_which_there_is_no_room_is_told_when_there_is(
    pool: ClusterPool, disk: Path, tmp_path: Path
) -> None:
    task = pool.add_task("t", die_when_told, str(tmp_path / "mark"), str(tmp_path / "go"))
    until((tmp_path / "mark").exists, "the task does not start", 50)
    filler = fill(disk)
    (tmp_path / "go").touch()
    time.sleep(1.0)
    filler.unlink()
    assert isinstance(task.exception(timeout=20), pools.WorkerDiedError)
    assert task.facts["job"] == "L1"


def die_when_told(mark: str, go: str) -> None:
    functions.touch_and_wait(mark, go)
    functions.die("SIGKILL")


def test_a_value_too_large_for_the_disk_is_an_error_at_once(pool: ClusterPool) -> None:
    begun = time.monotonic()
    assert names_the_folder(pool.add_task("large", bytes, 5_000_000).exception(timeout=20), pool)
    assert time.monotonic() - begun < 10
    assert pool.add_task("later", functions.add, 2, 2).wait_return(50) == 4


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_disk_that_stays_full_is_an_error_and_no_hang(pool: ClusterPool, disk: Path, tmp_path: Path) -> None:
    task = pool.add_task("t", functions.touch_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"), b"x" * 5000)
    until((tmp_path / "mark").exists, "the task does not start", 50)
    filler = fill(disk)
    (tmp_path / "go").touch()
    try:
        assert names_the_folder(task.exception(timeout=150), pool)  # once the worker has waited for room in vain
    finally:
        filler.unlink()
    assert pool.add_task("later", functions.add, 2, 2).wait_return(50) == 4


@pytest.mark.slurm
def test_a_batch_script_for_which_there_is_no_room_is_an_error_that_names_the_folder(disk: Path, slurm: Slurm) -> None:
    pool = pools.GetClusterPool("scripts", 1, executor="slurm", folder=str(disk))
    pool.share(1)
    assert pool.folder is not None
    (pool.folder / "jobs").rmdir()  # as if it could not be written
    error = pool.add_task("t", functions.add, 1).exception(timeout=20)
    assert names_the_folder(error, pool)
    (pool.folder / "jobs").mkdir()
    assert not slurm.jobs()
