"""How workers find their next task: in turn, in small shares, and without looking too often."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nornir_pools.cluster.offers import Offers
from nornir_pools.cluster.signals import Signals
from nornir_pools.cluster.spool import Spool, task_name


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.create(tmp_path / "run")
    yield made
    made.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in seconds, though they took no time."""
    made: list[float] = []
    monkeypatch.setattr(Signals, "sleep", lambda self, seconds: made.append(seconds))
    return made


class Looks:
    """Counts how often a spool is listed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = Spool.offers

        def offers(spool: Spool, group: int) -> object:
            self.count += 1
            return real(spool, group)

        monkeypatch.setattr(Spool, "offers", offers)


def worker(spool: Spool, name: str = "w") -> Offers:
    spool.make_folder(f"claimed/{name}")
    return Offers(spool, 0, name, lambda words: None)


def publish(spool: Spool, *numbers: int) -> None:
    for number in numbers:
        spool.publish(0, task_name(number), [b"x"])


@pytest.mark.usefixtures("pauses")
def test_a_worker_alone_looks_once_for_many_tasks(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(spool, *range(1, 51))
    looks, alone = Looks(monkeypatch), worker(spool)
    assert {alone.claim(()) for _ in range(50)} == {task_name(number) for number in range(1, 51)}
    assert looks.count == 1
    assert alone.claim(()) is None


@pytest.mark.usefixtures("pauses")
def test_one_of_many_tries_its_share_only(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(spool, *range(1, 41))
    spool.tell_workers(0, "crowd.4")
    one = worker(spool)
    one.claim(())  # before it knows how many they are
    one._seen.clear()
    looks = Looks(monkeypatch)
    assert all(one.claim(()) for _ in range(10))
    assert looks.count == 1
    assert one.claim(())
    assert looks.count == 2


@pytest.mark.usefixtures("pauses")
def test_workers_that_look_together_lose_fewer_claims_than_they_win(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.tell_workers(0, "crowd.16")
    workers = [worker(spool, f"w{number}") for number in range(16)]
    assert not any(each.claim(()) for each in workers)
    publish(spool, *range(1, 1001))
    tries: list[bool] = []
    real = Spool.claim

    def claim(self: Spool, group: int, shard: str, task: str, name: str) -> bool:
        tries.append(real(self, group, shard, task, name))
        return tries[-1]

    monkeypatch.setattr(Spool, "claim", claim)
    while sum(tries) < 500:  # half of what waits
        for each in workers:
            assert each.claim(())
    assert tries.count(False) < 500


@pytest.mark.usefixtures("pauses")
def test_a_look_goes_on_to_the_next_shard_where_one_has_few_tasks(spool: Spool) -> None:
    publish(spool, 999, *range(1000, 1100))
    spool.tell_workers(0, "crowd.4")
    one = worker(spool)
    one.claim(())
    one._seen.clear()
    one.claim(())
    assert len(one._seen) >= 20


def test_the_more_workers_there_are_the_less_often_each_looks(spool: Spool, pauses: list[float]) -> None:
    one = worker(spool)
    one.claim(())
    assert not pauses
    spool.tell_workers(0, "crowd.64")
    time.sleep(0.002)
    one.claim(())
    assert not pauses  # it has not looked for long
    one.claim(())
    assert 0.02 < pauses.pop() < 0.1


def test_the_largest_number_that_the_pool_has_told_counts(spool: Spool) -> None:
    for word in ("longest.3", "longest.12", "stop"):
        spool.tell_workers(0, word)
    one = worker(spool)
    one.claim(())
    assert one.number("longest", 0.0) == 12
    assert one.number("crowd", 1) == 1
    assert "stop" in one.words
