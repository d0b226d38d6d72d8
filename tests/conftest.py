"""What every test has: a folder of its own, a scrubbed environment, a time limit, and a look at what it has left behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

import psutil
import pytest

import nornir_pools as pools

from .lab import Slurm, find_slurm, stop_lab

_SCRUBBED = ("NORNIR_", "MAX_PYTHON_THREADS", "SLURM_", "SBATCH_", "SRUN_", "SCRATCH")
REQUIRE_SLURM = bool(os.environ.get("NORNIR_POOLS_REQUIRE_SLURM"))


def pytest_configure() -> None:
    """Tests begin without settings of whoever runs them. (Not at import: tasks import this module, too, inside jobs.)"""
    for name in list(os.environ):
        if name.startswith(_SCRUBBED) and name != "SLURM_CONF" and not name.startswith("NORNIR_TEST_"):
            del os.environ[name]
    # A runner may have started us in the background, where SIGINT is ignored, and so it would be in what tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # (nohup)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A real SLURM: the one that this machine has, else the project's lab, started for the session."""
    found, reason = find_slurm()
    if found is None:
        if REQUIRE_SLURM:
            pytest.fail(f"SLURM is required here, and there is none: {reason}")
        pytest.skip(f"no SLURM: {reason}")
    yield found
    stop_lab(found)


@pytest.fixture(scope="session", autouse=True)
def own_tmpdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What killed processes leave in TMPDIR goes with the session. (Not `tmp_path`: sockets need a short path.)"""
    tmp_path_factory.getbasetemp()  # stays where it would be without
    get_temp_dir()  # so does multiprocessing's of this process, which lives until it exits
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="nornir-pools-tests-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o1777)  # as /tmp is: some tests run as an ordinary user
        os.environ["TMPDIR"], tempfile.tempdir = folder, None
        yield
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test sets in the environment, other than by monkeypatch, and in this process is not left to the next one."""
    before, process = _environment(), _process()
    yield
    if (after := _environment()) != before:
        for name in before.keys() | after.keys():
            os.environ.pop(name, None)
        os.environ.update(before)
        pytest.fail(f"left in the environment: {dict(before.items() ^ after.items())}")
    if (now := _process()) != process:
        os.umask(process["umask"])
        pytest.fail(
            f"left in the process: {[(name, process[name], now[name]) for name in process if now[name] != process[name]]}"
        )


def _environment() -> dict[str, str]:
    # scikit-learn sets KMP_ variables when it is imported; `slurm` may start the session's lab in the middle of a test.
    of_others = ("PYTEST_CURRENT_TEST", "KMP_", "SLURM_CONF")
    return {name: value for name, value in os.environ.items() if not name.startswith(of_others)}


def _process() -> dict[str, Any]:
    """What else of this process a test may have changed."""
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "umask": umask,
        "path": list(sys.path),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
        "hook": sys.excepthook,
    }


@pytest.fixture(autouse=True)
def own_place(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's working folder and home are its own, and when it is over no thread, child or pool of it is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    threads = set(threading.enumerate())
    children = {process.pid for process in psutil.Process().children()}
    yield
    pools.ClosePools()
    assert not pools.dictKnownPools
    until(lambda: not [thread for thread in threading.enumerate() if thread not in threads], "threads are left")
    until(lambda: not _children(children), "children are left")
    gc.collect()  # a ResourceWarning belongs to the test that caused it


def until(reached: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait for something that is bound to happen; fail if it does not."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            names = [thread.name for thread in threading.enumerate()], psutil.Process().children()
            pytest.fail(f"{what} (threads, children: {names})")
        time.sleep(0.01)


def _children(before: set[int]) -> list[psutil.Process]:
    """Children that are left, but for multiprocessing's own servers, which serve the whole session."""
    left = []
    for process in psutil.Process().children():
        try:
            words = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if process.pid not in before and "forkserver import main" not in words and "resource_tracker" not in words:
            left.append(process)
    return left
