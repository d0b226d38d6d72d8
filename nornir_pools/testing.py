"""Fixtures of pytest for tests of your own code: a cluster pool without a cluster, and a SLURM whose jobs end as you say.

In a test module, or in the conftest.py of the folder that pytest starts from::

    pytest_plugins = ["nornir_pools.testing"]

(The only module of this package that needs pytest. It is not loaded unless it is asked for. PYTEST_DONT_REWRITE: it may be
imported before pytest sees that line, to which pytest would object.)
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from . import registry
from .api import GetClusterPool
from .cluster import lag, launcher, launching, run, submissions, supply
from .cluster.pool import ClusterPool
from .options import RETRY_CAUSES
from .pretend.commands import COMMANDS
from .pretend.store import FOLDERS, Store

__all__ = ["PretendJob", "PretendSlurm", "cluster_pool", "pretend_slurm"]

# How jobs end: the state that SLURM then gives them, and the signal that their processes get.
_ENDS = {
    "cancelled": ("CANCELLED", signal.SIGTERM),
    "lost": ("LOST", signal.SIGKILL),
    "node_failed": ("NODE_FAIL", signal.SIGKILL),
    "oom": ("OUT_OF_MEMORY", signal.SIGKILL),
    "preempted": ("PREEMPTED", signal.SIGTERM),
    "timeout": ("TIMEOUT", signal.SIGTERM),
    "worker_died": ("FAILED", signal.SIGKILL),
}
assert {*_ENDS, "task_timeout"} == set(RETRY_CAUSES)  # (that ends no job)

_COMMAND = """\
#!/bin/sh
exec {python} -I -S -c 'import sys; root, *words = sys.argv[1:]; sys.path.insert(0, root)
from nornir_pools.pretend.commands import main; sys.exit(main(*words))' {root} {folder} {name} "$@"
"""


@dataclass(frozen=True)
class PretendJob:
    """A job of a pretend SLURM, as it was at the moment of asking."""

    id: str
    name: str
    state: str
    """SLURM's word, as in "RUNNING". Of a job that was lost it is what nobody is told."""
    node: str
    restarts: int
    options: Mapping[str, str]
    """What it asked for: sbatch's options under their long names, those in the script among them."""


