"""What the workers of one job, and those who start them, know and say: without a job."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster import launching
from nornir_pools.cluster.allocation import cpus_by_node, ids_of_allocation
from nornir_pools.cluster.budget import cpus_of
from nornir_pools.cluster.context import leave_step
from nornir_pools.cluster.crew import Crew
from nornir_pools.cluster.division import Needs, Node
from nornir_pools.cluster.mates import Company
from nornir_pools.cluster.names import allocation_of, job_of, post_of
from nornir_pools.cluster.spool import Spool
from nornir_pools.options import Options


def test_one_of_those_without_work_looks_for_it_and_none_is_idle_while_another_works() -> None:
    company = Company(3)
    company.take(0)
    assert company.busy_until == math.inf
    company.rest(1)
    company.rest(2)
    assert [company.looks(place) for place in range(3)] == [True, True, False]  # (the first does when it is done)
    called = company.called
    company.take(1)
    assert company.called > called  # there may be more
    assert company.looks(2)
    for place in range(3):
        company.rest(place)
    assert company.busy_until < math.inf
    company.leave(0)
    company.leave(1)
    assert company.looks(2)


def test_what_srun_has_set_for_its_step_is_forgotten_and_what_the_job_has_stays() -> None:
    job = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8", "SLURM_JOB_NODELIST": "n[1-2]", "PATH": "p", "SLURM_CONF": "c"}
    step = {"SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_CPU_BIND_LIST": "0x1"}
    step |= {"PMI_RANK": "0", "PMIX_RANK": "0", "SLURM_TASKS_PER_NODE": "1", "SRUN_DEBUG": "3", "SLURM_TASK_PID": "9"}
    environment = job | step
    leave_step(environment)
    assert environment == job


def test_a_worker_beside_others_is_known_by_its_job_and_a_number() -> None:
    assert [post_of(name) for name in ("7_0-r1", "7_0+3-r0", "9-w2+1-r0")] == ["7_0", "7_0+3", "9-w2+1"]
    assert [job_of(post) for post in ("7_0", "7_0+3", "9-w2+1")] == ["7_0", "7_0", "9-w2"]
    assert [allocation_of(job) for job in ("7_0", "L3", "9-w2", "9_1-w12")] == ["", "", "9", "9_1"]


@pytest.mark.parametrize(
    ("counts", "cpus"), [("8(x2),4", [8, 8, 4]), ("2,3,4", [2, 3, 4]), ("16", [16, 1, 1]), ("", [1, 1, 1]), ("8(x9)", [8] * 3)]
)
def test_the_cpus_of_an_allocations_nodes(counts: str, cpus: list[int]) -> None:
    assert cpus_by_node(["a", "b", "c"], counts) == dict(zip("abc", cpus, strict=True))


def test_a_requeued_job_gives_back_what_any_of_its_workers_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool.create(tmp_path / "run")
    for name in ("7_0-r0", "7_0+5-r0", "7_0+1-r1", "7_1-r0", "7_0+2-r2"):
        spool.make_folder(f"claimed/{name}")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    crew = Crew(spool, 0, "7_0", 2, (Node(2, 1, ()), Needs()))
    assert sorted(crew._predecessors()) == ["7_0+1-r1", "7_0+5-r0", "7_0-r0"]
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert crew._predecessors() == []
    spool.close()


def test_the_id_of_an_allocation_as_squeue_has_it() -> None:
    assert ids_of_allocation({}) == ("", "")
    assert ids_of_allocation({"SLURM_JOB_ID": "9"}) == ("9", "9")
    assert ids_of_allocation({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}) == ("9", "7_2")


def test_a_job_with_several_workers_is_told_how_many_and_what_a_task_needs(tmp_path: Path) -> None:
    options = Options.of({"tasks_at_once": "auto", "cpus_per_task": 2, "mem_gb": 1, "gpus_per_node": 1})
    command = launching.worker_command(tmp_path, options, 0)
    assert "crew.main()" in command
    assert command.endswith(f"--at-once auto --cpus 2 --memory {1024**3} --gpus 1")
    assert launching.worker_command(tmp_path, Options.of({"tasks_at_once": 1}), 0) == launching.worker_command(
        tmp_path, Options(), 0
    )


def test_one_worker_among_several_counts_with_its_own_cpus() -> None:
    assert cpus_of(Options.of({"cpus_per_task": 2, "tasks_per_node": 3})) == 6
    assert cpus_of(Options.of({"cpus_per_task": 2, "tasks_per_node": 3, "tasks_at_once": 3})) == 2


def test_outside_an_allocation_there_is_none_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pools.OptionError, match=r"SLURM_JOB_ID is not set.*salloc.*executor=\"slurm\""):
        pools.GetClusterPool("nowhere", executor="allocation")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("PATH", "nowhere")
    with pytest.raises(pools.OptionError, match="srun is not on PATH"):
        pools.GetClusterPool("nowhere", executor="allocation")
    assert not pools.dictKnownPools


def test_a_task_has_either_a_job_of_its_own_or_one_with_others() -> None:
    with pytest.raises(pools.OptionError, match="do not go together"):
        Options.of({"tasks_per_job": 1, "tasks_at_once": 2})
    several = Options.of({"tasks_at_once": 8})
    alone = several.with_task({"tasks_per_job": 1})
    assert (alone.strict, alone.several) == (True, False)
    assert alone.with_task({"tasks_at_once": 4}).tasks_at_once == 4
    assert several.with_task({"mem_gb": 1}).tasks_at_once == 8
