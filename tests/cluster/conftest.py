"""Cluster pools on a real SLURM."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from ..conftest import until
from ..lab import Slurm


@pytest.fixture
def cluster(slurm: Slurm, tmp_path: Path) -> Iterator[Callable[..., ClusterPool]]:
    """Makes cluster pools whose runs live in the test's folder; afterwards no job of them is left."""

    def get(num_threads: int | None = None, name: str = "cluster", **options: Any) -> ClusterPool:
        return pools.GetClusterPool(name, num_threads, **{"executor": "slurm", "folder": str(tmp_path / "runs"), **options})

    yield get
    for pool in list(pools.dictKnownPools.values()):
        pool.shutdown(cancel_futures=True)  # what a failed test has left waiting
    until(lambda: not slurm.jobs(), "jobs are left")


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the jobs run; afterwards none is left."""
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None
    yield request.param
    for pool in list(pools.dictKnownPools.values()):
        pool.shutdown(cancel_futures=True)
    if slurm is not None:
        until(lambda: not slurm.jobs(), "jobs are left", 20)


def workers(place: Path) -> list[psutil.Process]:
    """The workers, and their children, of runs below that folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(place) in (line := " ".join(process.info["cmdline"] or ())) and "cluster import worker" in line
    ]


@pytest.fixture
def lab(slurm: Slurm) -> Iterator[Slurm]:
    """A lab whose daemons the test may end; afterwards all of them are up, and the nodes can take jobs."""
    if slurm.lab is None:
        pytest.skip("this SLURM is no lab whose daemons could be ended")
    yield slurm
    nodes = int(re.findall(r"^nodes=(\d+)$", (slurm.lab / "options").read_text(), re.MULTILINE)[0])
    slurm.daemon("start", "slurmctld")
    for number in range(1, nodes + 1):
        slurm.daemon("start", "slurmd", f"n{number}")
    until(lambda: len(usable_nodes(slurm)) == nodes, "nodes are missing", 40)


def usable_nodes(slurm: Slurm) -> set[str]:
    """The nodes that take jobs: none that is down or drained, or will be as soon as its jobs have ended."""
    rows = [line.split() for line in slurm.run("sinfo", "-h", "-N", "-o", "%N %T").splitlines()]
    return {node for node, state in rows if state in ("idle", "mixed", "allocated", "completing")}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts shell lines in the place of a SLURM command, for pools that are made from now on.

    In the lines, ``$REAL`` is the real command. Returns the file that gets a line for each call.
    """
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, lines: str) -> Path:
        calls = folder / f"{name}.calls"
        calls.touch()
        real = shutil.which(name, path=os.environ["PATH"].partition(":")[2])
        (folder / f".{name}").write_text(f'#!/bin/bash\nREAL={real}\necho "$(date +%s.%N) $*" >> "{calls}"\n{lines}\n')
        (folder / f".{name}").chmod(0o755)
        (folder / f".{name}").rename(folder / name)  # at once: it may be in use
        return calls

    return put
