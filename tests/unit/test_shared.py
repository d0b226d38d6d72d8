"""Shared values: written once, mapped by whoever needs them."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nornir_pools.cluster import shared
from nornir_pools.cluster.shared import SharedStore, use_store
from nornir_pools.cluster.spool import Spool


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(shared, "_store", None)
    made = Spool.create(tmp_path / "run")
    yield made
    made.close()


def test_equal_bytes_are_written_once(spool: Spool) -> None:
    store = SharedStore(spool, "pool")
    assert store.put(b"ab", b"c") == store.put(b"abc") != store.put(b"abd")
    assert len(spool.names("shared")) == 2
    assert bytes(store.read(store.put(b"abc"))) == b"abc"


def test_memory_that_was_stored_is_compared_and_not_hashed_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedStore(spool, "pool")
    array = np.arange(20_001, dtype=np.uint8)  # not a whole number of words
    view = array.data.cast("B")
    name = store.put_memory(view)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.blake2b", None)
        assert store.put_memory(view) == name
    for place in (0, -1):  # changed by its owner, though tasks cannot
        array[place] += 1
        changed = store.put_memory(view)
        assert changed != name
        assert bytes(store.read(changed)) == array.tobytes()
        name = changed
    del view, array
    assert not store._owners
    assert store.put_memory(memoryview(b"abc")) == store.put(b"abc")


def test_a_huge_value_is_told_with_its_size_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared, "_HUGE", 100_000_000)
    store = SharedStore(spool, "pool")
    for _ in range(2):
        store.argument(bytes(100_000_000))
    (record,) = caplog.records
    assert record.getMessage() == "run run: a value of 0.1 GB is written to the run's folder, once for all tasks that use it"


def test_threads_that_store_the_same_write_it_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SharedStore(spool, "pool")
    written: list[str] = []
    write = spool.write

    def note(name: str, parts: Any, who: str) -> None:
        written.append(name)
        write(name, parts, who)

    monkeypatch.setattr(spool, "write", note)
    threads = [threading.Thread(target=store.put, args=(b"abc",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1


def test_task_gets_the_value_of_the_moment_it_was_shared(spool: Spool) -> None:
    array = np.arange(100_000)
    stand_in = SharedStore(spool, "pool").share({"array": array})
    array[:] = 0
    sent = pickle.dumps(stand_in)
    assert len(sent) < 500
    use_store(SharedStore(spool, "worker"))
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert first is second
    assert (first["array"] == np.arange(100_000)).all()
    assert not first["array"].flags.writeable


def test_value_read_outside_of_a_task_says_what_is_wrong(spool: Spool) -> None:
    stand_in = SharedStore(spool, "pool").share([1])
    assert repr(stand_in) == f"<shared list {stand_in.digest[:8]}>"
    with pytest.raises(RuntimeError, match="in the tasks of the cluster pool that made it"):
        pickle.loads(pickle.dumps(stand_in))


def test_large_bytes_are_shared_unasked_and_all_else_is_left(spool: Spool) -> None:
    store = SharedStore(spool, "pool")
    small, large = b"x" * 1000, b"x" * 100_000
    assert store.argument(small) is small
    value = bytearray(large)
    assert store.argument(value) is value
    stand_in = store.argument(large)
    use_store(SharedStore(spool, "worker"))
    assert pickle.loads(pickle.dumps(stand_in)) == large


def test_value_that_cannot_be_sent_is_refused_and_leaves_nothing(spool: Spool) -> None:
    with pytest.raises(TypeError, match="lock"):
        SharedStore(spool, "pool").share(threading.Lock())
    assert spool.names("shared") == []
