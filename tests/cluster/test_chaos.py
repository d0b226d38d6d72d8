"""Chaos: jobs are cancelled, workers, tasks and daemons killed, nodes taken away, at random, while tasks run.

NORNIR_TEST_CHAOS_SECONDS sets for how long, NORNIR_TEST_CHAOS_SEED what happens when.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .conftest import usable_nodes

SECONDS = float(os.environ.get("NORNIR_TEST_CHAOS_SECONDS", "110"))
SEED = int(os.environ.get("NORNIR_TEST_CHAOS_SEED", random.randrange(10**6)))
LENGTHS = [0, 0, 0, 0.1, 0.5, 2, 6]  # seconds
# What may become of a task whose job, process or nodes are taken away more often than it is tried again. Else it is wrong.
RIGHT_ERRORS = (pools.JobCancelledError, pools.WorkerDiedError, pools.NodeFailedError)
# Seconds from one such blow to the next, on average.
BLOWS = {
    "cancel": 12,
    "cancel an array": 110,
    "kill worker": 25,
    "kill task": 30,
    "restart controller": 100,
    "kill slurmd": 130,
    "node down": 110,
    "drain node": 100,
}


def work(ledger: str, number: int, seconds: float) -> int:
    """Take a while, then write one line: how often a task has run to success."""
    time.sleep(seconds)
    functions.append_line(ledger, number)
    return number * number


def workers() -> list[psutil.Process]:
    """The supervisors that run now; their children run the tasks."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "cluster import worker" in (words := " ".join(process.info["cmdline"] or ())) and "/chaos-" in words
    ]
    parents = {process.pid for process in found}
    return [process for process in found if process.ppid() not in parents]


class Chaos:
    """Strikes at a pool's jobs, in a thread of its own."""

    def __init__(self, slurm: Slurm) -> None:
        self.slurm = slurm
        self.rng = random.Random(SEED)
        self.done: Counter[str] = Counter()
        plan = [name for name, period in BLOWS.items() for _ in range(max(1, round(SECONDS / period)))]
        self.plan = sorted((self.rng.uniform(0, SECONDS), name) for name in plan)
        self.thread = threading.Thread(target=self.strike, name="chaos")

    def strike(self) -> None:
        start = time.monotonic()
        for moment, name in self.plan:
            time.sleep(max(0.0, start + moment - time.monotonic()))
            for _ in range(100):  # what is aimed at may end by itself, or not have begun
                with contextlib.suppress(psutil.Error, subprocess.CalledProcessError, IndexError):
                    getattr(self, name.replace(" ", "_"))()
                    self.done[name] += 1
                    break
                time.sleep(0.1)

    def node(self) -> str:
        return self.rng.choice(self.slurm.run("squeue", "-h", "-t", "running", "-o", "%N").split())

    def cancel(self) -> None:
        self.slurm.run("scancel", self.rng.choice(self.slurm.jobs("-t", "running")))

    def cancel_an_array(self) -> None:
        self.slurm.run("scancel", self.rng.choice(self.slurm.jobs("-t", "running")).partition("_")[0])

    def kill_worker(self) -> None:
        self.rng.choice(workers()).kill()

    def kill_task(self) -> None:
        self.rng.choice(self.rng.choice(workers()).children()).kill()

    def restart_controller(self) -> None:
        self.slurm.daemon(self.rng.choice(["stop", "kill"]), "slurmctld")
        time.sleep(self.rng.uniform(0, 10))
        self.slurm.daemon("start", "slurmctld")

    def kill_slurmd(self) -> None:
        node = self.node()
        self.slurm.daemon("kill", "slurmd", node)
        time.sleep(self.rng.uniform(0, 10))
        self.slurm.daemon("start", "slurmd", node)

    def node_down(self) -> None:
        self._set_state("down")

    def drain_node(self) -> None:
        self._set_state("drain")

    def _set_state(self, state: str) -> None:
        node = self.node()
        self.slurm.run("scontrol", "update", f"nodename={node}", f"state={state}", "reason=chaos")
        try:
            time.sleep(self.rng.uniform(1, 6))
        finally:
            until(lambda: self._is_resumed(node), f"{node} stays {state}", 30)

    def _is_resumed(self, node: str) -> bool:
        if node not in usable_nodes(self.slurm):
            with contextlib.suppress(subprocess.CalledProcessError):  # it has come back by itself, or cannot yet
                self.slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
        return node in usable_nodes(self.slurm)


def added_tasks(pool: ClusterPool, ledger: Path, chaos: Chaos) -> Iterator[pools.Task]:
    """Keep two dozen tasks under way as long as the chaos lasts."""
    rng = random.Random(SEED)
    number = 0
    while chaos.thread.is_alive():
        while pool.num_active_tasks < 24:
            yield pool.submit(work, str(ledger), number, rng.choice(LENGTHS))
            number += 1
        time.sleep(0.05)


def tries(run: Path) -> Counter[int]:
    """How often the journal says that a task was tried again, by its number in the run."""
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return Counter(entry["n"] for entry in entries if entry["t"] == "again")


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(int(SECONDS) + 240)
def test_every_task_has_its_value_or_the_right_error(
    cluster: Callable[..., ClusterPool], lab: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    pool = cluster(8, name="chaos")
    chaos = Chaos(lab)
    chaos.thread.start()
    tasks = list(added_tasks(pool, ledger, chaos))
    chaos.thread.join()
    until(lambda: all(task.done() for task in tasks), "tasks hang", 150)
    assert pool.folder is not None
    again = tries(pool.folder)
    runs = Counter(map(int, ledger.read_text().split()))
    errors = Counter(type(error).__name__ for task in tasks if (error := task.exception()) is not None)
    with capsys.disabled():
        sys.stderr.write(
            f"\nchaos, {SECONDS:g} s, seed {SEED}: {len(tasks)} tasks, {dict(chaos.done)}, tried again {again.total()}, "
            f"run twice {sum(count > 1 for count in runs.values())}, errors {dict(errors)}\n"
        )
    for number, task in enumerate(tasks):
        error = task.exception()
        if error is None:
            assert task.result() == number * number
            assert runs[number] >= 1
        else:
            assert isinstance(error, RIGHT_ERRORS), repr(error)
        assert runs[number] <= 1 + again[number + 1], f"task {number} ran {runs[number]} times"
    assert len(tasks) > SECONDS
    pool.shutdown()
    assert {path.name for path in pool.folder.iterdir()} <= {"run.json", "journal.jsonl", "jobs", "failed", "shared"}
