"""Who may write into a run's folder, and who may read it: nobody but its user. (Also run by a user whom modes stop.)"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.launching import worker_command
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.cluster.spool import Spool
from nornir_pools.options import Options

from .. import functions
from ..conftest import until
from ..lab import Slurm

Make = Callable[..., ClusterPool]
ordinary = pytest.mark.skipif(os.geteuid() == 0, reason="modes stop ordinary users only")


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes pools with one job, on this machine or on SLURM."""
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None

    def get(**options: Any) -> ClusterPool:
        folder = str(tmp_path / "runs")
        return pools.GetClusterPool("private", 1, **{"executor": request.param, "folder": folder, **options})

    yield get
    pools.ClosePools()
    if slurm is not None:
        until(lambda: not slurm.jobs(), "jobs are left", 20)


def modes(folder: Path) -> dict[str, int]:
    """The mode of everything in a folder, but for what comes and goes."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        try:
            found[str(path.relative_to(folder))] = path.lstat().st_mode
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_folders_are_0700_and_files_0600_whatever_the_umask(make: Make, umask: int) -> None:
    before = os.umask(umask)
    try:
        pool = make(keep="all", slurm_setup=["umask"])
        tasks = [pool.add_task("t", functions.surroundings) for _ in range(3)]
        shared = pool.add_task("shared", functions.echo, pool.share(b"x" * 100_000), b"y" * 200_000)
        command = pool.add_process("command", "echo said; umask")
        failed = pool.add_task("failed", functions.fail)
        seen = modes(_wait(pool, [*tasks, shared, command, failed]))
    finally:
        os.umask(before)
    assert {task.wait_return(50)["umask"] for task in tasks} == {umask}
    pool.shutdown()
    assert pool.folder is not None
    seen.update(modes(pool.folder))
    kinds = {path.split("/")[0] for path in seen}
    assert kinds >= {"run.json", "journal.jsonl", "shared", "todo", "claimed", "inbox", "packs", "jobs"}
    assert any(path.endswith(".log") for path in seen)
    assert any(path.endswith(".pack") for path in seen)
    wrong = {path: oct(mode) for path, mode in seen.items() if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)}
    assert not wrong
    logs = b"".join(path.read_bytes() for path in pool.folder.glob("jobs/*.log"))
    assert f"{umask:04o}\n".encode() in logs  # lines of the user's see the script's umask


def _wait(pool: ClusterPool, tasks: list[pools.Task]) -> Path:
    for task in tasks:
        task.exception(timeout=50)
    assert pool.folder is not None
    return pool.folder


def serve(folder: Path, *how: str) -> subprocess.CompletedProcess[str]:
    """Start a worker by hand."""
    command = worker_command(folder, Options.of({"idle_seconds": 0}), 0)
    return subprocess.run(["/bin/sh", "-c", command, *how], capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("mode", [0o750, 0o707, 0o701])
def test_a_worker_refuses_a_folder_that_is_open_to_others(tmp_path: Path, mode: int) -> None:
    spool = Spool.create(tmp_path / "run")
    spool.describe({"python": "x", "environment": {}})
    spool.close()
    (tmp_path / "run").chmod(mode)
    done = serve(tmp_path / "run")
    assert done.returncode != 0
    assert f"with mode {mode:o}; it must be this user's" in done.stderr
    assert list((tmp_path / "run" / "claimed").iterdir()) == []


def test_a_worker_does_not_follow_a_link_to_a_folder(tmp_path: Path) -> None:
    with contextlib.closing(Spool.create(tmp_path / "run")) as spool:
        spool.describe({"python": "x", "environment": {}})
    (tmp_path / "link").symlink_to(tmp_path / "run")
    done = serve(tmp_path / "link")
    assert done.returncode != 0
    assert "link cannot be opened" in done.stderr
    assert list((tmp_path / "run" / "claimed").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_worker_refuses_a_folder_of_another_user(tmp_path: Path) -> None:
    with contextlib.closing(Spool.create(tmp_path / "run")) as spool:
        spool.describe({"python": "x", "environment": {}})
    os.chown(tmp_path / "run", 65534, 65534)
    done = serve(tmp_path / "run")
    assert done.returncode != 0
    assert "belongs to uid 65534 with mode 700; it must be this user's (0)" in done.stderr


@pytest.mark.slurm
def test_a_run_whose_folder_was_opened_to_others_is_refused_by_its_next_worker(slurm: Slurm, tmp_path: Path) -> None:
    pool = pools.GetClusterPool("opened", 1, executor="slurm", folder=str(tmp_path / "runs"), idle_seconds=0)
    assert pool.add_task("first", functions.add, 1, 2).wait_return(50) == 3
    assert pool.folder is not None
    pool.folder.chmod(0o770)
    error = pool.add_task("second", functions.add, 1, 2).exception(timeout=55)
    assert isinstance(error, pools.PoolError)
    assert "it must be this user's" in str(error)
    pool.shutdown()
    until(lambda: not slurm.jobs(), "jobs are left", 20)


@pytest.mark.parametrize("place", ["todo/0/0000/0000001.0", "shared", "inbox"])
def test_links_inside_are_not_followed(tmp_path: Path, place: str) -> None:
    spool = Spool.create(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    path = spool.path / place
    if path.exists():
        path.rmdir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside)
    for look in (spool.read, spool.names):
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            look(place)
    spool.close()


def test_a_journal_or_a_script_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run")
    (tmp_path / "precious").write_text("precious")
    (spool.path / "journal.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(pools.SpoolError):
        spool.note(t="x")
    assert (tmp_path / "precious").read_text() == "precious"
    spool.close()


def test_a_secret_of_the_environment_is_nowhere_in_the_runs_folder(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "s3cr3t-7f3b"
    monkeypatch.setenv("TOKEN", secret)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    pool = make(keep="all")
    held = pool.add_task("held", functions.touch_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"))
    until((tmp_path / "mark").exists, "the task does not start", 50)
    during = content(tmp_path)
    (tmp_path / "go").touch()
    held.wait(50)
    assert pool.add_task("has", os.getenv, "TOKEN").wait_return(50) == secret  # in a file of outcomes, as a value
    pool.shutdown()
    for path, text in {**during, **content(tmp_path)}.items():
        assert secret.encode() not in text or path.parent.name == "packs", path
    assert not list((tmp_path / "temporary").iterdir())


def test_a_variable_that_the_script_changes_travels_in_a_private_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make(keep="all")
    monkeypatch.setenv("TOKEN", "changed-9c1d")
    assert pool.add_task("has", os.getenv, "TOKEN").wait_return(50) == "changed-9c1d"
    pool.shutdown()
    assert pool.folder is not None
    holders = {path.parent.name for path, text in content(pool.folder).items() if b"changed-9c1d" in text}
    assert holders == {"shared", "packs"}


def content(folder: Path) -> dict[Path, bytes]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            try:
                found[path] = path.read_bytes()
            except FileNotFoundError:
                continue
    return found


@ordinary
def test_a_folder_that_may_not_be_written_any_more_is_an_error_and_no_hang(make: Make, tmp_path: Path) -> None:
    pool = make()
    running = pool.add_task("running", functions.touch_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"))
    until((tmp_path / "mark").exists, "the task does not start", 50)
    assert pool.folder is not None
    folders = [pool.folder, *(path for path in pool.folder.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        with pytest.raises(pools.SpoolError, match="Permission denied") as caught:
            pool.add_task("later", functions.add, 1)
        assert caught.value.folder == str(pool.folder)
        (tmp_path / "go").touch()
        error = running.exception(timeout=55)
        assert isinstance(error, pools.SpoolError)
        assert str(pool.folder) in str(error)
    finally:
        for folder in folders:
            folder.chmod(0o700)


@ordinary
def test_another_users_folder_is_refused_by_pool_and_worker() -> None:
    with pytest.raises(pools.SpoolError, match=r"set another with folder="):
        pools.GetClusterPool("theirs", 1, executor="local", folder="/usr")
    done = serve(Path("/usr"))
    assert done.returncode != 0
    assert "belongs to uid 0 with mode 755" in done.stderr
