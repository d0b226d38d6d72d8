"""Nodes that are lost while a task runs: the value comes all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nornir_pools.cluster.pool import ClusterPool

from ..conftest import until
from ..lab import Slurm
from .test_endings import Running, journal, run_in_job

pytestmark = [pytest.mark.slurm, pytest.mark.long, pytest.mark.timeout(200)]
Make = Callable[..., ClusterPool]


def run_long(mark: str, go: str) -> str:
    """As run_in_job, and patient."""
    return run_in_job(mark, go, 150)


def node_of(slurm: Slurm, job: str) -> str:
    return slurm.run("squeue", "-h", "-j", job, "-o", "%N").strip()


def is_down(slurm: Slurm, node: str) -> bool:
    return "down" in slurm.run("sinfo", "-h", "-n", node, "-o", "%t")


@pytest.mark.parametrize("requeue", [True, False])
def test_a_node_that_loses_power_costs_nothing_but_time(cluster: Make, lab: Slurm, tmp_path: Path, requeue: bool) -> None:
    pool = cluster(1, slurm_additional_parameters={} if requeue else {"no-requeue": True})
    running = Running(pool, tmp_path)
    node = node_of(lab, running.job)
    lab.daemon("crash", node)
    until(lambda: is_down(lab, node), "SLURM does not see it", 90)
    down = time.monotonic()
    running.go.touch()
    assert running.task.wait_return(60) == "done"
    assert time.monotonic() - down < 60
    assert len(running.lines) == 2
    assert [entry["cause"] for entry in journal(pool) if entry["t"] == "again"] == ["node_failed"]


def test_a_task_goes_on_though_its_nodes_daemon_is_killed(cluster: Make, lab: Slurm, tmp_path: Path) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    node = node_of(lab, running.job)
    lab.daemon("kill", "slurmd", node)
    time.sleep(5)
    running.go.touch()
    assert running.task.wait_return(10) == "done"
    assert len(running.lines) == 1


def test_the_first_try_counts_if_it_delivers_after_its_node_was_given_up(cluster: Make, lab: Slurm, tmp_path: Path) -> None:
    pool = cluster(1, idle_seconds=1)
    running = Running(pool, tmp_path, run_long)
    first = running.worker
    node = node_of(lab, running.job)
    lab.daemon("kill", "slurmd", node)  # its jobs run on, though SLURM takes them for lost
    until(lambda: len(running.lines) == 2, "it is not tried again", 100)
    assert first.is_running()
    running.go.touch()
    assert running.task.wait_return(20) == "done"
    until(lambda: not first.is_running() or first.status() == "zombie", "the first worker stays", 40)
    assert len([entry for entry in journal(pool) if entry["t"] == "done"]) == 1
