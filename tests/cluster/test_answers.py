"""squeue and sacct fail, hang, are slow or say what nobody has heard of: nothing is lost, and ends are told all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster import polling
from nornir_pools.cluster import slurm as commands
from nornir_pools.cluster.launcher import SlurmLauncher
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_endings import Running, journal

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
Make = Callable[..., ClusterPool]
StandIn = Callable[[str, str], Path]
HANG = "sleep 2468"
SLOW = 'sleep 5; exec "$REAL" "$@"'
FAIL = "echo 'slurm_persist_conn_open_without_init: failed to open persistent connection' >&2; exit 1"


def hanging() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == HANG.split()]


@pytest.mark.parametrize(("lines", "seconds"), [(FAIL, 15), (HANG, 30), (SLOW, 15)], ids=["fails", "hangs", "is slow"])
def test_a_whole_array_that_is_cancelled_is_told_in_time_though_sacct_is_no_help(
    cluster: Make, slurm: Slurm, stand_in: StandIn, tmp_path: Path, lines: str, seconds: float
) -> None:
    calls = stand_in("sacct", lines)
    pool = cluster(8)
    go = str(tmp_path / "go")
    tasks = [pool.add_task(f"task {i}", functions.touch_and_wait, str(tmp_path / f"mark{i}"), go) for i in range(8)]
    until(lambda: len(list(tmp_path.glob("mark*"))) == 8, "tasks do not start", 60)
    cancelled = time.monotonic()
    slurm.run("scancel", *{job.split("_")[0] for job in slurm.jobs()})  # more than one array, if adding them took long
    errors = [task.exception(60) for task in tasks]
    assert time.monotonic() - cancelled < seconds
    assert all(isinstance(error, pools.JobCancelledError) for error in errors), errors
    assert 1 <= len(calls.read_text().splitlines()) <= 2
    assert pool.add_task("next", functions.add, 1, 2).wait_return(40) == 3
    assert not hanging()


@pytest.mark.long
def test_a_killed_worker_is_tried_again_though_sacct_hangs(cluster: Make, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in("sacct", HANG)
    pool = cluster(1)
    running = Running(pool, tmp_path)
    running.worker.kill()
    until(lambda: len(running.lines) == 2, "it is not tried again", 60)
    running.go.touch()
    assert running.task.wait_return(20) == "done"
    assert not hanging()


@pytest.mark.parametrize("lines", [FAIL, HANG, SLOW], ids=["fails", "hangs", "is slow"])
def test_values_come_and_jobs_are_sent_though_squeue_is_no_help(
    cluster: Make, slurm: Slurm, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    monkeypatch.setattr(commands, "TIME_LIMIT", 2.0 if lines == HANG else 20.0)
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 1.0)
    calls = stand_in("squeue", lines)
    pool = cluster(2)
    running = Running(pool, tmp_path)
    until(lambda: len(calls.read_text().splitlines()) >= 3, "squeue is not asked", 40)
    assert pool.with_options(timeout_min=2).add_task("another", functions.add, 1, 2).wait_return(40) == 3
    running.go.touch()
    assert running.task.wait_return(20) == "done"
    assert len(running.lines) == 1
    pool.shutdown()
    until(lambda: not slurm.jobs(), "jobs are left")
    assert not hanging()


def test_a_state_that_nobody_has_heard_of_counts_as_alive(
    cluster: Make, slurm: Slurm, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 1.0)
    calls = stand_in("squeue", '"$REAL" "$@" | sed s/RUNNING/FROBNICATED/')
    pool = cluster(1)
    running = Running(pool, tmp_path)
    until(lambda: len(calls.read_text().splitlines()) >= 10, "squeue is not asked", 40)  # more than the grace
    running.go.touch()
    assert running.task.wait_return(20) == "done"
    assert len(running.lines) == 1
    assert not [entry for entry in journal(pool) if entry["t"] == "again"]


def test_several_pools_ask_together(cluster: Make, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 2.0)
    calls = stand_in("squeue", 'exec "$REAL" "$@"')
    running = []
    for name in "abcd":
        (tmp_path / name).mkdir()
        running.append(Running(cluster(1, name=name), tmp_path / name))
    answers: list[polling.States] = []
    ask = polling.ask

    def noted(environment: Mapping[str, str], age: float) -> polling.States:
        answers.append(ask(environment, age))
        return answers[-1]

    monkeypatch.setattr(polling, "ask", noted)
    asked = len(calls.read_text().splitlines())
    until(lambda: len(answers) >= 20, "the pools do not ask", 60)
    assert len(calls.read_text().splitlines()) - asked <= len(answers) / 2
    for each in running:
        each.go.touch()
        assert each.task.wait_return(40) == "done"
