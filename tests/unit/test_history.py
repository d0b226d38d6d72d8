"""What the journal tells of a run whose script was run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_pools import message
from nornir_pools.cluster import folder
from nornir_pools.cluster.history import latest, read_history
from nornir_pools.cluster.reading import view_run
from nornir_pools.cluster.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.create(tmp_path / "run")
    for number, key in ((1, "a"), (2, "a"), (3, "b")):
        made.note(t="task", n=number, name="x", group=0, key=key)
    yield made
    made.close()


def test_a_task_that_was_run_instead_of_another_has_its_place_unless_it_is_another_call(spool: Spool) -> None:
    spool.note(t="task", n=4, name="x", group=0, key="a", instead=1, why="it had failed")
    spool.note(t="task", n=5, name="x", group=0, key="c", instead=3)
    spool.note(t="task", n=6, name="x", group=0, key="a", instead=4)
    tasks = read_history(spool).tasks
    assert [number for number, task in tasks.items() if task.superseded] == [1, 3, 4]
    assert {number: task.place for number, task in tasks.items() if not task.superseded} == {2: 2, 5: 5, 6: 1}
    assert tasks[4].why == "it had failed"


def test_a_run_that_was_closed_is_open_again_once_it_was_resumed(spool: Spool) -> None:
    spool.note(t="sending", name="s", group=0, count=1)
    spool.note(t="closed")
    history = read_history(spool)
    assert (history.closed, history.sendings["s"].answered) == (True, True)
    spool.note(t="resumed")
    assert not read_history(spool).closed


def test_outcomes_stay_in_a_closed_run_if_it_may_be_resumed(spool: Spool) -> None:
    place = spool.keep("0000001.0.worker", b"outcome")
    spool.keep_results = True
    spool.discard(keep_logs=())
    assert sorted(spool.names(".")) == ["journal.jsonl", "packs"]
    for word in ("stop", "avoid.n1", "crowd.16", "quit.w-r0", "longest.60"):
        spool.tell_workers(0, word)
    spool.resume()
    assert bytes(spool.kept(place)) == b"outcome"
    assert {"todo", "claimed", "inbox", "packs", "jobs", "shared"} <= set(spool.names("."))
    assert spool.names("todo/0") == []  # nobody would ever take back what the process before has said


def test_a_workers_words_count_in_the_order_in_which_they_were_said(spool: Spool) -> None:
    spool.describe({"pool": "p", "executor": "slurm", "host": "h", "started": 1.0, "format": 1})
    spool.note(t="group", n=0, options={"job": {}})
    facts = {"job": "7_0", "worker": "7_0-r0", "host": "n1", "node": "n1", "group": 0, "pid": 1, "born": "1", "reason": "idle"}
    spool.say("7_0-r0", 9, "idle", facts)
    spool.say("8_0-r0", 1, "up", {**facts, "job": "8_0", "worker": "8_0-r0", "group": 3})  # by hand, for no group
    assert [(job.id, job.state) for job in view_run(spool.path).jobs] == [("7_0", "idle")]
    spool.say("7_0-r0", 10, "left", facts)
    assert not view_run(spool.path).jobs


def test_the_last_of_more_than_ten_tries_is_the_last() -> None:
    assert latest({"0000001.10": "todo/0/0000", "0000001.9": "inbox"}) == {1: ("todo/0/0000", "0000001.10")}


def test_of_a_large_outcome_that_nobody_has_collected_only_the_head_is_read(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.describe({"pool": "p", "executor": "slurm", "host": "h", "started": 1.0})
    spool.note(t="group", n=0, options={"job": {}})
    spool.write("inbox/0000001.0.w", message.pack({"ok": True, "job": "7_0"}, [bytes(1_000_000)]), "w")
    spool.write("inbox/0000002.0.w", message.pack({"ok": False, "error": "E" * 100_000}, [bytes(10)]), "w")
    taken: list[int] = []

    def read(fd: int, start: int, size: int | None, most: int | None = None) -> bytearray:
        data = real(fd, start, size, most)
        taken.append(len(data))
        return data

    real = folder.read_part
    monkeypatch.setattr(folder, "read_part", read)
    assert [task.state for task in view_run(spool.path).tasks] == ["succeeded", "failed", "waiting"]
    assert sum(taken) < 400_000
