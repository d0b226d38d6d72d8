"""Programs that start programs, clusters that are named, and what sites demand of every job; on a real SLURM."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .test_endings import Running, journal
from .test_jobs import job_of

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
Make = Callable[..., ClusterPool]
StandIn = Callable[[str, str], Path]

# As OpenMPI's on one node: as many processes as the job has places for, which it counts by SLURM's variable.
MPIRUN = """\
[ "$SLURM_TASKS_PER_NODE" -ge "$2" ] || { echo "there are not enough slots: $SLURM_TASKS_PER_NODE" >&2; exit 1; }
! env | grep ^PMI || { echo "it takes itself for a process of another run" >&2; exit 1; }
for ((rank = 0; rank < $2; rank++)); do OMPI_COMM_WORLD_RANK=$rank "${@:3}" & done; wait"""


def run_steps(count: int) -> list[str]:
    command = ["srun", "-n", str(count), "sh", "-c", "echo $SLURM_PROCID"]
    return sorted(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout.split())


def test_a_task_runs_steps_and_mpi_programs(cluster: Make, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_RANK", "SLURM_STEP_ID", "SLURM_CPU_BIND", "SRUN_CPUS_PER_TASK"):  # of a step that the script runs in
        monkeypatch.setenv(name, "7")
    stand_in("mpirun", MPIRUN)
    pool = cluster(1, tasks_per_node=4)
    command = pool.add_process("command", "srun -n 4 sh -c 'echo $SLURM_PROCID'", check=True)
    call = pool.add_task("call", run_steps, 4)
    mpi = pool.add_process("mpi", "mpirun -n 4 sh -c 'echo $OMPI_COMM_WORLD_RANK'", check=True)
    assert sorted(command.wait_return(60).split()) == call.wait_return(60) == ["0", "1", "2", "3"]
    assert sorted(mpi.wait_return(60).split()) == ["0", "1", "2", "3"]


def send_jobs(folder: str) -> tuple[str, str, str]:
    """In a task: have a job of one's own send two, by sbatch and by a pool; returns all three."""
    script = f"#!/bin/sh\necho $SLURM_JOB_ID > {folder}/sent"
    subprocess.run(["sbatch", "--wait", "--output=/dev/null"], input=script, text=True, check=True, timeout=60)
    with pools.GetClusterPool("inner", 1, executor="slurm", folder=f"{folder}/inner") as pool:
        inner = pool.add_task("inner", job_of).wait_return(60)
    return job_of(), Path(folder, "sent").read_text().strip(), inner


def test_a_task_sends_jobs_of_its_own(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    jobs = cluster(1).add_task("outer", send_jobs, str(tmp_path)).wait_return(120)
    assert len({job.partition("_")[0] for job in jobs}) == 3
    until(lambda: len(slurm.jobs()) <= 1, "jobs are left")  # (ours may stay idle for a while)


def test_a_job_whose_python_a_shell_starts_hears_of_its_end_as_well(cluster: Make, slurm: Slurm, tmp_path: Path) -> None:
    pool = cluster(1, python=f"true && {sys.executable}", slurm_teardown=[f"touch {tmp_path}/torn-down"])
    running = Running(pool, tmp_path)
    slurm.run("scancel", running.job)
    assert isinstance(running.error(15), pools.JobCancelledError)
    left = [entry for entry in journal(pool) if entry["t"] == "left"]
    assert [entry["reason"] for entry in left] == ["interrupted"]
    until((tmp_path / "torn-down").exists, "the lines after the worker do not run")


@pytest.fixture
def name(slurm: Slurm) -> str:
    """What the cluster is called."""
    config = slurm.run("scontrol", "show", "config")
    if "accounting_storage/slurmdbd" not in config:
        pytest.skip("without accounting, SLURM knows of no cluster by its name")
    (found,) = re.findall(r"^ClusterName\s*=\s*(\S+)", config, re.MULTILINE)
    return str(found)


def test_jobs_of_a_cluster_that_is_named_are_found_there(cluster: Make, slurm: Slurm, name: str, tmp_path: Path) -> None:
    pool = cluster(1, slurm_clusters=name)
    running = Running(pool, tmp_path)
    slurm.run("scancel", running.job)
    error = running.error(15)
    assert isinstance(error, pools.JobCancelledError)
    assert error.job_id == f"{running.job}@{name}"
    assert error.log.endswith(f"/{running.job}.log")
    assert Path(error.log).exists()
    assert f"sacct -j {running.job} -M {name} " in str(error)
    task = pool.add_task("next", os.getenv, "SLURM_CLUSTERS")
    assert task.wait_return(40) is None
    assert task.facts["job"].endswith(f"_0@{name}")
    assert task.facts["node"]
    waiting = pool.with_options(slurm_additional_parameters={"begin": "now+1hour"}).add_task("waits", functions.add, 1)
    until(lambda: len(slurm.jobs("-t", "pending")) == 1, "no job is sent", 20)
    assert waiting.cancel()
    pool.shutdown()
    assert not slurm.jobs()


@pytest.fixture
def demands(lab: Slurm, name: str) -> Iterator[str]:
    """A node with a feature and a reservation, both of that name; there is a QOS as well."""
    feature = "np-test"
    user = pwd.getpwuid(os.geteuid()).pw_name
    lab.run("scontrol", "update", "nodename=n2", f"availablefeatures={feature}", f"activefeatures={feature}")
    what = ["starttime=now", "duration=10", f"users={user}", "nodes=n2", "flags=ignore_jobs"]
    lab.run("scontrol", "create", "reservation", f"reservationname={feature}", *what)
    yield feature
    until(lambda: not lab.jobs(), "jobs are left", 40)
    lab.run("scontrol", "delete", f"reservationname={feature}")
    lab.run("scontrol", "update", "nodename=n2", "availablefeatures=", "activefeatures=")


def test_what_a_site_demands_of_every_job_is_sent(
    cluster: Make, demands: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SBATCH_RESERVATION", demands)  # as a site's profile may have it
    monkeypatch.setenv("SBATCH_CONSTRAINT", "another")  # against which an option wins
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")  # (the time is the pool's to say)
    pool = cluster(
        1, slurm_job_name="grid", slurm_comment="project 7", slurm_qos="normal", slurm_constraint=demands, idle_seconds=0
    )
    facts = pool.add_process("facts", "scontrol -o show job $SLURM_JOB_ID", check=True).wait_return(60)
    assert re.search(r" JobName=grid-cluster-", facts)
    for words in ("Comment=project 7", "QOS=normal", f"Features={demands}", f"Reservation={demands}", "TimeLimit=00:10:00"):
        assert words in facts
