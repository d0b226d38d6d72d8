"""How many tasks a job runs at once, what it asks for them, and what each of them gets of the node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from nornir_pools.cluster import division
from nornir_pools.cluster.division import Needs, Node, enter, guess, job_options, share
from nornir_pools.options import Options

GB = 1024**3
NODE = Node(16, 64 * GB, ("0", "1", "2", "3"))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 16),
        ({"cpus_per_task": 3}, 5),
        ({"cpus_per_task": 20}, 1),
        ({"mem_gb": 10}, 6),
        ({"cpus_per_task": 4, "mem_gb": 10}, 4),
        ({"mem_gb": 100}, 1),
        ({"gpus_per_node": 1}, 4),
        ({"gpus_per_node": 2, "cpus_per_task": 2}, 2),
        ({"slurm_gres": "gpu:4"}, 4),
        ({"slurm_gres": "gpu:4", "cpus_per_task": 8}, 2),
    ],
)
def test_as_many_tasks_at_once_as_fit_into_cpus_memory_and_gpus(options: dict[str, Any], count: int) -> None:
    assert NODE.fits(Needs.of(Options.of(options))) == count


def test_memory_and_gpus_are_no_limit_for_tasks_that_are_not_said_to_need_them() -> None:
    assert Node(8, GB, ()).fits(Needs()) == 8


@pytest.mark.parametrize(
    ("variables", "node"),
    [
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_MEM_PER_NODE": "512"}, Node(12, GB // 2, ())),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_MEM_PER_CPU": "8"}, Node(12, 12 * 8 * 1024**2, ())),
        ({"SLURM_CPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "0,3"}, Node(2, GB, ("0", "3"))),
        ({"ROCR_VISIBLE_DEVICES": "1", "SLURM_MEM_PER_NODE": "4096"}, Node(5, GB, ("1",))),
        ({"CUDA_VISIBLE_DEVICES": ""}, Node(5, GB, ())),
    ],
)
def test_what_a_job_has_is_what_slurm_says_else_what_the_machine_has(
    variables: dict[str, str], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(division, "usable_cpus", lambda: 5)
    monkeypatch.setattr(division, "memory_limit", lambda: GB)
    monkeypatch.setattr(division, "_devices_of_machine", list)
    assert Node.here(variables) == node


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"cpus_per_task": 2, "mem_gb": 4, "gpus_per_node": 1}, {"cpus_per_task": 2, "mem_gb": 4, "gpus_per_node": 1}),
        ({"tasks_at_once": 1, "mem_gb": 4}, {"mem_gb": 4}),
        ({"tasks_at_once": 8}, {"cpus_per_task": 8}),
        (
            {"tasks_at_once": 3, "cpus_per_task": 2, "mem_gb": 1.5, "gpus_per_node": 1, "slurm_qos": "q"},
            {"cpus_per_task": 6, "mem_gb": 4.5, "gpus_per_node": 3, "slurm_qos": "q"},
        ),
        ({"tasks_at_once": 3, "slurm_cpus_per_task": 12}, {"slurm_cpus_per_task": 12}),
        ({"tasks_at_once": 3, "cpus_per_task": 4, "tasks_per_node": 3}, {"cpus_per_task": 4, "tasks_per_node": 3}),
        ({"tasks_at_once": "auto", "cpus_per_task": 2, "mem_gb": 4}, {"cpus_per_task": 2, "mem_gb": 4}),
        (
            {"tasks_at_once": "auto", "mem_gb": 4, "slurm_exclusive": True},
            {"slurm_exclusive": True, "slurm_mem": "0"},
        ),
        (
            {"tasks_at_once": "auto", "mem_gb": 4, "slurm_mem": "50G", "slurm_additional_parameters": {"exclusive": "user"}},
            {"slurm_mem": "50G", "slurm_additional_parameters": {"exclusive": "user"}},
        ),
    ],
)
def test_a_job_asks_for_what_its_tasks_need_together(given: dict[str, Any], asked: dict[str, Any]) -> None:
    assert dict(job_options(Options.of(given))) == asked


def test_before_a_job_has_said_it_there_is_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 24)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "10")

    def guessed(**options: Any) -> int:
        return guess(Options.of(options))

    assert guessed(cpus_per_task=8) == 1
    assert guessed(tasks_at_once=5, cpus_per_task=8) == 5
    assert guessed(tasks_at_once="auto", cpus_per_task=8) == 1
    assert guessed(tasks_at_once="auto", cpus_per_task=8, slurm_exclusive=True) == 3
    assert guessed(tasks_at_once="auto", cpus_per_task=2, tasks_per_node=4) == 4
    assert guessed(tasks_at_once="auto", cpus_per_task=2, slurm_cpus_per_task=12) == 6
    assert guessed(tasks_at_once="auto", cpus_per_task=3, executor="local") == 3
    assert guessed(tasks_at_once="auto", slurm_ntasks_per_node="many") == 1


def test_parts_are_as_equal_as_can_be_and_where_there_is_too_little_some_share() -> None:
    assert [share(range(8), index, 4) for index in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [item for index in range(3) for item in share(range(8), index, 3)] == list(range(8))
    assert sorted(item for index in range(6) for item in share("ab", index, 6)) == list("aaabbb")
    assert share("", 0, 2) == []


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """To which CPUs processes were bound; in a job with six CPUs and three GPUs, two CPUs to a core."""
    before, found = dict(os.environ), list[list[int]]()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: found.append(list(cpus)))
    monkeypatch.setattr(division, "_core", lambda cpu: (cpu % 3, cpu))
    os.environ.update(SLURM_JOB_ID="1", CUDA_VISIBLE_DEVICES="0,1,2", SLURM_MEM_PER_NODE="6000", SLURM_CPUS_PER_TASK="6")
    yield found
    os.environ.clear()
    os.environ.update(before)


def test_each_task_has_cpus_gpus_and_variables_of_its_own(bound: list[list[int]]) -> None:
    enter(Node(6, GB, ("0", "1", "2")), Needs(gpus=1), 1, 3)
    assert bound == [[1, 4]]  # a whole core
    names = ("CUDA_VISIBLE_DEVICES", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE")
    assert [os.environ[name] for name in names] == ["1", "2", "2000"]
    assert "SRUN_CPUS_PER_TASK" not in os.environ


def test_what_was_said_of_a_tasks_cpus_holds_though_the_job_has_more(bound: list[list[int]]) -> None:
    os.environ["SRUN_CPUS_PER_TASK"] = "6"
    enter(Node(6, GB, ()), Needs(cpus=1), 0, 2)
    assert bound == [[0, 3, 1]]
    assert os.environ["SLURM_CPUS_PER_TASK"] == os.environ["SRUN_CPUS_PER_TASK"] == "1"


@pytest.mark.parametrize("cpus", [4, 8])
def test_where_slurm_does_not_confine_jobs_nothing_is_bound(bound: list[list[int]], cpus: int) -> None:
    enter(Node(cpus, GB, ()), Needs(), 0, 2)
    del os.environ["SLURM_JOB_ID"]
    enter(Node(6, GB, ()), Needs(), 0, 2)
    assert bound == []


def test_gpus_that_no_variable_shows_are_divided_if_tasks_need_them(bound: list[list[int]]) -> None:
    del os.environ["CUDA_VISIBLE_DEVICES"]
    enter(NODE, Needs(), 1, 2)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    enter(NODE, Needs(gpus=2), 1, 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert len(bound) == 0
