"""Initializers: what is refused, what stays of them, and what else than an exception may end them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import nornir_pools as pools
from nornir_pools.cluster.jobs import FRUITLESS

from .. import functions


def get(kind: str, count: int = 1, **given: Any) -> Any:
    if kind == "processes":
        return pools.GetMultithreadingPool("p", count, **given)
    return pools.GetClusterPool("p", count, executor="local", folder=str(Path.cwd() / "runs"), **given)


def environment_of(name: str) -> str | None:
    return os.environ.get(name)


def test_what_cannot_be_called_or_sent_is_refused_when_the_pool_is_made() -> None:
    with pytest.raises(TypeError, match="must be a function, not 5"):
        pools.GetThreadPool("p", initializer=5)  # type: ignore[arg-type]
    for kind in ("processes", "local"):
        with pytest.raises(pools.ArgumentError, match=r"functions\.echo, or an argument of it cannot be sent"):
            get(kind, initializer=functions.echo, initargs=[functions.RefusesToBeSent()])
    assert not pools.dictKnownPools


def test_a_pool_that_was_made_with_another_one_is_refused() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(3)
    pool = pools.GetThreadPool("p", initializer=functions.echo, initargs=[array])
    assert pools.GetThreadPool("p") is pool
    assert pools.GetThreadPool("p", initializer=functions.echo, initargs=(array,)) is pool
    for other in ({"initializer": functions.add}, {"initializer": functions.echo, "initargs": [array + 1]}):
        with pytest.raises(pools.PoolKindError, match="'p' exists with init"):
            pools.GetThreadPool("p", **other)


@pytest.mark.parametrize("kind", ["processes", "local"])
def test_one_that_ends_its_process_ends_the_pool(kind: str) -> None:
    pool = get(kind, initializer=functions.die, initargs=("os._exit",))
    with pytest.raises(
        pools.InitializerError, match=r"functions\.die, has failed.*that called it ended by itself with exit status 3"
    ):
        pool.add_task("t", functions.add, 1).wait(50)


@pytest.mark.parametrize("kind", ["processes", "local"])
def test_what_it_sets_in_the_environment_stays_for_all_tasks(kind: str, tmp_path: Path) -> None:
    pool = get(kind, initializer=functions.set_up, initargs=(str(tmp_path / "log"), "here"))
    assert [pool.add_task("t", environment_of, "SET_UP").wait_return(50) for _ in range(2)] == ["here"] * 2


@pytest.mark.parametrize("kind", ["processes", "local"])
def test_a_process_that_takes_the_place_of_another_is_set_up_too(kind: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pool = get(kind, initializer=functions.set_up, initargs=(str(log), 1), max_tasks_per_child=2)
    found = [pool.add_task("t", functions.what_was_set_up).wait_return(50) for _ in range(4)]
    assert [worker for _, worker in found][::2] == log.read_text().splitlines()
    assert found[0] == found[1] != found[2] == found[3]


def test_a_failed_task_that_is_run_again_finds_its_process_set_up(tmp_path: Path) -> None:
    pool = get("local", initializer=functions.set_up, initargs=(str(tmp_path / "log"), "model"))
    assert isinstance(
        pool.add_task("t", functions.fail_unless_set_up, str(tmp_path / "mark")).exception(50), functions.PlainError
    )
    pool.shutdown()
    run = pool.folder
    (task,) = pools.retry(run).tasks
    assert task.wait_return(50) == "model"
    with mock.patch.dict(os.environ):
        assert pools.recorded_call(run, "t")() == "model"
    assert len((tmp_path / "log").read_text().splitlines()) == 3


def test_one_that_fails_where_it_had_not_failed_before_is_tried_in_other_jobs_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pool = get("local", initializer=functions.succeed_once, initargs=(str(log),), max_tasks_per_child=1)
    assert pool.add_task("first", functions.add, 1).wait_return(50) == 2
    assert isinstance(pool.add_task("second", functions.add, 1).exception(50), pools.InitializerError)
    assert len(log.read_text().splitlines()) == 1 + FRUITLESS
    log.unlink()
    assert pool.add_task("third", functions.add, 1).wait_return(50) == 2  # it has not stopped


def test_the_serial_pool_calls_it_at_the_first_task_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_UP", "before")
    pool = pools.GetSerialPool("s", initializer=functions.set_up, initargs=(str(tmp_path / "log"), 1))
    assert not (tmp_path / "log").exists()
    for _ in range(2):
        pool.add_task("t", functions.add, 1)
    assert len((tmp_path / "log").read_text().splitlines()) == 1
