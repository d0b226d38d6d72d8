"""Workers that keep step with the script."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_pools.cluster import pace, signals
from nornir_pools.cluster.spool import Spool


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(signals.signals, "sleep", time.sleep)  # as in a worker, but that SIGTERM need not end it
    with contextlib.closing(Spool.create(tmp_path / "run")) as made:
        yield made


def deliver(spool: Spool, count: int) -> list[Path]:
    paths = [spool.path / "inbox" / f"{number}.0.w-r0" for number in range(count)]
    for path in paths:
        path.touch()
    return paths


def seconds_of(worker: pace.Pace, workers: int, count: int) -> float:
    begun = time.monotonic()
    for _ in range(count):
        worker.keep(workers)
    return time.monotonic() - begun


def test_a_worker_waits_while_the_script_is_far_behind_and_reads(spool: Spool) -> None:
    paths = deliver(spool, 700)

    def read() -> None:
        for path in paths[:300]:
            time.sleep(0.001)
            path.unlink()

    script = threading.Thread(target=read)
    script.start()
    seconds_of(pace.Pace(spool), 256, 1)
    left = len(spool.names("inbox"))
    script.join()
    assert 400 <= left <= 500


def test_a_script_that_does_not_read_is_not_waited_for_again_and_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_UNREAD", 0.1)
    deliver(spool, 700)
    worker = pace.Pace(spool)
    assert seconds_of(worker, 256, 1) >= 0.1
    assert seconds_of(worker, 256, 20) < 0.1


def test_workers_look_together_every_few_hundred_outcomes_and_not_at_all_if_tasks_are_long(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(spool, "names", lambda name: looks.append(name) or [])  # type: ignore[func-returns-value]
    worker = pace.Pace(spool)
    worker._looked = time.monotonic() - 10.0
    seconds_of(worker, 64, 4)
    assert not looks  # 256 outcomes in ten seconds
    seconds_of(worker, 64, 8)
    assert looks == ["inbox", "inbox"]
    seconds_of(pace.Pace(spool), 1, 255)
    assert len(looks) == 2
