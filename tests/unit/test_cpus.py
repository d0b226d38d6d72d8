"""How many CPUs this process may use, with stand-ins for cgroups; and the variables that tell libraries so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import cpus, hosts
from nornir_pools.cluster.context import Surroundings, current_umask, fingerprints

from .. import functions


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that may run on 16 CPUs, in no cgroup, with no thread counts set."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(cpus, "_own_cgroups", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "_all_cgroups", tmp_path / "cgroups")
    for name in cpus.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def put(place: str, text: str) -> None:
    file = cpus._all_cgroups / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({}, 16),
        ({"a/b/cpu.max": "max 100000"}, 16),
        ({"a/b/cpu.max": "400000 100000"}, 4),
        ({"a/b/cpu.max": "250000 100000"}, 3),
        ({"a/b/cpu.max": "1000 100000"}, 1),
        ({"a/b/cpu.max": "6400000 100000"}, 16),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "500000 100000"}, 5),
        ({"a/b/cpu.max": "rubbish"}, 16),
        ({"a/b/cpu.max": ""}, 16),
        ({"a/b/cpu.max": "100000 0"}, 16),
    ],
)
def test_the_cgroups_cpu_time_counts_at_whatever_level_it_is_limited(limits: dict[str, str], count: int) -> None:
    cpus._own_cgroups.write_text("0::/a/b\n")
    for place, text in limits.items():
        put(place, text)
    assert cpus.usable_cpus() == count


@pytest.mark.parametrize(
    ("own", "folder"), [("4:cpu,cpuacct:/job", "cpu,cpuacct/job"), ("2:cpu:/job", "cpu/job"), ("2:cpuacct,cpu:/far/off", "cpu")]
)
def test_the_first_version_of_cgroups_is_read_too(own: str, folder: str) -> None:
    cpus._own_cgroups.write_text(f"9:cpuset:/\n{own}\n0::/\n")
    put(f"{folder}/cpu.cfs_period_us", "50000")
    put(f"{folder}/cpu.cfs_quota_us", "-1")
    assert cpus.usable_cpus() == 16
    put(f"{folder}/cpu.cfs_quota_us", "150000")
    assert cpus.usable_cpus() == 3


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "8"}, 2),
        ({"SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_CPUS_ON_NODE": "0", "SLURM_CPUS_PER_TASK": "many"}, 16),
    ],
)
def test_a_job_has_what_slurm_says(variables: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert cpus.usable_cpus() == count


def test_pools_of_this_machine_have_as_many_workers() -> None:
    cpus._own_cgroups.write_text("0::/\n")
    put("cpu.max", "300000 100000")
    for get in (pools.GetThreadPool, pools.GetMultithreadingPool, pools.GetProcessPool, pools.GetLocalMachinePool):
        pool: Any = get("three")
        assert pool.num_threads == 3
        pool.shutdown()
    assert pools.GetClusterPool("local", executor="local").num_threads == 3


def test_where_jobs_are_sent_from_pools_are_modest_and_say_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosts, "_told", False)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sbatch").touch(0o755)
    assert hosts.default_workers() == 16  # packages without a cluster
    (tmp_path / "slurm.conf").touch()
    for name in ("GetThreadPool", "GetMultithreadingPool", "GetProcessPool", "GetLocalMachinePool"):
        assert getattr(pools, name)(name).num_threads == 4
    assert pools.GetClusterPool("local", executor="local").num_threads == 4
    assert pools.GetThreadPool("many", 12).num_threads == 12
    assert ["4 workers here, for 16 CPUs" in record.getMessage() for record in caplog.records] == [True]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert hosts.default_workers() == 16
    monkeypatch.delenv("SLURM_JOB_ID")
    (tmp_path / "sbatch").unlink()
    assert hosts.default_workers() == 16


def test_what_the_user_has_set_is_left_and_what_follows_from_it() -> None:
    one = dict.fromkeys(cpus.THREAD_VARIABLES, "1")
    assert cpus.thread_counts(1, {"PATH": "p"}) == one
    assert cpus.thread_counts(4, {"MKL_NUM_THREADS": "2"}) == {
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "NUMEXPR_NUM_THREADS": "4",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "4",
    }
    assert cpus.thread_counts(4, {"OMP_NUM_THREADS": "2"}) == {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "4"}
    assert cpus.thread_counts(4, one) == {}


@pytest.mark.parametrize(("workers", "each"), [(1, "16"), (5, "3"), (16, "1"), (40, "1")])
def test_workers_of_this_machine_share_its_cpus(workers: int, each: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    pool = pools.GetLocalMachinePool("p", workers)
    found = pool.add_task("t", functions.surroundings, *cpus.THREAD_VARIABLES).wait_return(50)
    assert [found[name] for name in cpus.THREAD_VARIABLES] == [each, "7", each, each, each]
    said = 'echo "$OMP_NUM_THREADS $MKL_NUM_THREADS"'
    for other in (pool, pools.GetThreadPool("t", workers), pools.GetProcessPool("c", workers)):
        assert other.add_process("c", said).wait_return(50) == f"{each} 7\n"
    assert pool.add_process("c", said, env={"A": "b"}).wait_return(50) == " \n"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("counts", "nodes"),
    [("8(x2),4", [8, 8, 4]), ("2,3,4", [2, 3, 4]), ("16", [16]), ("", []), ("64(x100),32(x2)", [64] * 100 + [32] * 2)],
)
def test_a_job_has_the_cpus_that_the_scheduler_has_set_aside_on_all_its_nodes(counts: str, nodes: list[int]) -> None:
    environment = {"SLURM_JOB_CPUS_PER_NODE": counts, "SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "3"}
    assert cpus.cpus_of_nodes(counts) == nodes
    assert cpus.cpus_set_aside(environment, "slurm") == sum(nodes)
    assert cpus.cpus_set_aside(environment, "allocation") == 8
    assert cpus.cpus_set_aside(environment, "local") == cpus.cpus_set_aside({}, "slurm") == 0


def enter(worker: Surroundings, **environment: str | None) -> None:
    worker.enter({"cwd": os.getcwd(), "path": [None], "umask": current_umask(), "environment": environment})


def test_a_task_in_a_job_has_the_jobs_cpus_unless_script_or_node_says_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    script = fingerprints(os.environ)
    os.environ["MKL_NUM_THREADS"] = "6"  # by a setup line, or the node's profile
    try:
        worker = Surroundings(script, 8)
        enter(worker)
        assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("8", "6")
        enter(worker, OMP_NUM_THREADS="2", MKL_NUM_THREADS="3")  # the script has set them since the pool was made
        assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("2", "6")
        assert "OPENBLAS_NUM_THREADS" not in os.environ
        enter(worker, OMP_NUM_THREADS=None)
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "8"
    finally:
        os.environ.clear()
        os.environ.update(before)
