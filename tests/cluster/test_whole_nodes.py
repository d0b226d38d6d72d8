"""Several tasks at once in one job: side by side, each by itself; on a real SLURM, and as processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster import idle_cpus, supply
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.cluster.views import RunView

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_endings import journal

Make = Callable[..., ClusterPool]


class Tasks:
    """So many tasks that run at once, and how to reach them."""

    def __init__(self, pool: ClusterPool, folder: Path, count: int) -> None:
        self.go = folder / "go"
        self._marks = [folder / f"mark{number}" for number in range(count)]
        self.tasks = [
            pool.add_task(f"task {number}", wait_in_company, str(mark), str(self.go)) for number, mark in enumerate(self._marks)
        ]
        self.wait_for_all()

    def wait_for_all(self) -> None:
        until(lambda: all(map(Path.exists, self._marks)), "tasks do not start", 60)

    def again(self, number: int) -> None:
        """Wait for another try of a task."""
        until(self._marks[number].exists, "it is not tried again", 30)

    def child(self, number: int) -> psutil.Process:
        """The process of a task. (Another try leaves another mark.)"""
        process = psutil.Process(int(self._marks[number].read_text()))
        self._marks[number].unlink()
        return process

    def end(self, *but: int) -> None:
        """Let those go on that are left, and see that each has run to its end."""
        self.go.touch()
        assert [task.wait_return(40) for number, task in enumerate(self.tasks) if number not in but] == ["done"] * (
            len(self.tasks) - len(but)
        )


def wait_in_company(mark: str, go: str) -> str:
    sys.stdout.write(f"begins {Path(mark).name}\n")
    functions.write_pid_and_wait(mark, go)
    return "done"


def cpus_told(pool: ClusterPool) -> list[object]:
    """How many CPUs each worker has said that it has."""
    return [entry["cpus"] for entry in journal(pool) if entry["t"] == "up"]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Make]:
    """Makes pools with one job, a process of this machine; afterwards none of its processes is left."""
    made: list[Path] = []

    def make(at_once: Any = 3, **options: Any) -> ClusterPool:
        pool = pools.GetClusterPool("several", 1, executor="local", tasks_at_once=at_once, **options)
        made.append(pool.runs_folder)
        return pool

    yield make
    pools.ClosePools()
    until(lambda: not any(crew_processes(folder) for folder in made), "processes are left", 20)


def looked_at(pool: ClusterPool) -> RunView:
    assert pool.folder is not None
    return pools.look(pool.folder)


def crew_processes(folder: Path) -> list[psutil.Process]:
    """The crews, workers and tasks of runs below that folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in (line := " ".join(process.info["cmdline"] or ())) and "import crew" in line
    ]


def test_one_dies_and_the_others_do_not_notice(local: Make, tmp_path: Path) -> None:
    pool = local(retries=0)
    tasks = Tasks(pool, tmp_path, 3)
    (job,) = looked_at(pool).jobs
    assert job.state == "up"
    tasks.child(0).kill()
    assert isinstance(tasks.tasks[0].exception(20), pools.WorkerDiedError)
    worker = psutil.Process(tasks.child(1).ppid())
    child = worker.children()[0]
    worker.kill()  # its task ends with it, and another worker takes its place
    assert isinstance(error := tasks.tasks[1].exception(20), pools.WorkerDiedError)
    assert "goes on, but that one of its workers has died" in str(error)
    assert "0:9" in str(error)
    until(lambda: not child.is_running(), "its child goes on")
    assert [pool.add_task(str(n), functions.add, n).wait_return(20) for n in range(3)] == [1, 2, 3]
    tasks.end(0, 1)
    assert len({entry["job"] for entry in journal(pool) if entry["t"] == "up"}) == 1


