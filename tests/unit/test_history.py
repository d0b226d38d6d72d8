"""What the journal tells of a run whose script was run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_pools.cluster.history import read_history
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
    spool.tell_workers(0, "stop")
    spool.resume()
    assert bytes(spool.kept(place)) == b"outcome"
    assert {"todo", "claimed", "inbox", "packs", "jobs", "shared"} <= set(spool.names("."))
    assert "stop" not in spool.names("todo/0")
