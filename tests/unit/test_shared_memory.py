"""The manager of shared memory: one for a script and its workers, gone with the script, and never known to a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import shared_memory
from nornir_pools.here import MANAGER_ADDRESS, MANAGER_KEY

from ..conftest import until
from .script import group_is_alive, run_script

NAMES = (MANAGER_ADDRESS, MANAGER_KEY)


@pytest.fixture
def manager() -> Iterator[SharedMemoryManager]:
    yield pools.get_or_create_shared_memory_manager()
    pools.ClosePools()
    shared_memory.stop()
    assert not set(NAMES) & set(os.environ)


def use_block(name: str) -> tuple[int, str]:
    """Read a block, and make another by the same manager."""
    block = SharedMemory(name)
    value = memoryview(block.buf or b"")[0]
    block.close()
    made = pools.get_or_create_shared_memory_manager().SharedMemory(8)
    made.close()
    return value, made.name


def environment() -> dict[str, str]:
    return dict(os.environ)


def exists(block: str) -> bool:
    return Path("/dev/shm", block).exists()


def test_there_is_one_manager_for_the_script_and_its_workers(manager: SharedMemoryManager) -> None:
    assert pools.get_or_create_shared_memory_manager() is manager
    block = manager.SharedMemory(8)
    assert block.buf is not None
    block.buf[0] = 7
    value, made = pools.GetMultithreadingPool("p", 1).add_task("use", use_block, block.name).wait_return(50)
    block.close()
    assert value == 7
    assert exists(made)  # it belongs to the manager, not to the worker
    pools.ClosePools()
    shared_memory.stop()
    assert not exists(made)
    assert not exists(block.name)


def test_after_it_was_stopped_there_is_a_new_one(manager: SharedMemoryManager) -> None:
    os.environ.pop(MANAGER_KEY)  # whatever has become of these
    shared_memory.stop()
    os.environ.update(dict.fromkeys(NAMES, "aa"))
    new = pools.get_or_create_shared_memory_manager(b"a key of my own")
    assert new is not manager
    assert os.environ[MANAGER_KEY] == b"a key of my own".hex()
    block = new.SharedMemory(8)
    block.close()
    assert exists(block.name)


def test_jobs_do_not_get_its_key(manager: SharedMemoryManager) -> None:
    with pools.GetClusterPool("made after it", 1, executor="local") as pool:
        inside = pool.add_task("look", environment).wait_return(50)
        printed = pool.add_process("look", "env").wait_return(50)
    assert not set(NAMES) & set(inside)
    assert not [name for name in NAMES if name in printed]


def test_jobs_of_a_pool_that_is_older_do_not_get_its_key() -> None:
    with pools.GetClusterPool("made before it", 1, executor="local") as pool:
        assert pool.add_task("start", environment).wait_return(50)
        pools.get_or_create_shared_memory_manager()
        assert not set(NAMES) & set(pool.add_task("look", environment).wait_return(50))
    shared_memory.stop()


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_nothing_is_left_of_it_however_the_script_ends(end: str) -> None:
    done = run_script(
        f"""
        import os
        import nornir_pools as pools
        manager = pools.get_or_create_shared_memory_manager()
        print(manager.SharedMemory(8).name, os.getpgid(0), flush=True)
        {end}
        """
    )
    assert done.status == {"": 0, "raise SystemExit(3)": 3}.get(end, -9)
    block, group = done.out.split()
    until(lambda: not exists(block), "the block is left")
    until(lambda: not group_is_alive(int(group)), "the manager is left")