def test_each_has_a_log_and_its_share_of_the_machine(local: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pool = local(2)
    tasks = Tasks(pool, tmp_path, 2)
    for task in looked_at(pool).tasks:
        assert task.output().split() == ["begins", f"mark{task.number - 1}"]
    tasks.end()
    threads = pool.add_task("threads", functions.surroundings, "OMP_NUM_THREADS").wait_return(20)["OMP_NUM_THREADS"]
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_a_task_that_is_cancelled_while_it_runs_takes_no_other_with_it(local: Make, tmp_path: Path) -> None:
    pool = local()
    tasks = Tasks(pool, tmp_path, 3)
    child = tasks.child(1)
    assert pool.cancel(tasks.tasks[1], running=True)
    assert tasks.tasks[1].cancelled()
    until(lambda: not child.is_running(), "it goes on")
    assert pool.add_task("in its place", functions.add, 1).wait_return(20) == 2
    tasks.end(1)
    assert not [entry for entry in journal(pool) if entry["t"] == "again"]
    assert len({entry["job"] for entry in journal(pool) if entry["t"] == "up"}) == 1


def test_a_job_that_ends_ends_all_and_each_is_tried_again(local: Make, tmp_path: Path) -> None:
    pool = local()
    tasks = Tasks(pool, tmp_path, 3)
    children = [tasks.child(number) for number in range(3)]
    crew = psutil.Process(children[0].ppid()).parent()
    assert crew is not None
    crew.send_signal(signal.SIGTERM)
    until(lambda: not any(child.is_running() for child in children), "tasks go on")
    for number in range(3):
        tasks.again(number)
    tasks.end()
    assert {entry["cause"] for entry in journal(pool) if entry["t"] == "again"} == {"worker_died"}


def test_a_job_that_is_killed_leaves_no_task_running(local: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "UNSEEN", 0.5)
    pool = local(retries=0)
    tasks = Tasks(pool, tmp_path, 3)
    children = [tasks.child(number) for number in range(3)]
    crew = psutil.Process(children[0].ppid()).parent()
    assert crew is not None
    crew.kill()
    until(lambda: not any(child.is_running() for child in children), "tasks go on")
    assert all(isinstance(task.exception(40), pools.WorkerDiedError) for task in tasks.tasks)


def test_none_leaves_for_want_of_work_while_another_works(local: Make, tmp_path: Path) -> None:
    pool = local(2, idle_seconds=0.5)
    long = pool.add_task("long", functions.wait_for_file, str(tmp_path / "go"), "done")
    until(lambda: any(job.idle for job in pool._run.watcher.supply.jobs.values()), "none is idle", 20)  # type: ignore[union-attr]
    assert pool.add_task("short", functions.add, 1).wait_return(20) == 2  # only this job's other worker can do it
    (tmp_path / "go").touch()
    assert long.wait_return(20) == "done"
    until(lambda: not pool.get_active_nodes(), "the job stays", 20)


def test_a_run_whose_script_is_gone_is_cancelled_task_by_task(local: Make, tmp_path: Path) -> None:
    pool = local()
    tasks = Tasks(pool, tmp_path, 3)
    path, child = pool.folder, tasks.child(1)
    pool.detach()
    assert path is not None
    pools.cancel(path, ["task 1"])
    until(lambda: not child.is_running(), "it goes on", 20)
    again = pools.attach(path)
    tasks.go.touch()
    values = {task.name: task.exception(20) or task.result() for task in list(again.tasks) if task.name != "task 1"}
    again.shutdown()
    assert values == {"task 0": "done", "task 2": "done"}


# --- on a real SLURM


@pytest.mark.slurm
def test_an_exclusive_job_of_eight_cpus_runs_eight_tasks_at_once(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(1, cpus_per_task=1, slurm_exclusive=True, tasks_at_once="auto", retries=0)
    tasks = Tasks(pool, tmp_path, 8)
    (job,) = slurm.jobs()
    tasks.child(3).kill()
    assert isinstance(tasks.tasks[3].exception(20), pools.WorkerDiedError)
    assert pool.cancel(tasks.tasks[5], running=True)
    assert pool.add_task("cpus", functions.surroundings, "SLURM_CPUS_PER_TASK").wait_return(40)["SLURM_CPUS_PER_TASK"] == "1"
    tasks.end(3, 5)
    assert {task.facts["job"] for task in tasks.tasks if not task.cancelled()} == {job}


@pytest.mark.slurm
@pytest.mark.parametrize("at_once", [None, 2])
def test_a_node_that_is_the_jobs_alone_counts_whole(cluster: Make, tmp_path: Path, at_once: int | None) -> None:
    pool = cluster(1, cpus_per_task=1, slurm_exclusive=True, tasks_at_once=at_once, budget_core_hours=1.0)
    count = at_once or 1
    tasks = Tasks(pool, tmp_path, count)
    until(lambda: cpus_told(pool) == [8 / count] * count, "it is not told what has been set aside for each", 20)
    assert counted(pool) == (8.0, 8 / count)
    pool.detach()
    assert pool.folder is not None
    again = pools.attach(pool.folder)
    assert counted(again) == (8.0, 8 / count)
    tasks.go.touch()
    again.shutdown()
    words = [entry for entry in journal(again) if entry["t"] in ("up", "idle", "left")]
    assert len(words) >= 2 * count
    assert {entry["cpus"] for entry in words} == {8 / count}  # a worker may say "up" more than once


def counted(pool: ClusterPool) -> tuple[float, float]:
    """The CPUs that count for the budget right now, and those of a worker."""
    assert pool._run is not None
    ledger = pool._run.watcher.ledger
    return sum(clock.cpus for clock in ledger.budget._clocks.values()), ledger.groups[0].set_aside


@pytest.mark.slurm
def test_whoever_pays_for_a_whole_node_and_uses_one_cpu_is_told(
    cluster: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(idle_cpus, "ENOUGH", 0.5)
    with caplog.at_level(logging.WARNING):
        pool = cluster(1, slurm_exclusive=True)
        for number in range(3):
            pool.add_task(f"task {number}", time.sleep, 0.4).wait_return(60)
    (said,) = [record.getMessage() for record in caplog.records if "set aside" in record.getMessage()]
    assert "SLURM has set aside 8 CPUs for a job that asks for 1, and tasks have used 0.0 of them" in said


@pytest.mark.slurm
def test_a_job_that_is_cancelled_says_so_for_each_of_its_tasks(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(1, tasks_at_once=4)
    tasks = Tasks(pool, tmp_path, 4)
    assert slurm.run("squeue", "-h", "-o", "%C").split() == ["4"]
    slurm.run("scancel", *slurm.jobs())
    errors = [task.exception(30) for task in tasks.tasks]
    assert all(isinstance(error, pools.JobCancelledError) for error in errors), errors
