"""Cluster pools on a real SLURM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
