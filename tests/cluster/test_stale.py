"""A script that sees its runs late, while the jobs see the real folder: by old listings, or through stale caches.

The caches are those of slurm/lab/stale, which shows files late and listings as they are; for listings there is a stand-in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nornir_pools as pools

from .. import functions
from ..conftest import until
from ..lab import LAB, Slurm
from ..staleness import StaleListings

SCRIPT = """
import json, os, sys, threading, time
import nornir_pools as pools
from tests import functions

folder, mark = sys.argv[1:]
shown, ended, over = {}, {}, threading.Event()

def look(inbox):
    while not over.wait(0.02):
        for name in os.listdir(inbox):
            if name[0] not in ".+":
                shown.setdefault(int(name.split(".")[0]), time.monotonic())

with pools.GetClusterPool("stale", 4, executor="slurm", folder=folder) as pool:
    def follow(task, numbers=iter(range(1, 300))):
        number = next(numbers)
        task.add_done_callback(lambda task: ended.setdefault(number, time.monotonic()))
        return task

    killed = follow(pool.add_task("killed", functions.die_once, mark))
    looker = threading.Thread(target=look, args=(pool.folder / "inbox",))
    looker.start()
    calls, commands = [], []
    for i in range(100):
        calls.append(follow(pool.add_task(f"call {i}", functions.add, i, 1)))
        commands.append(follow(pool.add_process(f"command {i}", f"exit {i % 7}")))
        if i == 50:
            calls[0].wait()
            time.sleep(1.5)  # the rest comes to workers that are idle
    values = [task.wait_return() for task in calls]
    statuses = [task.returncode for task in commands]
    again = killed.wait_return()
    over.set()
    looker.join()
delays = [ended[number] - shown[number] for number in shown]
print(json.dumps({"values": values, "statuses": statuses, "again": again, "delays": delays, "device": os.stat(folder).st_dev}))
"""


@pytest.fixture(scope="module")
def fuse() -> None:
    """A machine on which root can mount through FUSE, and a test that is run by root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a mirror of a folder needs root")
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no FUSE here (/dev/fuse)")
    done = subprocess.run([LAB / "stale", "/usr", "true"], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"no folder can be mirrored here: {done.stderr.strip()}")


def run_stale(seconds: int, folder: Path, *command: object, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command that sees the folder with stale caches."""
    words = [LAB / "stale", "--seconds", str(seconds), folder, *command]
    path = os.pathsep.join([str(LAB.parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.timeout(120)
def test_all_tasks_come_back_though_listings_are_old(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("old", 2, executor="local", folder=str(tmp_path / "runs"), idle_seconds=1)
    killed = pool.add_task("killed", functions.die_once, str(tmp_path / "mark"))
    assert pool._run is not None
    StaleListings(pool._run.spool, 3.0)
    for start in range(0, 60, 20):
        tasks = [pool.add_task(f"task {i}", functions.add, i, 1) for i in range(start, start + 20)]
        assert [task.wait_return(60) for task in tasks] == list(range(start + 1, start + 21))
    assert killed.wait_return(90) == "second try"


@pytest.mark.slurm
@pytest.mark.timeout(150)
@pytest.mark.usefixtures("fuse")
@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.long)])
def test_all_tasks_of_a_script_with_stale_caches_come_back_at_once(seconds: int, tmp_path: Path, slurm: Slurm) -> None:
    (tmp_path / "runs").mkdir()
    script = (sys.executable, "-c", SCRIPT, tmp_path / "runs", tmp_path / "mark")
    done = run_stale(seconds, tmp_path / "runs", *script, timeout=140)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["device"] != (tmp_path / "runs").stat().st_dev  # it was not the real one
    assert found["values"] == list(range(1, 101))
    assert found["statuses"] == [i % 7 for i in range(100)]
    assert found["again"] == "second try"
    assert found["delays"]
    assert max(found["delays"]) < 1.0
    until(lambda: not slurm.jobs(), "jobs are left")


# --- the lab's own script


@pytest.fixture
def folder(tmp_path: Path, fuse: None) -> Iterator[Path]:
    """A folder for a mirror; afterwards nothing mirrors it."""
    path = tmp_path / "a 'folder' of $(strange) ünïcode"
    path.mkdir()
    yield path
    until(lambda: not mirrors(path), "bindfs lives on")


def mirrors(folder: Path) -> list[str]:
    """The processes that mirror a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"bindfs" and os.fsencode(folder) in words:
            found.append(process.name)
    return found


def test_a_file_that_was_looked_for_too_early_stays_missing(folder: Path) -> None:
    look = 'cat "$1/late"; touch "$1/looked"; until [ "$(ls "$1")" != looked ]; do sleep 0.05; done; ls "$1"; cat "$1/late"'
    words = [str(word) for word in (LAB / "stale", "--seconds", "30", folder, "sh", "-c", look, "sh", folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        until((folder / "looked").exists, "the script does not start")
        (folder / "late").write_text("content")
        out, error = script.communicate(timeout=20)
    assert out.split() == ["late", "looked"]
    assert error.count("No such file") == 2
    assert (folder / "late").read_text() == "content"


def test_the_exit_status_is_the_commands_and_the_mirror_goes(folder: Path) -> None:
    assert run_stale(5, folder, "sh", "-c", "exit 7", timeout=30).returncode == 7
    assert run_stale(5, folder, "no-such-command", timeout=30).returncode == 127


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_mirror_goes_however_the_command_ends(folder: Path, number: int) -> None:
    words = [str(word) for word in (LAB / "stale", folder, "sh", "-c", 'touch "$1/up"; exec sleep 60', "sh", folder)]
    with subprocess.Popen(words) as script:
        until((folder / "up").exists, "the command does not start")
        assert len(mirrors(folder)) == 1
        script.send_signal(number)
        assert script.wait(10) == -number


def test_wrong_use_is_told(tmp_path: Path) -> None:
    assert "--seconds N" in run_script("--help").stdout
    for words, text in (
        (["--no-such-option"], "--no-such-option"),
        (["--seconds", "0", "/usr", "true"], "needs a number above 0"),
        (["/usr"], "a folder and a command are needed"),
    ):
        done = run_script(*words)
        assert (done.returncode, text in done.stderr) == (2, True)
    assert "there is no folder" in run_script(str(tmp_path / "missing"), "true").stderr


def run_script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAB / "stale", *words], capture_output=True, text=True, timeout=30, check=False)
