"""Large arrays on a pool of processes: by memory files, and what many tasks use stored once."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nornir_pools as pools
from nornir_pools import ArgumentError, PoolClosedError, WorkerDiedError
from nornir_pools.local import memory, shared

from .. import functions
from ..conftest import until

pytestmark = pytest.mark.skipif(not memory.AVAILABLE, reason="no memory files here")

MEGA = 1 << 20


def numbers(start: int = 0) -> Any:
    return np.arange(start, start + MEGA // 4, dtype=float)  # 2 MB


def look(array: Any) -> tuple[float, bool, int, int]:
    """Sum, whether it may be written to, descriptors and process id of the worker."""
    return float(array.sum()), array.flags.writeable, len(os.listdir("/proc/self/fd")), os.getpid()


def negated_in_place(array: Any) -> Any:
    np.negative(array, out=array)
    return array


def mapped_bytes(pid: int) -> int:
    """What a process has mapped of memory files, whoever shares them."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    ends = [line.split()[0].split("-") for line in lines if "/memfd:nornir_pools" in line]
    return sum(int(end, 16) - int(start, 16) for start, end in ends)


def mapped_in_worker(*arrays: Any) -> int:
    return mapped_bytes(os.getpid())


def test_arrays_come_and_go_writable_and_leave_no_descriptor() -> None:
    pool = pools.GetMultithreadingPool("p", 2)
    for task in [pool.submit(negated_in_place, numbers()) for _ in range(4)]:
        task.result(30)
    del task
    ours = set(os.listdir("/proc/self/fd"))
    first = {pid: count for _, _, count, pid in (pool.submit(look, numbers()).result(30) for _ in range(20))}
    for start in range(100):
        sent = numbers(start)
        got = pool.submit(negated_in_place, sent).result(30)
        got += sent
        assert not got.any()
        assert sent[0] == start
    for start in range(100):
        total, writable, count, pid = pool.submit(look, numbers(start)).result(30)
        assert (total, writable) == (numbers(start).sum(), True)
        assert count <= first.get(pid, count)
    del got
    assert set(os.listdir("/proc/self/fd")) <= ours
    assert mapped_bytes(os.getpid()) == 0


def test_result_is_its_holders_own_and_not_that_of_a_process_it_forks() -> None:
    array = pools.GetMultithreadingPool("p", 1).submit(negated_in_place, numbers()).result(30)
    pid = os.fork()
    if not pid:
        array[:] = 7
        os._exit(0)
    os.waitpid(pid, 0)
    assert array[1] == -1


