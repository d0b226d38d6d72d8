"""How often, and with what, a task is tried again that its job took down."""

from __future__ import annotations

from typing import Any

import pytest

from nornir_pools import errors
from nornir_pools.cluster.retries import cause_of, next_options
from nornir_pools.options import RETRY_CAUSES, Options


def tries(cause: str, **options: Any) -> int:
    given = Options.of(options)
    count = 0
    while count < 50 and next_options(given, cause, count) is not None:
        count += 1
    return count


def test_what_is_not_the_tasks_fault_is_tried_again() -> None:
    counts = {cause: tries(cause) for cause in RETRY_CAUSES}
    assert counts == {
        "preempted": 10,
        "lost": 2,
        "node_failed": 2,
        "worker_died": 1,
        **dict.fromkeys(("cancelled", "oom", "task_timeout", "timeout"), 0),
    }


def test_a_number_is_for_all_that_is_not_the_tasks_fault() -> None:
    assert [tries(cause, retries=3) for cause in ("preempted", "lost", "worker_died", "oom", "cancelled")] == [3, 3, 3, 0, 0]
    assert tries("preempted", retries=0) == 0


def test_a_mapping_is_for_the_causes_it_names() -> None:
    retries = {"worker_died": 5, "timeout": 1, "task_timeout": 2}
    causes = ("worker_died", "timeout", "task_timeout", "preempted")
    assert [tries(cause, retries=retries) for cause in causes] == [5, 1, 2, 10]


@pytest.mark.parametrize("rule", ["mem_gb*2<=64", " mem_gb * 2 <= 64"])
def test_out_of_memory_is_tried_again_with_more_up_to_the_limit(rule: str) -> None:
    options: Options | None = Options.of({"mem_gb": 10, "cpus_per_task": 2, "retries": {"oom": rule}})
    sizes = []
    while options is not None:
        sizes.append(options.job["mem_gb"])
        assert options.job["cpus_per_task"] == 2
        options = next_options(options, "oom", len(sizes) - 1)
    assert sizes == [10, 20, 40]
    assert next_options(Options.of({"retries": {"oom": rule}}), "oom", 0) is None  # nothing was asked for


@pytest.mark.parametrize("retries", [-1, 1.5, True, {"out of memory": 1}, {"oom": "mem_gb+2"}, {"oom": -1}, "many"])
def test_a_wrong_rule_is_refused(retries: object) -> None:
    with pytest.raises(errors.OptionError, match="'retries'"):
        Options.of({"retries": retries})


def test_every_end_of_a_job_has_a_cause() -> None:
    kinds = [*errors.JobError.__subclasses__(), errors.WorkerDiedError, errors.TaskTimeoutError]
    assert {cause_of(kind("x")) for kind in kinds} == set(RETRY_CAUSES)