class PretendSlurm:
    """A SLURM of one test: its commands are on PATH, its jobs are processes of this machine. Made by `pretend_slurm`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where all of it is: ``bin`` has the commands, ``runs`` the runs of its pools."""
        self._store = Store(str(folder / "state"))
        self._count = 0
        for name in ("bin", *(f"state/{name}" for name in FOLDERS)):
            (folder / name).mkdir(parents=True)
        (folder / "slurm.conf").touch()  # a sign that there is a cluster
        self.set_nodes(["pretend1", "pretend2"])
        words = {"python": sys.executable, "root": launching.PACKAGE_ROOT, "folder": self._store.folder}
        for name in COMMANDS:
            file = folder / "bin" / name
            file.write_text(_COMMAND.format(name=name, **{key: shlex.quote(value) for key, value in words.items()}))
            file.chmod(0o755)

    def pool(self, name: str = "pretend", num_threads: int = 2, **options: Any) -> ClusterPool:
        """`GetClusterPool` with at most two jobs at once. Pools that the code under test makes run here as well."""
        return GetClusterPool(name, num_threads, executor="slurm", **options)

    def set_nodes(self, names: Sequence[str]) -> None:
        """Have these nodes, for jobs that are sent from now on: jobs run on them in turn, but for those that they exclude."""
        worker = [launching.WORKER, launching.WORKER.replace("nornir_pools.cluster", "nornir_pools.pretend")]
        self._store.write("settings", {"nodes": list(names), "partition": "pretend", "replace": [worker]})

    def refuse(self, words: str) -> None:
        """Have the next call of sbatch fail with these words, such as "sbatch: error: QOSMaxSubmitJobPerUserLimit"."""
        self._count += 1
        self._store.write(f"refusals/{self._count:06d}", words)

    def end(
        self, how: str, *, task: str | None = None, times: int = 1, after: float | None = None, requeue: bool = False
    ) -> None:
        """Have the job end that next begins a task (of the name `task`, if it is given), and so the next `times` of them.

        `how` is one of the causes that the option `retries` knows: "oom" (out of memory), "timeout" (its time limit),
        "preempted", "node_failed", "lost" (nobody knows how it ended), "cancelled" (by somebody else), "worker_died".
        The function is not called; or, with `after`, it is, and the job ends so many seconds later. `requeue`: the job then
        waits to be started again, as SLURM's requeued jobs do. Raises ValueError for another word.
        """
        if how not in _ENDS:
            raise ValueError(f"how={how!r} is no end of a job; there are: {', '.join(_ENDS)}")
        state, number = _ENDS[how]
        for _ in range(times):
            self._count += 1
            end = {"task": task, "state": state, "signal": int(number), "after": after, "requeue": requeue}
            self._store.write(f"ends/{self._count:06d}", end)

    @property
    def ends_left(self) -> int:
        """How many of the ends that were asked for have not come."""
        return len(self._store.names("ends"))

    def jobs(self) -> list[PretendJob]:
        """All jobs that were ever sent, in that order."""
        names = [field.name for field in fields(PretendJob)]
        return [PretendJob(**{name: job[name] for name in names}) for job in self._store.jobs()]

    def close(self, seconds: float = 20.0) -> None:
        """End all jobs. Raises RuntimeError if one is not over after `seconds`."""
        for job in self._store.jobs():
            self._store.write(f"requests/{job['id']}.cancel", True)
        until = time.monotonic() + seconds
        while self._store.names("nodes"):
            if time.monotonic() > until:
                raise RuntimeError(f"jobs of the pretend SLURM in {self.folder} do not end: {self.jobs()}")
            time.sleep(0.01)


@pytest.fixture
def cluster_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterPool]:
    """A cluster pool whose (at most two) jobs are processes of this machine, in the test's folder.

    Pools that the code under test makes are of that kind as well. Afterwards all of them are closed, and no process is left.
    """
    with _alone("local", tmp_path / "nornir_pools", monkeypatch):
        yield GetClusterPool("cluster_pool", 2)


@pytest.fixture
def pretend_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendSlurm]:
    """A SLURM that pools, and whoever else runs sbatch or squeue, take for the machine's own. Its jobs can be made to fail.

    How they end is noticed sooner than with a real one. Afterwards all pools are closed, and no job is left.
    """
    slurm = PretendSlurm(tmp_path / "pretend_slurm")
    monkeypatch.setenv("PATH", f"{slurm.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    monkeypatch.setenv("SLURM_CONF", str(slurm.folder / "slurm.conf"))
    monkeypatch.setattr(launcher.SlurmLauncher, "poll_seconds", 0.2)
    monkeypatch.setattr(run, "warn_if_local", lambda path: None)  # the nodes do see this machine's own folders
    monkeypatch.setattr(lag, "GRACE", 0.1)
    monkeypatch.setattr(supply, "UNSEEN", 0.5)
    monkeypatch.setattr(submissions, "BETWEEN", 0.05)
    try:
        with _alone("slurm", slurm.folder, monkeypatch):
            yield slurm
    finally:
        slurm.close()


@contextlib.contextmanager
def _alone(executor: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cluster pools made in here are of that kind and live in that folder, whatever this machine or its user has set."""
    for name in [name for name in os.environ if name.startswith("NORNIR_POOLS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NORNIR_POOLS_EXECUTOR", executor)
    monkeypatch.setenv("NORNIR_POOLS_FOLDER", str(folder / "runs"))
    monkeypatch.setenv("NORNIR_POOLS_MAX_JOBS", "2")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))  # where it is noted which runs there are
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    before = registry.pools_of()
    try:
        yield
    finally:
        for pool in registry.pools_of():
            if pool not in before:
                pool.shutdown(cancel_futures=True)
