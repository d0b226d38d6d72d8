"""Tasks as SLURM jobs: how many there are, what they take over, when they end, and what they leave."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nornir_pools as pools
from nornir_pools.cluster import slurm as slurm_facts
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

pytestmark = pytest.mark.slurm
Make = Callable[..., ClusterPool]


def job_of(_: object = None) -> str:
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def wait_in_job(path: str) -> str:
    functions.wait_for_file(path)
    return job_of()


def ends_of_job() -> tuple[float, float]:
    """When the job ends, as this SLURM has it told, and as one tells that does not set the variable."""
    older = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_END_TIME"}
    return slurm_facts.job_end(os.environ), slurm_facts.job_end(older)


def raw_job(i: int) -> tuple[int, str, int]:
    return i * i, os.environ["SLURM_JOB_ID"], os.getpid()


def test_long_tasks_have_an_array_element_each(cluster: Make, tmp_path: Path) -> None:
    pool = cluster()
    tasks = [pool.add_task(str(i), wait_in_job, str(tmp_path / "go")) for i in range(20)]
    until(lambda: len(pool.tasks) - pool.tasks.qsize() == 20, "twenty workers are not up", 40)
    (tmp_path / "go").touch()
    jobs = [task.wait_return(50) for task in tasks]
    assert len(set(jobs)) == 20
    assert len({job.split("_")[0] for job in jobs}) <= 2  # one sbatch, or two where to add them takes longer than is gathered


def test_a_thousand_short_tasks_are_taken_over_by_few_jobs(cluster: Make, slurm: Slurm) -> None:
    pool = cluster()
    tasks = [pool.add_task(str(i), raw_job, i) for i in range(1000)]
    values = [task.wait_return(50) for task in tasks]
    assert [value for value, _, _ in values] == [i * i for i in range(1000)]
    assert os.getpid() not in {pid for _, _, pid in values}
    jobs = {job for _, job, _ in values}
    assert len(jobs) <= 32
    if "accounting_storage/slurmdbd" in slurm.run("scontrol", "show", "config"):
        until(lambda: jobs <= set(slurm.run("sacct", "-X", "-n", "-o", "jobidraw").split()), "sacct lacks jobs", 40)


def test_strictly_one_job_a_task_if_asked_for(cluster: Make) -> None:
    pool = cluster(4, tasks_per_job=1)
    tasks = [pool.add_task(str(i), job_of) for i in range(10)]
    assert len({task.wait_return(50) for task in tasks}) == 10


def test_num_threads_is_the_most_jobs_at_once(cluster: Make, tmp_path: Path, slurm: Slurm) -> None:
    pool = cluster(3)
    tasks = [pool.submit(wait_in_job, str(tmp_path / "go")) for _ in range(9)]
    until(lambda: pool.tasks.qsize() == 6, "three workers are not up", 40)
    time.sleep(1.5)  # time for another submission, if there were to be one
    assert len(slurm.jobs()) == 3
    (tmp_path / "go").touch()
    assert len({task.result(50) for task in tasks}) == 3


def test_more_jobs_come_when_tasks_turn_out_to_be_long(cluster: Make, tmp_path: Path, slurm: Slurm) -> None:
    pool = cluster()
    tasks = [pool.submit(wait_in_job, str(tmp_path / "go")) for _ in range(40)]
    until(lambda: len(slurm.jobs()) == 40, "the second wave does not come", 40)  # the first has at most 32
    (tmp_path / "go").touch()
    assert all(task.result(50) for task in tasks)


def test_jobs_that_waited_for_tasks_that_were_cancelled_are_released(cluster: Make, tmp_path: Path, slurm: Slurm) -> None:
    pool = cluster(3, slurm_nodelist="n3", slurm_exclusive=True)  # one runs, and the others wait for its node
    tasks = [pool.submit(wait_in_job, str(tmp_path / "go")) for _ in range(3)]
    until(lambda: len(slurm.jobs()) == 3 and pool.tasks.qsize() == 2, "the jobs do not come", 40)
    until(lambda: sum(task.running() for task in tasks) == 1, "no task begins", 40)
    waiting = [task for task in tasks if not task.running()]
    assert [task.cancel() for task in waiting] == [True, True]
    until(lambda: len(slurm.jobs()) == 1, "jobs stay that nobody needs", 40)
    (tmp_path / "go").touch()
    assert sum(task.cancelled() for task in tasks) == 2
    assert all(task.result(50) for task in tasks if task not in waiting)


def test_an_idle_job_takes_the_next_task_and_then_ends(cluster: Make, slurm: Slurm) -> None:
    pool = cluster(1, idle_seconds=2)
    first = pool.add_task("first", job_of).wait_return(50)
    time.sleep(1)
    begun = time.monotonic()
    assert pool.add_task("second", job_of).wait_return(50) == first
    assert time.monotonic() - begun < 0.5
    until(lambda: not slurm.jobs(), "the idle job stays", 20)
    assert pool.add_task("third", job_of).wait_return(50) != first


def test_an_idle_job_makes_room_for_tasks_with_other_options(cluster: Make) -> None:
    pool = cluster(1)
    first = pool.add_task("first", job_of).wait_return(50)
    begun = time.monotonic()
    assert pool.with_options(timeout_min=7).add_task("other", job_of).wait_return(50) != first
    assert time.monotonic() - begun < 20  # an idle job would stay 30 s


@pytest.mark.parametrize("options", [{}, {"tasks_per_job": 1}])
def test_jobs_without_work_are_cancelled_before_they_start(
    cluster: Make, slurm: Slurm, tmp_path: Path, options: dict[str, int]
) -> None:
    pool = cluster(slurm_additional_parameters={"begin": "now+1hour"}, **options)
    tasks = [pool.submit(functions.touch_and_wait, str(tmp_path / "ran"), str(tmp_path / "go")) for _ in range(5)]
    until(lambda: len(slurm.jobs()) == 5, "jobs are not sent")
    assert all(task.cancel() for task in tasks)
    until(lambda: not slurm.jobs(), "jobs stay", 40)  # they are let go of ten seconds apart
    assert not (tmp_path / "ran").exists()


def test_options_of_a_task_make_a_job_of_that_size(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(cpus_per_task=1)
    small = pool.add_task("small", functions.surroundings, "SLURM_CPUS_PER_TASK")
    large = pool.with_options(cpus_per_task=3, timeout_min=7).add_task("large", functions.surroundings, "SLURM_CPUS_PER_TASK")
    assert small.wait_return(50)["SLURM_CPUS_PER_TASK"] == "1"
    assert large.wait_return(50)["SLURM_CPUS_PER_TASK"] == "3"
    assert small.facts["job"] != large.facts["job"]


def test_no_time_limit_is_sent_unless_given(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster()
    free = pool.add_task("free", functions.wait_for_file, str(tmp_path / "go"))
    limited = pool.with_options(timeout_min=7).add_task("limited", functions.wait_for_file, str(tmp_path / "go"))
    until(lambda: len(slurm.jobs()) == 2, "two jobs are not there")
    assert sorted(slurm.run("squeue", "-h", "-r", "-o", "%l").split()) == ["10:00", "7:00"]  # the lab's default, and ours
    (tmp_path / "go").touch()
    free.wait(50)
    limited.wait(50)


def test_a_job_knows_when_it_ends_whether_or_not_slurm_says_so_by_itself(cluster: Make) -> None:
    begun = time.time()
    task = cluster(timeout_min=7).add_task("end", ends_of_job)
    told, asked = task.wait_return(50)
    assert begun + 415 < told < time.time() + 425
    assert abs(told - asked) < 5


def test_a_refusal_is_told_at_once_and_the_next_task_tries_again(cluster: Make) -> None:
    pool = cluster()
    begun = time.monotonic()
    for _ in range(2):
        task = pool.with_options(slurm_partition="nonesuch").add_task("refused", job_of)
        with pytest.raises(pools.SubmissionError, match=r"invalid partition"):
            task.wait_return(20)
    assert time.monotonic() - begun < 10
    assert pool.add_task("good", job_of).wait_return(50)


def test_jobs_that_cannot_start_python_are_an_error(cluster: Make) -> None:
    with pytest.raises(pools.PoolError, match=r"(?s)do not start.*nonesuch_python"):
        cluster(python="nonesuch_python").add_task("t", job_of).wait_return(55)


def test_a_shared_value_is_written_once(cluster: Make, tmp_path: Path) -> None:
    pool = cluster(2)
    array = np.arange(100_000.0)
    shared = pool.share(array)
    readonly = array + 1
    readonly.flags.writeable = False
    tasks = [pool.add_task("sum", functions.sum_and_flags, value) for value in [shared, readonly] * 5]
    assert {task.wait_return(50) for task in tasks} == {(float(array.sum()), False), (float(readonly.sum()), False)}
    assert pool.folder is not None
    sizes = [file.stat().st_size for file in (pool.folder / "shared").iterdir()]
    assert sum(size >= array.nbytes for size in sizes) == 2


def test_a_closed_run_leaves_its_journal_and_what_tells_of_failures(cluster: Make) -> None:
    pool = cluster(1)
    good = [pool.add_task(f"good {i}", functions.add, i) for i in range(20)]
    bad = pool.add_task("bad", functions.fail)
    assert bad.exception(50) is not None
    assert [task.wait_return(50) for task in good] == list(range(1, 21))
    pool.shutdown()
    assert pool.folder is not None
    files = sorted(str(path.relative_to(pool.folder)) for path in pool.folder.rglob("*") if path.is_file())
    call, *rest, context = files
    assert call == "failed/0000/0000021.0"  # it can be run again, in its context
    assert context.startswith("shared/")
    assert rest == ["jobs/" + Path(bad.facts["log"]).name, "journal.jsonl", "run.json"]
    journal = [json.loads(line) for line in (pool.folder / "journal.jsonl").read_text().splitlines()]
    assert sum(entry["t"] == "task" for entry in journal) == 21
    assert sum(entry["t"] == "done" and entry["ok"] for entry in journal) == 20


def test_a_folder_that_nodes_do_not_share_is_warned_of(
    cluster: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "own"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is read from the environment once
    with caplog.at_level(logging.WARNING):
        cluster(1, folder=str(tmp_path / "own" / "runs")).add_task("t", job_of).wait_return(50)
    warnings = [record.getMessage() for record in caplog.records]
    for place in [tmp_path / "own", *(["/tmp"] if tmp_path.is_relative_to("/tmp") else [])]:
        assert any(f"is under {place}, which the nodes of a cluster do not share" in warning for warning in warnings)
