"""Pools by name: one for each name, of the right kind, and closed by exactly those who should."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import PoolKind, PoolKindError, profiling, registry
from nornir_pools.local import processes

from .. import functions

GETTERS: list[tuple[Any, Any]] = [
    (pools.GetThreadPool, pools.GetGlobalThreadPool),
    (pools.GetMultithreadingPool, pools.GetGlobalMultithreadingPool),
    (pools.GetProcessPool, pools.GetGlobalProcessPool),
    (pools.GetLocalMachinePool, pools.GetGlobalLocalMachinePool),
]


def test_known_name_gives_the_pool_that_is_there() -> None:
    for number, (get, _) in enumerate(GETTERS):
        pool = get(f"pool {number}", 2)
        assert get(f"pool {number}", 7) is pool
        assert (pool.name, pool.num_threads) == (f"pool {number}", 2)
        assert pools.dictKnownPools[pool.name] is pool


def test_no_name_gives_the_global_pool() -> None:
    for get, get_global in GETTERS:
        assert get() is get_global() is get(None)
    assert pools.GetGlobalSerialPool() is pools.GetSerialPool("Global")
    assert {pool.name for pool in pools.dictKnownPools.values()} == {
        "Global local thread pool",
        "Global multithreading pool",
        "Global process pool",
        "Global local machine pool",
        "Global",
    }


def test_serial_pool_needs_a_name() -> None:
    with pytest.raises(ValueError, match="GetGlobalSerialPool"):
        pools.GetSerialPool(None)
    assert not pools.dictKnownPools


def test_at_exit_no_server_is_left_though_profiles_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no space left")

    stopped: list[bool] = []
    monkeypatch.setattr(profiling, "merge", fail)
    monkeypatch.setattr(processes, "stop_servers", lambda: stopped.append(True))
    with pytest.raises(OSError, match="no space"):
        registry._at_exit()
    assert stopped


def test_name_of_another_kind_is_refused_with_both_kinds_named() -> None:
    pool = pools.GetThreadPool("mine", 1)
    others: list[tuple[Any, str]] = [
        (pools.GetProcessPool, "CommandPool"),
        (pools.GetMultithreadingPool, "ProcessPool"),
        (pools.GetSerialPool, "SerialPool"),
        (pools.GetClusterPool, "ClusterPool"),
    ]
    for get, kind in others:
        with pytest.raises(PoolKindError, match=f"'mine' belongs to a ThreadPool, and a {kind} was asked for"):
            get("mine", 1)
    assert pools.dictKnownPools == {"mine": pool}
    assert pool.add_task("t", functions.add, 1).wait_return() == 2


def test_machine_pool_is_not_taken_for_the_process_pool_it_is_made_of() -> None:
    pools.GetLocalMachinePool("mine", 1)
    with pytest.raises(PoolKindError):
        pools.GetMultithreadingPool("mine", 1)


def test_parallel_python_is_another_word_for_the_cluster() -> None:
    pool = pools.GetClusterPool("mine", executor="debug")
    assert pools.GetParallelPythonPool("mine") is pool
    assert pools.IsParallelPythonAvailable() is False


def test_after_closing_a_name_gives_a_new_pool() -> None:
    old = pools.GetThreadPool("mine", 1)
    pools.ClosePools()
    assert not pools.dictKnownPools
    new = pools.GetThreadPool("mine", 1)
    assert new is not old
    old.shutdown()
    assert pools.dictKnownPools == {"mine": new}
    new.shutdown()
    assert not pools.dictKnownPools


def test_threads_that_ask_at_once_get_one_pool() -> None:
    barrier = threading.Barrier(8)
    got: list[Any] = []

    def ask() -> None:
        barrier.wait()
        got.append(pools.GetThreadPool("mine", 1))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1


def test_kinds_are_upstreams() -> None:
    kinds: dict[Any, PoolKind] = {
        pools.GetThreadPool: PoolKind.THREAD,
        pools.GetMultithreadingPool: PoolKind.PROCESS,
        pools.GetProcessPool: PoolKind.THREAD,
        pools.GetLocalMachinePool: PoolKind.PROCESS,
        pools.GetSerialPool: PoolKind.THREAD,
    }
    for get, kind in kinds.items():
        assert pools._pool_kind(get(get.__name__, 1)) is kind
    assert pools._pool_kind(pools.GetClusterPool("c", executor="debug")) is PoolKind.PROCESS
    assert pools._pool_kind(object()) is PoolKind.THREAD
    assert (PoolKind("thread"), PoolKind("process")) == (PoolKind.THREAD, PoolKind.PROCESS)


def make_one_of_each() -> dict[PoolKind, set[str]]:
    pools.GetThreadPool("threads", 1)
    pools.GetMultithreadingPool("processes", 1)
    pools.GetSerialPool("serial")
    return {PoolKind.THREAD: {"threads", "serial"}, PoolKind.PROCESS: {"processes"}}


def test_each_closing_function_closes_its_kind() -> None:
    names = make_one_of_each()
    pools.CloseThreadPools()
    assert set(pools.dictKnownPools) == names[PoolKind.PROCESS]
    make_one_of_each()
    pools.CloseProcessPools()
    assert set(pools.dictKnownPools) == names[PoolKind.THREAD]
    make_one_of_each()
    pools.ReleaseStagePools()
    assert set(pools.dictKnownPools) == names[PoolKind.PROCESS]
    make_one_of_each()
    pools.CloseThreadPools(skip_wait=True)
    assert set(pools.dictKnownPools) == names[PoolKind.PROCESS]
    pools.FastClosePools()
    assert not pools.dictKnownPools


@pytest.mark.parametrize("text", ["1", "true", "Yes", "ON"])
def test_process_pools_can_be_kept_warm(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_one_of_each()
    monkeypatch.setenv("NORNIR_KEEP_PROCESS_POOLS", text)
    pools.CloseProcessPools()
    assert "processes" in pools.dictKnownPools
    monkeypatch.setenv("NORNIR_KEEP_PROCESS_POOLS", "0")
    pools.CloseProcessPools()
    assert "processes" not in pools.dictKnownPools


def test_waiting_functions_wait_and_keep_the_pools() -> None:
    for wait in (pools.WaitOnAllPools, pools.WaitOnThreadPools):
        task = pools.GetThreadPool("t", 1).add_task("t", time.sleep, 0.05)
        wait()
        assert task.done()
        assert "t" in pools.dictKnownPools
    task = pools.GetMultithreadingPool("p", 1).add_task("t", time.sleep, 0.05)
    pools.WaitOnThreadPools()
    pools.WaitOnProcessPools()
    assert task.done()


def test_failing_task_does_not_keep_other_pools_from_being_closed() -> None:
    first, second = pools.GetMultithreadingPool("a", 1), pools.GetThreadPool("b", 1)
    first.add_task("bad", functions.fail)
    slow = second.add_task("slow", time.sleep, 0.05)
    pools.ClosePools()
    assert slow.done()
    assert first.closed
    assert second.closed
    assert not pools.dictKnownPools


def test_closing_the_machine_pool_leaves_other_pools_alone() -> None:
    machine, processes = pools.GetGlobalLocalMachinePool(), pools.GetMultithreadingPool("p", 1)
    others = [pools.GetGlobalMultithreadingPool(), pools.GetGlobalProcessPool(), processes]
    machine.shutdown()
    assert machine.name not in pools.dictKnownPools
    for pool in others:
        assert pools.dictKnownPools[pool.name] is pool
    assert processes.add_task("t", functions.add, 1).wait_return() == 2


def test_closing_ends_although_other_threads_keep_making_pools() -> None:
    stop = threading.Event()
    made = threading.Event()

    def make() -> None:
        number = 0
        while not stop.is_set():
            pools.GetSerialPool(f"more {number}")
            number += 1
            made.set()

    thread = threading.Thread(target=make)
    thread.start()
    try:
        made.wait()
        pools.ClosePools()
        pools.CloseThreadPools()
    finally:
        stop.set()
        thread.join()


def test_closing_works_from_any_thread_and_from_several_at_once() -> None:
    pool = pools.GetThreadPool("t", 2)
    task = pool.add_task("t", functions.wait_for_file, "go")
    threads = [threading.Thread(target=pools.ClosePools) for _ in range(4)]
    for thread in threads:
        thread.start()
    Path("go").touch()
    for thread in threads:
        thread.join()
    assert task.done()
    assert pool.closed