@pytest.mark.parametrize("length", [1000, MEGA // 16, MEGA])
def test_task_sees_the_array_of_the_moment_it_was_added(length: int) -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    blocker = pool.submit(functions.wait_for_file, str(Path("go").absolute()))
    array = np.ones(length)
    task = pool.add_task("t", np.sum, array)
    array[:] = 0
    Path("go").touch()
    assert task.wait_return(30) == length
    blocker.result(30)


def test_array_is_not_in_the_memory_of_a_task_that_is_over_or_was_cancelled() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    blocker = pool.submit(functions.wait_for_file, str(Path("go").absolute()))
    tasks = [pool.submit(look, numbers()) for _ in range(3)]
    files = [weakref.ref(part) for task in tasks for part in task._parts if isinstance(part, memory.MemoryFile)]
    assert len(files) == 3
    assert tasks[0].cancel()
    assert files[0]() is None
    Path("go").touch()
    tasks[2].result(30)
    until(lambda: files[1]() is None and files[2]() is None, "the files stay")
    blocker.result(30)


def test_death_of_a_worker_with_an_array_costs_one_task_and_no_memory() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    pool.submit(os.getpid).result(30)
    before = len(os.listdir("/proc/self/fd"))
    bad, good = pool.submit(killed_by, numbers()), pool.submit(negated_in_place, numbers())
    with pytest.raises(WorkerDiedError):
        bad.result(30)
    assert good.result(30)[3] == -3
    del good
    gc.collect()
    until(lambda: len(os.listdir("/proc/self/fd")) <= before and not memory._held, "memory is left")


def killed_by(array: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_without_memory_files_arrays_go_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError("no memory files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    pool = pools.GetMultithreadingPool("p", 1)
    array = numbers()
    assert pool.submit(look, array).result(30)[:2] == (array.sum(), True)
    array.flags.writeable = False
    assert pool.submit(look, array).result(30)[0] == array.sum()
    assert pool.share(array) is array


def test_shared_value_is_stored_once_mapped_once_and_read_only() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    array = numbers()
    stand_in = pool.share({"array": array, "name": "n"})
    array[:] = 0  # the value is that of the moment it was shared
    del array
    gc.collect()
    assert repr(stand_in) == "<shared dict of pool 'p'>"
    tasks = [pool.submit(same_as_before, stand_in, other=[stand_in]) for _ in range(50)]
    results = [task.result(30) for task in tasks]
    assert {total for total, _, _ in results} == {numbers().sum()}
    assert not any(writable for _, writable, _ in results)
    assert len({identity for _, _, identity in results}) == 1
    assert 2 * MEGA <= pool.submit(mapped_in_worker).result(30) < 3 * MEGA


def same_as_before(value: dict[str, Any], other: list[Any]) -> tuple[float, bool, int]:
    assert other[0] is value
    assert value["name"] == "n"
    return float(value["array"].sum()), value["array"].flags.writeable, id(value)


def test_memory_of_shared_values_is_given_back_with_the_pool() -> None:
    before = set(os.listdir("/proc/self/fd"))
    names = set(os.listdir("/dev/shm"))
    with pools.GetMultithreadingPool("p", 1) as pool:
        stand_in, array = pool.share(numbers()), numbers()
        array.flags.writeable = False
        assert pool.with_options().submit(look, stand_in).result(30)[0] == array.sum()
        assert pool.submit(look, array).result(30)[0] == array.sum()
        assert len(memory._held) == 2
    assert not memory._held
    assert set(os.listdir("/proc/self/fd")) <= before | forkserver_descriptors(before)
    assert set(os.listdir("/dev/shm")) <= names
    with pytest.raises(PoolClosedError):
        pool.share(1)


def forkserver_descriptors(before: set[str]) -> set[str]:
    """Descriptors of multiprocessing's own servers, if they were started meanwhile."""
    new = set(os.listdir("/proc/self/fd")) - before
    links = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in new if os.path.exists(f"/proc/self/fd/{fd}")}
    return {fd for fd, link in links.items() if link.startswith("pipe:")}


@pytest.mark.parametrize("other", [lambda: pools.GetMultithreadingPool("other", 1), lambda: pools.GetLocalMachinePool("m", 1)])
def test_shared_value_given_to_another_pool_says_what_is_wrong(other: Any) -> None:
    stand_in = pools.GetMultithreadingPool("p", 1).share([1])
    with pytest.raises(ArgumentError, match="a value shared by pool 'p' can be used in the tasks of that pool, and nowhere"):
        other().add_task("t", functions.add, stand_in)


def test_view_of_a_pool_shares_as_the_pool_does() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    assert pool.submit(functions.add, pool.with_options(mem_gb=1).share(1)).result(30) == 2


def test_on_threads_a_shared_value_is_the_value() -> None:
    value = [1]
    assert pools.GetThreadPool("p", 1).share(value) is value


def test_value_that_cannot_be_pickled_is_not_shared() -> None:
    with pytest.raises(TypeError, match="lock"):
        pools.GetMultithreadingPool("p", 1).share(threading.Lock())


def test_worker_forgets_the_shared_values_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    values = [pool.share(numbers(start)) for start in range(shared._VALUES + 4)]
    for _ in range(2):
        for start, value in enumerate(values):
            assert pool.submit(look, value).result(30)[0] == numbers(start).sum()
    assert pool.submit(len, values).result(30) == len(values)  # more than it keeps, in one call
    assert pool.submit(mapped_in_worker).result(30) < (shared._VALUES + 1) * 2.1 * MEGA


def test_a_call_with_a_parent_may_use_more_shared_values_than_a_worker_keeps() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    values = [pool.share([number]) for number in range(shared._VALUES + 1)]
    parent = pool.add_task("parent", functions.add, 1)
    assert pool.add_task("child", functions.echo, parent, values).result(30) == ((2, [[n] for n in range(len(values))]), {})


def test_read_only_array_is_stored_once_for_all_tasks() -> None:
    pool = pools.GetMultithreadingPool("p", 2)
    blockers = [pool.submit(functions.wait_for_file, str(Path("go").absolute())) for _ in range(2)]
    array = numbers()
    array.flags.writeable = False
    tasks = [pool.submit(look, array) for _ in range(50)]
    assert len({id(part) for task in tasks for part in task._parts if isinstance(part, memory.MemoryFile)}) == 1
    Path("go").touch()
    assert {task.result(30)[:2] for task in tasks} == {(array.sum(), False)}
    assert pool.submit(mapped_in_worker, array, [array]).result(30) == 2 * MEGA
    for task in blockers:
        task.result(30)


def test_read_only_array_that_its_owner_has_changed_is_stored_anew() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    array = numbers()
    view = array.view()
    view.flags.writeable = False
    first = pool.submit(look, view)
    array[-1] = -5
    assert (first.result(30)[0], pool.submit(look, view).result(30)[0]) == (numbers().sum(), array.sum())


def test_stored_array_goes_with_its_owner_and_only_the_last_are_known() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    arrays = [numbers(start) for start in range(shared._ARRAYS + 3)]
    for array in arrays:
        array.flags.writeable = False
        pool.submit(look, array).result(30)
    assert len(pool._store._arrays) == len(memory._held) == shared._ARRAYS
    del array, arrays
    gc.collect()
    assert not pool._store._arrays
    assert not memory._held


_kept: list[Any] = []  # in a worker


def keep(array: Any) -> float:
    _kept.append(array)
    return sum(float(each[0]) for each in _kept)


def look_later(array: Any, go: str, answer: str) -> None:
    """Leave a process behind that looks at the array after the task is over."""
    if not os.fork():
        functions.wait_for_file(go)
        Path(f"{answer}.part").write_text(str(array[0]))
        os.rename(f"{answer}.part", answer)
        os._exit(0)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Any, list[int]]]:
    """A pool of which one worker waits, and the memory files that were made since."""
    pool = pools.GetMultithreadingPool("p", 2)
    blocker = pool.submit(functions.wait_for_file, str(tmp_path / "end"))
    made: list[int] = []
    create = os.memfd_create

    def count(name: str) -> int:
        made.append(create(name))
        return made[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "memfd_create", count)
        yield pool, made
    (tmp_path / "end").touch()
    blocker.result(30)
    until(lambda: not memory._held, "an idle pool keeps memory")


def test_memory_that_a_worker_is_done_with_is_used_again(busy: tuple[Any, list[int]]) -> None:
    pool, made = busy
    for start in range(10):
        assert pool.submit(look, numbers(start)).result(30)[0] == numbers(start).sum()
    assert len(made) == 1
    assert pool.submit(look, numbers()[: MEGA // 8 + 10]).result(30)[0] == numbers()[: MEGA // 8 + 10].sum()
    assert pool.submit(look, np.tile(numbers(), 3)).result(30)[0] == 3 * numbers().sum()
    assert len(made) == 2


def test_memory_that_a_task_keeps_is_not_written_over(busy: tuple[Any, list[int]]) -> None:
    pool, made = busy
    assert [pool.submit(keep, numbers(start)).result(30) for start in range(1, 5)] == [1, 3, 6, 10]
    assert len(made) == 4


def test_memory_that_a_forked_process_has_is_not_written_over(busy: tuple[Any, list[int]]) -> None:
    pool, made = busy
    go, answer = Path("go").absolute(), Path("answer").absolute()
    pool.submit(look_later, numbers(5), str(go), str(answer)).result(30)
    pool.submit(look, numbers(6)).result(30)
    go.touch()
    until(answer.exists, "no answer")
    assert answer.read_text() == "5.0"
    assert len(made) == 2
