"""Every way a job can end, on a real SLURM: the caller learns why, in time, and what is not the task's fault is tried again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster.launcher import SlurmLauncher
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
Make = Callable[..., ClusterPool]


def run_in_job(mark: str, go: str, seconds: float = 50) -> str:
    """Say in `mark` which job this is and wait for `go`; one line for each try."""
    with open(mark, "a") as file:
        file.write(f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']} {os.getppid()}\n")
    functions.wait_for_file(go, "done", seconds)
    return "done"


def wait_for_ever(mark: str) -> None:
    Path(mark).touch()
    time.sleep(10_000)


def eat_memory(megabytes: int, mark: str = "") -> int:
    data = [b"x" * 1_000_000 for _ in range(megabytes)]
    time.sleep(2)
    return len(data)


class Running:
    """A task that runs in a job, and how to reach it."""

    def __init__(self, pool: ClusterPool, folder: Path, func: Callable[[str, str], str] = run_in_job) -> None:
        self.mark, self.go = folder / "mark", folder / "go"
        self.task = pool.add_task("running", func, str(self.mark), str(self.go))
        until(lambda: self.mark.exists() and bool(self.lines), "the task does not start", 40)

    @property
    def lines(self) -> list[str]:
        return self.mark.read_text().splitlines()

    @property
    def job(self) -> str:
        return self.lines[-1].split()[0]

    @property
    def worker(self) -> psutil.Process:
        return psutil.Process(int(self.lines[-1].split()[1]))

    def error(self, seconds: float) -> BaseException:
        error = self.task.exception(timeout=seconds)
        assert error is not None
        return error


def journal(pool: ClusterPool) -> list[dict[str, object]]:
    assert pool.folder is not None
    return [json.loads(line) for line in (pool.folder / "journal.jsonl").read_text().splitlines()]


def test_a_running_job_that_somebody_cancels_is_an_error_and_not_tried_again(
    cluster: Make, tmp_path: Path, slurm: Slurm
) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    slurm.run("scancel", running.job)
    error = running.error(15)
    assert isinstance(error, pools.JobCancelledError)
    assert error.job_id == running.job
    assert f"'running' of pool 'cluster': its job {running.job} was cancelled, not by this program" in str(error)
    assert error.log.endswith(f"{running.job}.log")
    assert len(running.lines) == 1
    assert pool.add_task("next", functions.add, 1, 2).wait_return(40) == 3


def test_a_waiting_job_that_somebody_cancels_takes_one_task_with_it(
    cluster: Make, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 1.0)  # jobs that all wait are asked about once a minute
    pool = cluster(slurm_additional_parameters={"begin": "now+1hour"})
    tasks = [pool.submit(functions.add, i) for i in range(4)]
    until(lambda: len(slurm.jobs()) == 4, "jobs are not sent")
    slurm.run("scancel", slurm.jobs()[1])
    until(lambda: any(task.done() for task in tasks), "nobody learns of it", 40)
    done = [task for task in tasks if task.done()]
    assert len(done) == 1
    assert isinstance(done[0].exception(), pools.JobCancelledError)
    assert all(task.cancel() for task in tasks if not task.done())


def test_a_worker_that_is_killed_is_replaced_once_and_then_it_is_an_error(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(1)
    running = Running(pool, tmp_path)
    running.worker.kill()
    until(lambda: len(running.lines) == 2, "it is not tried again", 45)
    running.worker.kill()
    error = running.error(45)
    assert isinstance(error, pools.WorkerDiedError)
    assert "it was tried 2 times" in str(error)
    assert len(error.tries) == 2
    assert [entry["cause"] for entry in journal(pool) if entry["t"] == "again"] == ["worker_died"]
    assert pool.add_task("neighbour", functions.add, 1, 2).wait_return(40) == 3


def test_a_killed_worker_costs_its_neighbours_nothing(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(2)
    running = Running(pool, tmp_path)
    neighbours = [pool.submit(functions.add, i) for i in range(50)]
    running.worker.kill()
    assert [task.result(40) for task in neighbours] == list(range(1, 51))
    until(lambda: len(running.lines) == 2, "it is not tried again", 45)
    running.go.touch()
    assert running.task.wait_return(20) == "done"


def test_a_preempted_job_is_replaced_without_waiting_for_its_requeue(cluster: Make, tmp_path: Path, slurm: Slurm) -> None:
    pool = cluster(1, slurm_nodelist="n2", slurm_exclusive=True)
    running = Running(pool, tmp_path)
    first = running.job
    slurm.run("sbatch", "-p", "urgent", "-w", "n2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 4")
    until(lambda: len(running.lines) == 2, "it is not tried again", 45)
    assert running.job != first
    running.go.touch()
    assert running.task.wait_return(20) == "done"
    assert [entry["cause"] for entry in journal(pool) if entry["t"] == "again"] == ["preempted"]


def test_a_job_that_preemption_cancels_is_tried_again(cluster: Make, tmp_path: Path, slurm: Slurm) -> None:
    pool = cluster(1, slurm_nodelist="n3", slurm_exclusive=True, slurm_partition="cancel")
    running = Running(pool, tmp_path)
    slurm.run("sbatch", "-p", "urgent", "-w", "n3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 4")
    until(lambda: len(running.lines) == 2, "it is not tried again", 45)
    running.go.touch()
    assert running.task.wait_return(20) == "done"


def test_retries_of_0_make_preemption_an_error(cluster: Make, tmp_path: Path, slurm: Slurm) -> None:
    pool = cluster(1, slurm_nodelist="n3", slurm_exclusive=True, slurm_partition="cancel", retries=0)
    running = Running(pool, tmp_path)
    slurm.run("sbatch", "-p", "urgent", "-w", "n3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 4")
    assert isinstance(running.error(45), pools.JobPreemptedError)
    assert len(running.lines) == 1


@pytest.mark.parametrize("requeue", [True, False])
def test_a_node_that_goes_down_costs_nothing_but_time(cluster: Make, tmp_path: Path, slurm: Slurm, requeue: bool) -> None:
    pool = cluster(1, slurm_exclude="n1", slurm_additional_parameters={} if requeue else {"no-requeue": True})
    running = Running(pool, tmp_path)
    node = slurm.run("squeue", "-h", "-j", running.job, "-o", "%N").strip()
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        until(lambda: len(running.lines) == 2, "it is not tried again", 60)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it has come back by itself
            slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
    running.go.touch()
    assert running.task.wait_return(20) == "done"


@pytest.mark.slow
def test_the_time_limit_is_told_with_what_to_do(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(1, slurm_partition="tiny")
    task = pool.add_task("long", wait_for_ever, str(tmp_path / "mark"))
    error = task.exception(timeout=130)
    assert isinstance(error, pools.JobTimeoutError)
    assert not isinstance(error, TimeoutError)
    assert "reached its time limit" in str(error)
    assert "timeout_min=" in str(error)


def test_too_much_memory_is_told(cluster: Make) -> None:
    pool = cluster(1, mem_gb=0.1)
    error = pool.add_task("large", eat_memory, 400).exception(timeout=60)
    assert isinstance(error, (pools.WorkerDiedError, pools.JobOutOfMemoryError))
    assert "memory" in str(error)
    assert pool.add_task("small", functions.add, 1, 2).wait_return(60) == 3


def test_a_script_that_stops_squeue_from_answering_loses_nothing(
    cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "sacct"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho slurm_load_jobs error: Unable to contact >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        pool = cluster(1)
        running = Running(pool, tmp_path)
        time.sleep(12)  # through at least one question for the states
        running.go.touch()
        assert running.task.wait_return(20) == "done"


def nap_in_job(seconds: float) -> str:
    time.sleep(seconds)
    return os.environ["SLURM_ARRAY_TASK_ID"] + "/" + os.environ["SLURM_ARRAY_JOB_ID"]


@pytest.mark.long
def test_a_job_near_its_end_takes_over_no_more_tasks(cluster: Make, slurm: Slurm) -> None:
    pool = cluster(1, slurm_partition="tiny")  # jobs of one minute
    jobs = [task.result(140) for task in [pool.submit(nap_in_job, 22) for _ in range(3)]]
    assert sorted(Counter(jobs).values()) == [1, 2]
    assert not [entry for entry in journal(pool) if entry["t"] == "again"]
