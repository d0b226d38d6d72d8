"""Several clusters behind one set of commands: each call goes to the right one, and ids say where a job is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster import answers, clusters, nodelists, queue, sites, slurm
from nornir_pools.cluster.history import History, PastJob
from nornir_pools.cluster.launcher import SlurmLauncher
from nornir_pools.options import Options
from nornir_pools.testing import PretendSlurm

from .. import functions
from ..conftest import until

pytest_plugins = ["nornir_pools.testing"]

Calls = Callable[[], list[str]]
ON_TWO = {"SLURM_CLUSTERS": "big,small"}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """SLURM commands that know job 7_0 on each cluster; gives what they were called with since the last time."""
    said = {
        "squeue": 'case "$*" in *%r*) echo "7_0|RUNNING|None";; *%j*) echo "7_0|name";; *%N*) echo "node-of-$2";; esac',
        "sacct": 'echo "7_0|FAILED|1:0|||$2"',
        "scancel": "",
        "scontrol": 'echo "JobState=RUNNING NodeList=$2"',
    }
    for name, line in said.items():
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "{name} $*${{SLURM_CLUSTERS:+ handed on}}" >> {tmp_path}/calls\n{line}\n'
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def read() -> list[str]:
        lines = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        (tmp_path / "calls").unlink(missing_ok=True)
        return lines

    return read


def test_states_are_those_of_all_clusters_that_are_named(calls: Calls) -> None:
    assert slurm.states({**os.environ, **ON_TWO}) == {"7_0@big": "RUNNING", "7_0@small": "RUNNING"}
    assert [call[: len("squeue -M big")] for call in calls()] == ["squeue -M big", "squeue -M sma"]
    assert slurm.states({**os.environ, "SLURM_CLUSTERS": ",big"}) == {"7_0": "RUNNING", "7_0@big": "RUNNING"}
    assert [" -M " in call for call in calls()] == [False, True]
    assert slurm.find_by_name("name", {**os.environ, "SLURM_CLUSTERS": "big"}) == "7@big"


def test_jobs_are_cancelled_and_asked_about_where_they_are(calls: Calls) -> None:
    slurm.cancel(["7_0", "7_0@big", "7_1@big"], {**os.environ, **ON_TWO})
    assert sorted(calls()) == ["scancel -M big 7_0 7_1", "scancel 7_0"]
    assert set(slurm.accounting(["7_0@big", "7_0@small"], os.environ)) == {"7_0@big", "7_0@small"}
    assert nodelists.node_of("7_0@small", os.environ) == "node-of-small"
    assert sites.job_facts("7_0@big", os.environ, 10)["NodeList"] == "big"
    assert not [call for call in calls() if "handed on" in call]  # a job would go on with it
    there = clusters.reaching(os.environ, ["7_0@big"])
    assert {job: queued.state for job, queued in queue.ask_queue(there).items()} == {}  # (squeue's answer lacks a column)
    assert calls()[0].startswith("squeue -M big ")


def test_ids_say_where_a_job_is() -> None:
    assert [clusters.element("7", 1), clusters.element("7@big", 1)] == ["7_1", "7_1@big"]
    assert [clusters.array_of("7_1"), clusters.array_of("7_1@big")] == ["7", "7@big"]
    assert clusters.by_hand(["7_1@big", "8_0", "7_2@big"]) == "scancel -M big 7_1 7_2; scancel 8_0"


@pytest.mark.parametrize(
    ("output", "asked", "job"),
    [
        ("Submitted batch job 7 on cluster big\n", "small,big", "7@big"),
        ("Submitted batch job 7 on cluster big\n", "BIG", "7@big"),
        ("banner\n7;big\n", "small,big", "7@big"),
        ("7\n", "big", "7@big"),
        ("Submitted batch job 7 on cluster big\n", "", "7"),
    ],
)
def test_the_answer_says_on_which_cluster_a_job_is(output: str, asked: str, job: str) -> None:
    assert answers.read_job_id(output, asked) == job


def test_an_answer_that_does_not_say_on_which_of_several_is_in_doubt() -> None:
    with pytest.raises(slurm.SlurmError, match="no job id with its cluster") as caught:
        answers.read_job_id("7\n", "big,small")
    assert answers.is_doubtful(str(caught.value))


def test_a_run_that_is_taken_over_is_looked_for_where_its_jobs_are(calls: Calls, tmp_path: Path) -> None:
    launcher = SlurmLauncher(tmp_path, os.environ)
    past = History(groups={0: Options.of({"slurm_clusters": "small"}).plain()}, jobs={"7_0@big": PastJob("7_0@big", 0, 0.0)})
    launcher.resume(past)
    assert launcher.states() == {"7_0@big": "RUNNING", "7_0@small": "RUNNING"}


@pytest.mark.parametrize("how", ["option", "additional", "variable"])
def test_a_pools_jobs_run_and_end_on_the_cluster_that_is_named(
    pretend_slurm: PretendSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    if how == "variable":
        monkeypatch.setenv("SLURM_CLUSTERS", "big")
    options: dict[str, Any] = {
        "option": {"slurm_clusters": "big"},
        "additional": {"slurm_additional_parameters": {"clusters": "big"}},
    }
    pool = pretend_slurm.pool(num_threads=1, retries=0, tasks_per_job=1, **options.get(how, {}))
    task = pool.add_task("t", os.getenv, "SLURM_CLUSTERS")
    assert task.wait_return(40) is None
    assert (task.facts["job"], task.facts["node"]) == ("1_0@big", "pretend2")
    pretend_slurm.end("cancelled")
    error = pool.add_task("cancelled", functions.add, 1).exception(40)
    assert isinstance(error, pools.JobCancelledError)
    assert error.job_id == "2_0@big"
    assert error.log.endswith("/2_0.log")
    running = pool.add_task("running", functions.touch_and_wait, str(tmp_path / "mark"), str(tmp_path / "go"))
    until((tmp_path / "mark").exists, "it does not start", 40)
    assert pools.look(str(pool.folder)).live_jobs() == ["3_0@big"]
    assert pool.cancel(running, running=True)
    pool.shutdown()
    assert [job.state for job in pretend_slurm.jobs()] == ["COMPLETED", "CANCELLED", "CANCELLED"]


def test_all_clusters_have_to_be_named(pretend_slurm: PretendSlurm) -> None:
    task = pretend_slurm.pool(slurm_clusters="all").add_task("t", functions.add, 1)
    with pytest.raises(pools.SubmissionError, match="name the clusters"):
        task.wait_return(20)


def test_a_cluster_that_is_not_asked_looks_empty_in_the_pretend_slurm_as_well(
    pretend_slurm: PretendSlurm, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        pool = pretend_slurm.pool(num_threads=1, slurm_clusters="big")
        assert pool.add_task("t", functions.add, 1).wait_return(40) == 2
    assert slurm.states(os.environ) == {}
    assert set(slurm.states({**os.environ, "SLURM_CLUSTERS": "big"})) == {"1_0@big"}


def test_the_log_of_a_job_on_a_named_cluster_is_found_though_its_worker_never_spoke(pretend_slurm: PretendSlurm) -> None:
    pool = pretend_slurm.pool(num_threads=1, slurm_clusters="big", python="nonesuch_python")
    with pytest.raises(pools.PoolError, match=r"(?s)do not start.*@big .*nonesuch_python: command not found"):
        pool.add_task("t", functions.add, 1).wait_return(40)
