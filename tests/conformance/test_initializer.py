"""The initializer: each worker calls it once, before its first task; one that fails ends the pool, and says why."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions

Make = Callable[..., PoolBase]


def test_every_worker_is_set_up_once_before_its_first_task(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_UP", "before")
    log = tmp_path / "log"
    pool = make(initializer=functions.set_up, initargs=(str(log), "model"))
    assert not log.exists()
    found = [task.wait_return(50) for task in [pool.submit(functions.what_was_set_up) for _ in range(20)]]
    assert {value for value, _ in found} == {"model"}
    workers = log.read_text().splitlines()
    assert len(workers) == len(set(workers)) <= 2
    assert {worker for _, worker in found} <= set(workers)


def test_one_that_fails_ends_the_pool_and_is_named_with_its_traceback(make: Make) -> None:
    pool = make(initializer=functions.fail, initargs=(ValueError, "no model"))
    error = pool.add_task("t", functions.add, 1).exception(50)
    assert isinstance(error, pools.InitializerError)
    assert error.initializer == "tests.functions.fail"
    told = "".join(traceback.format_exception(error))
    assert "its initializer, tests.functions.fail, has failed" in told
    assert "ValueError: no model" in told
    assert "in fail" in told
    with pytest.raises(pools.InitializerError, match="no model"):
        pool.add_task("late", functions.add, 1)
    pool.shutdown()
