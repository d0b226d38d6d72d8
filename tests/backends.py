"""The pools that the conformance suite runs on, and what each is capable of. A test asks for capabilities, never for a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nornir_pools as pools
from nornir_pools.base import PoolBase

__all__ = ["BACKENDS", "Backend"]

LOCAL = {"calls", "commands"}
QUEUED = {"concurrent", "cancel"}  # tasks run beside the caller, and wait if there are too many
APART = {"crosses", "survives"}  # tasks run in another process: things are pickled, and a death of it is survived


@dataclass(frozen=True)
class Backend:
    """One kind of pool."""

    name: str
    capabilities: frozenset[str]
    get: Callable[..., PoolBase]
    slurm: bool = False


def _cluster(executor: str) -> Callable[..., PoolBase]:
    def get(name: str, count: int, **more: Any) -> PoolBase:
        return pools.GetClusterPool(name, count, executor=executor, folder=str(Path.cwd() / "runs"), **more)

    return get


def _backend(name: str, get: Callable[..., Any], *capabilities: set[str], slurm: bool = False) -> Backend:
    return Backend(name, frozenset().union(*capabilities), get, slurm)


BACKENDS = [
    _backend("serial", pools.GetSerialPool, LOCAL, {"in_process"}),
    _backend("threads", pools.GetThreadPool, LOCAL, QUEUED, {"in_process", "bounded", "nested", "instant"}),
    _backend("processes", pools.GetMultithreadingPool, LOCAL, QUEUED, APART, {"bounded", "instant"}),
    _backend("commands", pools.GetProcessPool, LOCAL, QUEUED, {"in_process", "bounded", "nested", "instant"}),
    _backend("machine", pools.GetLocalMachinePool, LOCAL, QUEUED, APART, {"bounded", "instant"}),
    _backend("debug", _cluster("debug"), LOCAL, {"in_process"}),
    _backend("cluster-local", _cluster("local"), LOCAL, QUEUED, APART, {"jobs", "travels"}),
    _backend("cluster-slurm", _cluster("slurm"), LOCAL, QUEUED, APART, {"jobs", "travels"}, slurm=True),
]
