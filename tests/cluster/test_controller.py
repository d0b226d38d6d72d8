"""A controller that is away for a while: tasks and jobs are neither lost nor doubled, and it is said once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from nornir_pools.cluster.pool import ClusterPool

from ..conftest import until
from ..lab import Slurm

pytestmark = pytest.mark.slurm
Make = Callable[..., ClusterPool]
LENGTHS = [
    pytest.param(10, marks=pytest.mark.timeout(200)),
    pytest.param(60, marks=[pytest.mark.timeout(300), pytest.mark.long]),
]


def note(ledger: str, number: int, seconds: float) -> int:
    """Write a line when begun, take a while."""
    with open(ledger, "a") as file:
        file.write(f"{number}\n")
    time.sleep(seconds)
    return number * number


def runs(ledger: Path) -> Counter[int]:
    return Counter(map(int, ledger.read_text().split()))


@pytest.mark.parametrize("seconds", LENGTHS)
def test_jobs_that_are_sent_while_the_controller_is_away_come_once_it_is_back(
    cluster: Make, lab: Slurm, tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: int
) -> None:
    pool = cluster(4)
    ledger = tmp_path / "ledger"
    with caplog.at_level(logging.INFO, "nornir_pools"):
        lab.daemon("stop", "slurmctld")
        begun = time.monotonic()
        tasks = [pool.submit(note, str(ledger), i, 0.2) for i in range(20)]
        assert time.monotonic() - begun < 5
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        assert not any(task.done() for task in tasks)
        lab.daemon("start", "slurmctld")
        assert [task.result(100) for task in tasks] == [i * i for i in range(20)]
    assert runs(ledger) == Counter(range(20))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING and "SLURM did not" in record.message]
    assert len(warnings) <= 1  # sbatch itself waits some seconds for the controller
    assert warnings or seconds < 30


@pytest.mark.parametrize("seconds", LENGTHS)
def test_tasks_go_on_while_the_controller_is_away(
    cluster: Make, lab: Slurm, tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: int
) -> None:
    pool = cluster(4)
    ledger = tmp_path / "ledger"
    tasks = [pool.submit(note, str(ledger), i, seconds / 20) for i in range(40)]
    until(lambda: pool.tasks.qsize() <= 36, "workers do not come", 40)
    lab.daemon("stop", "slurmctld")
    begun = time.monotonic()
    with caplog.at_level(logging.INFO, "nornir_pools"):
        time.sleep(seconds - 2)
        assert sum(task.done() for task in tasks) > 20  # of 80 that there is time for
        tasks += [pool.submit(note, str(ledger), i, 0) for i in range(40, 60)]
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        lab.daemon("start", "slurmctld")
        assert [task.result(100) for task in tasks] == [i * i for i in range(60)]
        time.sleep(12)  # through the next question for the states
    assert runs(ledger) == Counter(range(60))
    assert len([record for record in caplog.records if "does not answer" in record.message]) <= 1
