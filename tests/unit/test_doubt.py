"""A worker's first tasks: what may be the node's doing is handed back, and the worker leaves the node to others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nornir_pools import message
from nornir_pools.cluster.child import Report
from nornir_pools.cluster.context import ContextReader
from nornir_pools.cluster.doubt import BadNodeError, Doubt
from nornir_pools.cluster.shared import SharedStore
from nornir_pools.cluster.spool import Spool, task_name

from .. import functions
from ..conftest import until

WORKER = "from nornir_pools.cluster import worker; worker.main()"
# The tasks are taken in order, and the claim of the second succeeds though the worker is told that it does not.
LOSES_RACES = """
import random
from nornir_pools.cluster.spool import Spool
claim = Spool.claim
random.shuffle = lambda tasks: tasks.sort(reverse=True)
Spool.claim = lambda self, group, shard, task, worker: claim(self, group, shard, task, worker) and task == "0000001.0"
"""


class Run:
    """A run without a pool: tasks are published here, and a worker, started here, takes them."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool.create(path)
        python = "{}.{}".format(*sys.version_info)
        self.spool.describe({"executor": "slurm", "num_threads": 1, "python": python, "environment": {}})
        self._context = SharedStore(self.spool, "pool").put(ContextReader(os.environ).read())
        self._count = 0

    def add(self, func: Callable[..., Any], *args: Any) -> str:
        self._count += 1
        name = task_name(self._count)
        header = {"name": name, "context": self._context}
        self.spool.publish(0, name, message.pack(header, message.dump((func, args, {}))))
        return name

    def start(self, *options: str, node: str = "n1", before: str = "") -> subprocess.Popen[bytes]:
        """A worker of job 5 on a node; `before`: what its program does first."""
        environment = {**os.environ, "SLURM_JOB_ID": "5", "SLURMD_NODENAME": node}
        command = [sys.executable, "-c", f"{before}\n{WORKER}", str(self.spool.path), "--idle", "0.1", *options]
        with (self.spool.path / "jobs" / "5.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def work(self, *options: str, **facts: str) -> None:
        with self.start(*options, **facts) as worker:
            assert worker.wait(40) == 0, self.log

    @property
    def log(self) -> str:
        return (self.spool.path / "jobs" / "5.log").read_text()

    @property
    def outcomes(self) -> list[str]:
        return sorted(name for name in self.spool.names("inbox") if not name.startswith("+"))

    @property
    def words(self) -> list[dict[str, Any]]:
        """What the worker has said, in order."""
        names = sorted(
            (name for name in self.spool.names("inbox") if name.startswith("+")), key=lambda name: name.split(".")[1]
        )
        return [{"word": name.rpartition(".")[2], **json.loads(self.spool.read(f"inbox/{name}"))} for name in names]

    @property
    def farewells(self) -> list[tuple[str, list[str] | None]]:
        return [(word["reason"], word.get("handed_back")) for word in self.words if word["word"] == "left"]

    @property
    def claims(self) -> list[str]:
        return self.spool.claims("5-r0")

    @property
    def waiting(self) -> list[str]:
        return [task for _, tasks in self.spool.offers(0)[0] for task in tasks]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run")
    yield made
    made.spool.close()


def miss(_: int = 0) -> None:
    raise ImportError("nonesuch")


def miss_unless(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        raise ImportError("nonesuch")
    return "ran"


def miss_then_wait(mark: str) -> None:
    """The first fails; the second waits for its end."""
    miss_unless(mark)
    Path(mark + ".second").touch()
    time.sleep(60)


def test_two_such_failures_are_handed_back_and_the_worker_leaves(run: Run) -> None:
    tasks = [run.add(miss) for _ in range(10)]
    run.work()
    ((reason, handed_back),) = run.farewells
    assert reason == "bad_node"
    assert handed_back is not None
    assert len(handed_back) == 2
    assert run.outcomes == [f"{task}.5-r0~" for task in handed_back]
    assert run.claims == handed_back
    assert sorted(run.waiting + handed_back) == tasks
    facts, _ = message.unpack(run.spool.read(f"inbox/{run.outcomes[0]}"))
    assert (facts["environment"], facts["node"], facts["error"]) == (True, "n1", "ImportError: nonesuch")


def test_a_second_task_that_runs_makes_the_first_an_ordinary_failure(run: Run, tmp_path: Path) -> None:
    tasks = [run.add(miss_unless, str(tmp_path / "mark")) for _ in range(3)]
    run.work()
    assert run.outcomes == [f"{task}.5-r0" for task in tasks]
    assert run.claims == []
    assert run.farewells == [("idle", None)]


def test_a_single_failure_leaves_the_pool_in_doubt_and_the_worker_stays(run: Run) -> None:
    task = run.add(miss)
    run.work()
    assert run.outcomes == [f"{task}.5-r0?"]
    assert run.claims == [task]
    assert run.farewells == [("idle", None)]


def test_a_later_second_failure_speaks_against_the_node_too(run: Run) -> None:
    first = run.add(miss)
    with run.start("--idle", "30") as worker:
        until(lambda: f"{first}.5-r0?" in run.outcomes, "the first is not handed back", 30)
        second = run.add(miss)
        assert worker.wait(30) == 0
    assert run.outcomes == [f"{first}.5-r0?", f"{second}.5-r0~"]
    assert run.farewells == [("bad_node", [first, second])]


def test_one_failure_is_enough_for_a_worker_with_one_task(run: Run) -> None:
    tasks = [run.add(miss) for _ in range(2)]
    run.work("--one")
    ((reason, handed_back),) = run.farewells
    assert reason == "bad_node"
    assert handed_back == run.claims == list(set(tasks) - set(run.waiting))
    assert run.outcomes == [f"{handed_back[0]}.5-r0~"]


def test_without_another_node_every_failure_is_the_tasks_own(run: Run) -> None:
    tasks = [run.add(miss) for _ in range(4)]
    run.work(node="")
    assert run.outcomes == [f"{task}.5-r0" for task in tasks]
    run.add(miss)
    run.work("--job", "L1")  # a worker of this machine, though the script runs inside a job
    assert run.outcomes[-1].endswith(".L1-r0")


def test_failures_of_other_kinds_are_published_at_once(run: Run) -> None:
    tasks = [run.add(functions.fail) for _ in range(4)]
    run.work()
    assert run.outcomes == [f"{task}.5-r0" for task in tasks]


def test_a_worker_leaves_a_node_that_is_to_be_avoided_without_touching_a_task(run: Run) -> None:
    task = run.add(functions.add, 1)
    run.spool.tell_workers(0, "avoid.n1")
    run.work()
    assert (run.outcomes, run.claims, run.waiting) == ([], [], [task])
    assert run.farewells == [("avoided", [])]
    run.work(node="n2")
    assert len(run.outcomes) == 1


def test_a_worker_that_has_shown_its_node_to_be_good_stays(run: Run) -> None:
    first = run.add(functions.add, 1)
    with run.start("--idle", "3") as worker:
        until(lambda: run.outcomes == [f"{first}.5-r0"], "the first does not run", 30)
        run.spool.tell_workers(0, "avoid.n1")
        second = run.add(functions.add, 1)
        assert worker.wait(30) == 0
    assert run.outcomes == [f"{first}.5-r0", f"{second}.5-r0"]


def test_an_end_of_the_job_leaves_the_first_in_doubt_and_the_second_claimed(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        run.add(miss_then_wait, str(tmp_path / "mark"))
    with run.start() as worker:
        until((tmp_path / "mark.second").exists, "the second does not run", 30)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    assert [name[-1] for name in run.outcomes] == ["?"]
    assert len(run.claims) == 2
    assert run.farewells == [("interrupted", None)]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("from nornir_pools.cluster import child; child.use_store = None", "TypeError: 'NoneType' object is not callable"),
        ("import os; from nornir_pools.cluster import child; child.use_store = lambda _: os._exit(3)", ""),
        (
            "import os\ndef fork():\n raise BlockingIOError(11, 'too many')\nos.fork = fork",
            "no process can be started for tasks",
        ),
    ],
)
def test_a_task_that_no_process_can_take_is_given_back_uncharged(run: Run, fault: str, told: str) -> None:
    tasks = [run.add(functions.add, 1) for _ in range(3)]
    run.work(before=fault)
    assert (run.outcomes, run.claims, run.waiting) == ([], [], tasks)
    assert run.farewells == [("bad_node", [])]
    assert told in run.log


def test_a_claim_that_stands_for_an_ended_task_is_not_taken_for_a_new_one(run: Run) -> None:
    """After a lost race a worker looks among its claims for a task that is its own though the rename said otherwise."""
    first, second = run.add(miss), run.add(functions.add, 1)
    run.work(before=LOSES_RACES)
    assert run.outcomes == [f"{first}.5-r0", f"{second}.5-r0"]


def test_what_was_handed_back_before_stays_so_when_the_node_turns_out_good(run: Run) -> None:
    doubt = Doubt(run.spool, "w", "n1", one_task=False)
    run.spool.make_folder("claimed/w")
    assert not doubt.deliver("0000001.0", Report(run.spool.draft("inbox", [b"x"], "w"), environment=True))
    doubt.hand_back(sure=False)
    assert doubt.deliver("0000002.0", Report(run.spool.draft("inbox", [b"x"], "w"), environment=False))
    assert run.outcomes == ["0000001.0.w?", "0000002.0.w"]
    assert doubt.deliver("0000003.0", Report(run.spool.draft("inbox", [b"x"], "w"), environment=True))
    doubt.heed({"avoid.n1"})


def test_only_the_own_node_is_left(run: Run) -> None:
    doubt = Doubt(run.spool, "w", "n1", one_task=False)
    doubt.heed({"avoid.n10", "stop"})
    with pytest.raises(BadNodeError, match="avoided"):
        doubt.heed({"avoid.n1"})


LATE = """
import os
from nornir_pools.cluster.spool import Spool
say = Spool.say
def late(self, worker, number, word, facts):
    say(self, worker, number, word, facts)
    if word == "left" and os.path.exists({aside!r}):
        os.rename({aside!r}, {place!r})
Spool.say = late
"""


def test_a_task_that_is_published_while_the_worker_leaves_is_its_own(run: Run) -> None:
    name = run.add(abs, -1)
    place, aside = run.spool.path / "todo/0/0000" / name, run.spool.path / "aside"
    place.rename(aside)
    run.work(before=LATE.format(aside=str(aside), place=str(place)))
    assert run.outcomes == [f"{name}.5-r0"]
    assert [word["word"] for word in run.words] == ["up", "left", "up", "left"]
