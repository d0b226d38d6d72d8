"""Chaos: jobs are cancelled, workers and tasks' processes killed, the controller restarted, at random, while tasks run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from ..conftest import until
from ..lab import Slurm

SECONDS = float(os.environ.get("NORNIR_TEST_CHAOS_SECONDS", "40"))
# What may become of a task whose job or process is taken away; anything else is wrong.
RIGHT_ERRORS = (pools.JobCancelledError, pools.WorkerDiedError)


def work(ledger: str, number: int, seconds: float) -> int:
    """Take a while, then write one line: how often a task has run to success."""
    time.sleep(seconds)
    with open(ledger, "a") as file:
        file.write(f"{number}\n")
    return number * number


def workers() -> list[psutil.Process]:
    """The supervisors that run now; their children run the tasks."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        words = " ".join(process.info["cmdline"] or [])
        if "cluster import worker" in words and "/chaos-" in words:
            found.append(process)
    parents = {process.pid for process in found}
    return [process for process in found if process.ppid() not in parents]


class Chaos:
    """What is done to the pool's jobs, at random."""

    def __init__(self, slurm: Slurm, rng: random.Random) -> None:
        self.slurm = slurm
        self.rng = rng
        self.done: Counter[str] = Counter()

    def strike(self) -> None:
        name = self.rng.choice(["cancel", "cancel", "kill worker", "kill worker", "kill task", "restart controller"])
        try:
            if self._do(name):
                self.done[name] += 1
        except (psutil.Error, subprocess.CalledProcessError, IndexError):
            pass  # what was aimed at has ended by itself

    def _do(self, name: str) -> bool:
        if name == "cancel":
            self.slurm.run("scancel", self.rng.choice(self.slurm.jobs("-t", "running")))
        elif name == "kill worker":
            self.rng.choice(workers()).kill()
        elif name == "kill task":
            self.rng.choice(self.rng.choice(workers()).children()).kill()
        elif not self.done[name]:
            self.slurm.run("scontrol", "reconfigure")
        return True


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(int(SECONDS) + 150)
def test_every_task_has_its_value_or_the_right_error(
    cluster: Callable[..., ClusterPool], slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    ledger = tmp_path / "ledger"
    ledger.touch()
    pool = cluster(6, name="chaos")
    chaos = Chaos(slurm, rng)
    tasks: list[pools.Task] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        while pool.num_active_tasks < 20:
            tasks.append(pool.submit(work, str(ledger), len(tasks), rng.choice([0, 0, 0.1, 0.5, 2])))
        time.sleep(rng.uniform(0.2, 1.5))
        chaos.strike()
    until(lambda: all(task.done() for task in tasks), "tasks hang", 100)
    runs = Counter(map(int, ledger.read_text().split()))
    errors = Counter(type(task.exception()).__name__ for task in tasks if task.exception() is not None)
    with capsys.disabled():
        sys.stderr.write(f"\nchaos, seed {seed}: {len(tasks)} tasks, {dict(chaos.done)}, errors {dict(errors)}\n")
    for number, task in enumerate(tasks):
        error = task.exception()
        if error is None:
            assert task.result() == number * number
            assert runs[number] >= 1
        else:
            assert isinstance(error, RIGHT_ERRORS), repr(error)
        assert runs[number] <= 1 + chaos.done["kill worker"]
    assert errors["JobCancelledError"] <= chaos.done["cancel"]
    assert len(tasks) > 30
