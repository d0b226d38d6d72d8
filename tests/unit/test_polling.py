"""One question for all pools of a process, with a stand-in for squeue."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_pools.cluster import polling
from nornir_pools.cluster.slurm import SlurmError

from ..conftest import until


class Squeue:
    """A stand-in that answers once the folder "go" is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": f"{folder}:/usr/bin:/bin"}
        self.become(f"while [ ! -d {folder}/go ]; do sleep 0.01; done; echo '7_0|RUNNING|None'")

    def become(self, lines: str) -> None:
        new = self.folder / "new"
        new.write_text(f"#!/bin/sh\necho asked >> {self.folder}/calls\n{lines}\n")
        new.chmod(0o755)
        new.rename(self.folder / "squeue")

    @property
    def calls(self) -> int:
        file = self.folder / "calls"
        return len(file.read_text().split()) if file.exists() else 0


@pytest.fixture
def squeue(tmp_path: Path) -> Iterator[Squeue]:
    yield Squeue(tmp_path)
    polling._questions.clear()


def test_an_answer_serves_those_for_whom_it_is_young_enough(squeue: Squeue) -> None:
    (squeue.folder / "go").mkdir()
    before = time.monotonic()
    first = polling.ask(squeue.environment)
    assert first == {"7_0": "RUNNING"}
    assert before <= first.asked <= time.monotonic()
    again = polling.ask(dict(squeue.environment), 60)
    assert (again, again.asked, squeue.calls) == (first, first.asked, 1)
    again["changed"] = "by who got it"
    assert polling.ask(squeue.environment, 60) == first
    assert polling.ask(squeue.environment).asked > first.asked
    assert squeue.calls == 2


def test_who_comes_while_it_is_being_asked_waits_for_the_answer(squeue: Squeue) -> None:
    answers: list[polling.States] = []
    threads = [threading.Thread(target=lambda: answers.append(polling.ask(squeue.environment, 60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: squeue.calls == 1, "it is not asked")
    (squeue.folder / "go").mkdir()
    for thread in threads:
        thread.join()
    assert len(answers) == 5
    assert (len({answer.asked for answer in answers}), squeue.calls) == (1, 1)


def test_an_answer_to_a_question_that_was_asked_before_is_not_new(squeue: Squeue) -> None:
    first = threading.Thread(target=polling.ask, args=(squeue.environment,))
    first.start()
    until(lambda: squeue.calls == 1, "it is not asked")
    happened = time.monotonic()
    (squeue.folder / "go").mkdir()
    assert polling.ask(squeue.environment).asked >= happened
    first.join()
    assert squeue.calls == 2


def test_a_failure_is_an_answer_as_well(squeue: Squeue) -> None:
    squeue.become("echo 'not today' >&2; exit 1")
    for _ in range(3):
        with pytest.raises(SlurmError, match="not today"):
            polling.ask(squeue.environment, 60)
    assert squeue.calls == 1


@pytest.mark.parametrize("name", ["SLURM_CONF", "SLURM_CLUSTERS", "NORNIR_POOLS_SLURM_BIN"])
def test_another_slurm_is_another_question(squeue: Squeue, name: str) -> None:
    (squeue.folder / "go").mkdir()
    for value in ("", str(squeue.folder)):
        polling.ask({**squeue.environment, name: value}, 60)
    assert squeue.calls == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_asks_for_itself(squeue: Squeue) -> None:
    asking = threading.Thread(target=polling.ask, args=(squeue.environment,))
    asking.start()
    until(lambda: squeue.calls == 1, "it is not asked")
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            (squeue.folder / "go").mkdir()
            os._exit(0 if polling.ask(squeue.environment, 60) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asking.join()
    assert squeue.calls == 2
