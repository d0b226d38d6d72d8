"""The TMPDIR of tasks in jobs: their own, empty, and gone in the end."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster import tmpdir

from .. import functions
from ..conftest import until


def use_place() -> tuple[str, list[str]]:
    """Leave files in the folder for temporary files; returns it, and what was there before."""
    place, found = tempfile.gettempdir(), os.listdir(tempfile.gettempdir())
    assert place == os.environ["TMPDIR"]
    folder = tempfile.mkdtemp()
    assert os.path.dirname(folder) == place
    Path(folder, "inside").touch()
    os.symlink("/", os.path.join(place, "link"))
    Path(place, "file").write_text("x" * 10_000)
    return place, found


def use_place_and_die() -> None:
    use_place()
    functions.die("SIGKILL")


def name_worker_and_wait(mark: str, go: str) -> None:
    Path(f"{mark}.new").write_text(str(os.getppid()))
    os.rename(f"{mark}.new", mark)
    functions.wait_for_file(go)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def get(**options: Any) -> Any:
    return pools.GetClusterPool("p", 1, executor="local", folder=str(Path.cwd() / "runs"), **options)


def test_tasks_find_it_empty_and_it_goes_with_the_job(parent: Path) -> None:
    pool = get()
    found = [pool.add_task("t", use_place).wait_return(50) for _ in range(2)]
    place = Path(found[0][0])
    assert found == [(str(place), [])] * 2
    assert place.parent == parent
    assert pool.add_process("c", 'echo "$TMPDIR"; ls -A "$TMPDIR"').wait_return(50) == f"{place}\n"
    until(lambda: not os.listdir(place), "something is left")  # also after the last one
    assert place.stat().st_mode & 0o777 == 0o700
    pool.shutdown()
    until(lambda: not os.listdir(parent), "a folder is left")


def test_that_of_a_killed_task_goes_too(parent: Path) -> None:
    pool = get(task_timeout=50)
    assert isinstance(pool.add_task("dead", use_place_and_die).exception(50), pools.WorkerDiedError)
    place, found = pool.add_task("next", use_place).wait_return(50)
    assert found == []
    assert os.listdir(parent) == [os.path.basename(place)]


def test_that_of_a_killed_worker_goes_with_its_process(parent: Path, tmp_path: Path) -> None:
    pool = get()
    task = pool.add_task("t", name_worker_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"))
    functions.wait_for_file(str(tmp_path / "mark"))
    assert len(os.listdir(parent)) == 1
    os.kill(int((tmp_path / "mark").read_text()), signal.SIGKILL)
    (tmp_path / "go").touch()
    task.wait(50)  # in another job
    pool.shutdown()
    until(lambda: not os.listdir(parent), "a folder is left")


def test_a_place_that_cannot_be_used_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    place = tmpdir.make()
    assert os.path.dirname(place) == "/tmp"
    tmpdir.remove(place)
    assert not os.path.exists(place)


def test_what_has_to_last_stays_and_what_was_removed_comes_back(parent: Path) -> None:
    place = tmpdir.make()
    os.mkdir(f"{place}/pymp-abc")
    Path(place, "file").touch()
    tmpdir.empty(place)
    assert os.listdir(place) == ["pymp-abc"]
    tmpdir.remove(place)
    tmpdir.empty(place)
    assert os.listdir(place) == []
    tmpdir.empty("")  # there is none
    tmpdir.remove(place)
    assert not os.listdir(parent)
