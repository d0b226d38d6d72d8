"""Whole nodes that single tasks have for themselves: it is said once, if it is so."""

from __future__ import annotations

import logging

import pytest

from nornir_pools.cluster.idle_cpus import IdleCpus
from nornir_pools.cluster.jobs import Group
from nornir_pools.options import Options


def told(
    caplog: pytest.LogCaptureFixture, asked: int, given: float, used: float, *, seen: int = 0, seconds: float = 25.0
) -> str:
    """What is said when eight tasks have run so long each, and `used` so many of the CPUs that they were given."""
    caplog.clear()
    group = Group(0, Options.of({"cpus_per_task": asked}), set_aside=given, seen=seen)
    idle = IdleCpus("p")
    with caplog.at_level(logging.WARNING):
        for number in range(8):
            idle.note(group, {"started": 100.0 * number, "finished": 100.0 * number + seconds, "cpu": used * seconds})
    return " | ".join(record.getMessage() for record in caplog.records)


def test_it_is_said_once_how_many_cpus_are_idle_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    said = told(caplog, asked=1, given=64.0, used=1.2)
    assert said.startswith("pool 'p': SLURM has set aside 64 CPUs for a job that asks for 1, and tasks have used 1.2 of them")
    assert said.count('tasks_at_once="auto"') == 1


def test_nothing_is_said_if_they_are_used_or_were_asked_for_or_shared_or_if_it_is_too_early(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not told(caplog, asked=1, given=64.0, used=17.0)
    assert not told(caplog, asked=32, given=64.0, used=1.0)
    assert not told(caplog, asked=1, given=2.0, used=0.1)  # a core with two CPUs
    assert not told(caplog, asked=1, given=0.0, used=0.1)  # there is no scheduler
    assert not told(caplog, asked=1, given=32.0, used=1.0, seen=2)  # whoever asked for two at once knows of it
    assert not told(caplog, asked=1, given=64.0, used=1.0, seconds=7.0)


def test_tasks_whose_processes_have_died_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    group = Group(0, Options(), set_aside=8.0)
    IdleCpus("p").note(group, {"started": 0.0, "finished": 1000.0})
    assert not caplog.records
