"""Deaths inside jobs: the caller knows at once, and nobody else pays for them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.launcher import SlurmLauncher
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_endings import Running, journal

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
Make = Callable[..., ClusterPool]


def die_at(mark: str, how: str) -> None:
    Path(mark).write_text(repr(time.time()))
    functions.die(how)


def wait_with_pid(mark: str, go: str) -> str:
    functions.wait_for_file(go)
    return mark


def kill_worker(mark: str) -> None:
    """What some tasks do: take all of their job down."""
    with open(mark, "a") as file:
        file.write("x")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(100)


@pytest.mark.parametrize("how", ["SIGKILL", "segfault", "os._exit"])
def test_the_death_of_a_tasks_process_is_known_within_two_seconds(cluster: Make, tmp_path: Path, how: str) -> None:
    pool = cluster(2)
    assert pool.add_task("first", functions.add, 1).wait_return(40) == 2
    neighbour = pool.add_task("neighbour", functions.wait_for_file, str(tmp_path / "go"), "done")
    time.sleep(3)  # the pool looks at its folder only now and then
    task = pool.add_task("dead", die_at, str(tmp_path / "mark"), how)
    assert isinstance(task.exception(40), pools.WorkerDiedError)
    assert time.time() - float((tmp_path / "mark").read_text()) < 2
    (tmp_path / "go").touch()
    assert neighbour.wait_return(20) == "done"
    assert not [entry for entry in journal(pool) if entry["t"] == "again"]


def test_a_task_killed_from_outside_after_a_while_is_known_within_two_seconds(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    (child,) = running.worker.children()
    time.sleep(3)
    killed = time.monotonic()
    child.kill()
    assert isinstance(running.error(20), pools.WorkerDiedError)
    assert time.monotonic() - killed < 2


def test_a_task_that_kills_its_worker_each_time_is_an_error_and_neighbours_are_not_charged(
    cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 2.0)
    pool = cluster(2)
    killer = pool.add_task("killer", kill_worker, str(tmp_path / "mark"))
    neighbours = [pool.submit(functions.add, i) for i in range(100)]
    error = killer.exception(100)
    assert isinstance(error, pools.WorkerDiedError)
    assert (tmp_path / "mark").read_text() == "xx"  # a second try
    assert len(error.tries) == 2
    assert [task.result(40) for task in neighbours] == list(range(1, 101))
    assert len([entry for entry in journal(pool) if entry["t"] == "again"]) == 1


def test_a_whole_array_that_somebody_cancels_while_it_runs_is_told_for_each_task(
    cluster: Make, slurm: Slurm, tmp_path: Path
) -> None:
    pool = cluster(8)
    go = str(tmp_path / "go")
    tasks = [pool.add_task(f"task {i}", functions.touch_and_wait, str(tmp_path / f"mark{i}"), go) for i in range(8)]
    until(lambda: len(list(tmp_path.glob("mark*"))) == 8, "tasks do not start", 60)
    arrays = {job.split("_")[0] for job in slurm.jobs()}  # more than one, if adding the tasks took long
    cancelled = time.monotonic()
    slurm.run("scancel", *arrays)
    errors = [task.exception(30) for task in tasks]
    assert time.monotonic() - cancelled < 15
    assert all(isinstance(error, pools.JobCancelledError) for error in errors), errors
    assert pool.add_task("next", functions.add, 1, 2).wait_return(40) == 3


def test_a_whole_array_that_somebody_cancels_before_it_runs_is_told_for_each_task(
    cluster: Make, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 1.0)  # jobs that all wait are asked about once a minute
    pool = cluster(slurm_additional_parameters={"begin": "now+1hour"})
    tasks = [pool.submit(functions.add, i) for i in range(6)]
    until(lambda: len(slurm.jobs()) == 6, "jobs are not sent")
    slurm.run("scancel", *{job.split("_")[0] for job in slurm.jobs()})
    assert all(isinstance(task.exception(40), pools.JobCancelledError) for task in tasks)


def test_one_cancelled_element_of_an_array_is_told_for_its_task_only(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(4)
    go = tmp_path / "go"
    tasks = [pool.add_task(f"task {i}", wait_in_job, str(tmp_path / f"mark{i}"), str(go)) for i in range(4)]
    marks = [tmp_path / f"mark{i}" for i in range(4)]
    until(lambda: all(mark.exists() and mark.read_text() for mark in marks), "tasks do not start", 60)
    slurm.run("scancel", marks[2].read_text())
    assert isinstance(tasks[2].exception(15), pools.JobCancelledError)
    go.touch()
    assert [task.wait_return(20) for task in tasks if task is not tasks[2]] == ["done"] * 3


def wait_in_job(mark: str, go: str) -> str:
    Path(mark).write_text(f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}")
    functions.wait_for_file(go)
    return "done"
