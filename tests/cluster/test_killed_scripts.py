"""A script may be killed at any moment: what `add_task` has acknowledged is there when somebody attaches, and runs once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import nornir_pools as pools

from ..conftest import until

POINTS = int(os.environ.get("NORNIR_TEST_KILL_POINTS", "4"))
ROOT = Path(__file__).resolve().parents[2]


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def kill_a_script(executor: str, place: Path, rng: random.Random) -> None:
    """Start the script and have it killed: at a random step of its own, or at a random time after 20 acknowledgements."""
    step = rng.choice([0, rng.randrange(1, 900)])
    arguments = [executor, str(place / "runs"), str(place / "acknowledged"), str(place / "ledger"), str(step)]
    script = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.killed", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if not step:
            until(lambda: len(lines(place / "acknowledged")) >= 20, "the script adds no tasks", 30)
            time.sleep(rng.uniform(0, 2.0))
        else:
            until(lambda: script.poll() is not None or "done" in lines(place / "acknowledged"), "the script hangs", 45)
    finally:
        script.kill()
        script.wait()


def check_what_is_left(place: Path) -> tuple[int, int]:
    """Attach, wait, and compare; returns how many tasks were acknowledged, and how many of them were not done by then."""
    acknowledged = [int(line) for line in lines(place / "acknowledged") if line != "done"]
    runs = list((place / "runs").glob("killed-*/run.json"))
    if not runs:
        assert not acknowledged
        return 0, 0
    pool = pools.attach(runs[0].parent)
    tasks = {int(task.name): task for task in pool.tasks}
    unfinished = sum(not tasks[number].done() for number in acknowledged)
    assert set(acknowledged) <= set(tasks)
    for number, task in tasks.items():
        error = task.exception(timeout=60)
        if number % 10 == 7:
            assert repr(error) == repr(ValueError(number))
        else:
            assert error is None
            assert task.result() == number * number
    counts = Counter(lines(place / "ledger"))
    assert set(counts.values()) <= {1}, f"run twice: {[number for number, count in counts.items() if count > 1]}"
    assert {int(number) for number in counts} == set(tasks)
    pool.shutdown()
    return len(acknowledged), unfinished


@pytest.mark.timeout(120 + 20 * POINTS)
def test_a_script_that_is_killed_loses_nothing_and_nothing_runs_twice(
    executor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    found = []
    for point in range(POINTS):
        place = tmp_path / str(point)
        place.mkdir()
        kill_a_script(executor, place, rng)
        found.append(check_what_is_left(place))
    half = sum(acknowledged >= 20 and unfinished > 0 for acknowledged, unfinished in found)
    with capsys.disabled():
        sys.stderr.write(
            f"\n{POINTS} scripts killed on {executor}, seed {seed}: {half} of them with 20 tasks acknowledged and some "
            f"unfinished, {sum(a for a, _ in found)} tasks acknowledged and {sum(u for _, u in found)} unfinished in all\n"
        )
