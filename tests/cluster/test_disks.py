"""Where files may be: a home that jobs cannot write, a disk for few files; and what a script that is killed leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def write_home() -> str:
    """Why nothing can be written into the home directory."""
    try:
        (Path.home() / "file").write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


@root
def test_jobs_need_no_home_that_can_be_written(executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    # The job, and nobody else, sees an empty disk there, of which it can only read.
    python = f"""unshare --mount sh -c 'mount -t tmpfs -o ro none "$HOME" && exec "$@"' sh {sys.executable}"""
    pool = pools.GetClusterPool("homeless", 1, executor=executor, folder=str(tmp_path / "runs"), python=python)
    assert pool.add_task("write", write_home).wait_return(50) == "EROFS"
    assert pool.add_process("command", "echo said").wait_return(50) == "said\n"
    assert pool.add_task("fails", functions.fail).exception(50) is not None
    assert list(home.iterdir()) == []


# --- a disk on which the number of files is limited


def inodes_used(disk: Path) -> int:
    """Files and folders of a disk."""
    free = os.statvfs(disk)
    return free.f_files - free.f_ffree


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, empty."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=3200", "tmpfs", path], check=True)
    yield path
    pools.ClosePools()
    subprocess.run(["umount", "-l", path], check=True)


def blocked_pool(disk: Path) -> tuple[ClusterPool, pools.Task, Path]:
    """A pool of one local job that is busy until a file is there."""
    pool = pools.GetClusterPool("files", 1, executor="local", folder=str(disk))
    mark, go = disk.parent / "mark", disk.parent / "go"
    first = pool.add_task("first", functions.touch_and_wait, str(mark), str(go))
    until(mark.exists, "the first task does not start", 50)
    return pool, first, go


@root
def test_a_thousand_tasks_fit_where_three_thousand_files_may_be(disk: Path) -> None:
    pool, _, go = blocked_pool(disk)
    tasks = [pool.submit(functions.add, number, 1) for number in range(1_000)]
    failing = [pool.submit(functions.fail) for _ in range(5)]
    assert inodes_used(disk) <= 3 * 1_006 + 6 * 1 + 100
    go.touch()
    assert [task.result(50) for task in tasks] == list(range(1, 1_001))
    assert all(task.exception(50) for task in failing)
    pool.shutdown()
    assert inodes_used(disk) <= 100 + 5


def add_many(pool: ClusterPool) -> None:
    """Add calls that need new files: what goes into one that is there has room."""
    for _ in range(100):
        pool.submit(functions.echo, b"x" * 100_000)


@root
def test_an_error_tells_files_without_number_from_data_without_room(disk: Path) -> None:
    pool, first, go = blocked_pool(disk)
    (disk / "others").mkdir()
    for number in range(4_000):
        try:
            (disk / "others" / str(number)).touch()
        except OSError:
            break
    with pytest.raises(pools.SpoolError, match=r"No space left on device for another file: all inodes are used \(df -i\)"):
        add_many(pool)
    for path in (disk / "others").iterdir():
        path.unlink()
    go.touch()
    assert pool.add_task("later", functions.add, 2, 2).wait_return(50) == 4
    assert first.exception(50) is None


# --- a script that was killed


def test_a_journal_begins_with_how_to_go_on(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("killed", 1, executor="local", folder=str(tmp_path / "runs"))
    assert pool.add_task("first", functions.add, 1, 2).wait_return(50) == 3
    assert pool.folder is not None
    first = json.loads((pool.folder / "journal.jsonl").read_text().splitlines()[0])
    assert f"nornir-pools status {pool.folder.name}" in first["text"]
    assert f"nornir_pools.attach('{pool.folder.name}')" in first["text"]
