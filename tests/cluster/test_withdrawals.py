"""Taking out of the queue what has not started: some elements of an array, all of them, and none that runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from nornir_pools.cluster import polling
from nornir_pools.cluster import slurm as commands
from nornir_pools.cluster.slurm import SlurmError
from nornir_pools.cluster.withdrawals import cancel_pending

from ..conftest import until
from ..lab import Slurm

pytestmark = pytest.mark.slurm
Send = Callable[..., str]


@pytest.fixture
def send(slurm: Slurm) -> Iterator[Send]:
    """Sends an array of six jobs; returns its id."""
    sent: list[str] = []

    def submit(*options: str) -> str:
        command = ["sbatch", "--parsable", "--output=/dev/null", "--time=5", "--mem=50M", *options, "--wrap", "sleep 100"]
        sent.append(slurm.run(*command).strip())
        return sent[-1]

    yield submit
    subprocess.run(["scancel", *sent], env=slurm.environment(), check=True)
    until(lambda: not slurm.jobs(), "jobs are left", 30)


def elements(slurm: Slurm, array: str, state: str = "PENDING") -> set[int]:
    return {int(job.partition("_")[2]) for job in slurm.jobs("-j", array, "-t", state)}


@pytest.mark.parametrize(("named", "left"), [((2, 4), {0, 1, 3, 5}), (range(6), set()), ((0, 1, 2, 3, 4), {5})])
def test_those_named_are_cancelled_and_the_others_stay(slurm: Slurm, send: Send, named: range, left: set[int]) -> None:
    array = send("--hold", "--array=0-5")
    other = send("--hold", "--array=0-1")
    cancel_pending([f"{array}_{number}" for number in named], slurm.environment())
    until(lambda: elements(slurm, array) == left, f"what is left is not {left}")
    assert elements(slurm, other) == {0, 1}


@pytest.mark.parametrize("known", [True, False])
def test_slurm_is_not_asked_again_for_what_it_has_just_said(
    slurm: Slurm, send: Send, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    environment, real = slurm.environment(), commands.states
    asked: list[float] = []

    def states(environment: Mapping[str, str]) -> dict[str, str]:
        asked.append(time.monotonic())
        return real(environment)

    polling.ask(environment)
    array = send("--hold", "--array=0-1")
    if known:
        polling.ask(environment)
    monkeypatch.setattr(commands, "states", states)
    cancel_pending([f"{array}_0", f"{array}_1"], environment)
    assert len(asked) == (0 if known else 1)
    until(lambda: not elements(slurm, array), "they are not cancelled")


def test_what_runs_is_left_alone(slurm: Slurm, send: Send, tmp_path: Path) -> None:
    array = send("--array=0-5%2")
    until(lambda: len(elements(slurm, array, "RUNNING")) == 2, "two do not run", 30)
    running = elements(slurm, array, "RUNNING")
    cancel_pending([f"{array}_{number}" for number in (*running, 4)], slurm.environment())
    until(lambda: 4 not in elements(slurm, array), "it is not cancelled")
    assert elements(slurm, array, "RUNNING") == running
    assert elements(slurm, array) == {0, 1, 2, 3, 5} - running


def test_what_cannot_be_cancelled_is_not_held(slurm: Slurm, send: Send, tmp_path: Path) -> None:
    (tmp_path / "scancel").write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    (tmp_path / "scancel").chmod(0o755)
    array = send("--begin=now+1hour", "--array=0-2")
    environment = slurm.environment()
    with pytest.raises(SlurmError, match="not today"):
        cancel_pending([f"{array}_1"], {**environment, "PATH": f"{tmp_path}:{environment['PATH']}"})
    priorities = slurm.run("squeue", "-h", "-r", "-j", array, "-o", "%Q").split()
    assert len(priorities) == 3
    assert "0" not in priorities  # as the held have it
