"""Ending a task that runs: ``pool.cancel(task, running=True)``."""

from __future__ import annotations

import os
import threading
from concurrent import futures
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions
from ..backends import Backend
from ..conftest import until
from ..functions import Busy


def ended(pid_file: Path) -> bool:
    return not psutil.pid_exists(int(pid_file.read_text())) or psutil.Process(int(pid_file.read_text())).status() == "zombie"


@pytest.mark.needs("survives")
def test_a_call_that_runs_is_ended_and_nothing_else_is(
    pool: PoolBase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Busy(pool, tmp_path, workers=1)
    pid_file = tmp_path / "pid"
    doomed = pool.add_task("doomed", functions.write_pid_and_wait, str(pid_file), str(tmp_path / "never"))
    functions.wait_for_file(str(pid_file))
    others = [pool.add_task(str(i), functions.add, i) for i in range(20)]
    seen: list[bool] = []
    doomed.add_done_callback(lambda task: seen.append(task.cancelled()))
    assert doomed.running()
    assert not pool.cancel(doomed)  # as task.cancel(): it has begun
    assert pool.with_options(cpus_per_task=1).cancel(doomed, running=True)
    assert (doomed.cancelled(), doomed.running(), seen) == (True, False, [True])
    with pytest.raises(futures.CancelledError):
        doomed.result()
    assert pool.cancel(doomed, running=True)  # once more does no harm
    assert [task.result(50) for task in others] == list(range(1, 21))
    busy.end()
    until(lambda: ended(pid_file), "the process goes on")
    pool.wait_completion(check=True)  # it is no failure
    pid_file.unlink()
    pool.shutdown()
    assert not pid_file.exists()  # and it was not tried again
    assert "doomed" not in caplog.text


@pytest.mark.needs("concurrent")
def test_a_command_that_runs_is_ended_with_its_group(pool: PoolBase, tmp_path: Path) -> None:
    go = tmp_path / "go"
    other = pool.add_process("other", f"while [ ! -e '{go}' ]; do sleep 0.02; done; echo ended")
    pid_file = tmp_path / "pid"
    doomed = pool.add_process("doomed", f"sleep 50 & echo $! > '{pid_file}.new' && mv '{pid_file}.new' '{pid_file}'; wait")
    functions.wait_for_file(str(pid_file))
    assert pool.cancel(doomed, running=True)
    assert doomed.cancelled()
    with pytest.raises(futures.CancelledError):
        _ = doomed.returncode
    until(lambda: ended(pid_file), "a process of its group goes on")
    go.touch()
    assert other.wait_return(50) == "ended\n"
    pool.wait_completion(check=True)


@pytest.mark.needs("cancel")
def test_a_task_that_has_not_begun_is_taken_back_and_one_that_is_over_stays(pool: PoolBase, tmp_path: Path) -> None:
    over = pool.submit(functions.add, 1)
    over.wait(50)
    busy = Busy(pool, tmp_path)
    waiting = pool.submit(functions.touch, "touched")
    assert pool.cancel(waiting, running=True)
    assert not pool.cancel(over, running=True)
    with pytest.raises(pools.PoolError, match="is no task of pool 'other'"):
        pools.GetThreadPool("other", 1).cancel(over)
    busy.end()
    pool.shutdown()
    assert not Path("touched").exists()


@pytest.mark.needs("in_process", "concurrent")
def test_a_call_in_a_thread_goes_on_and_that_is_told(pool: PoolBase, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    busy = Busy(pool, tmp_path, workers=1)
    assert not pool.cancel(busy.tasks[0], running=True)
    assert "task 'busy' of pool 'conformance' was not cancelled: it runs in a thread" in caplog.text
    busy.end()
    assert busy.tasks[0].result() is None


@pytest.mark.needs("survives")
def test_every_task_ends_once_however_often_running_ones_are_ended(pool: PoolBase, backend: Backend) -> None:
    count = 30 if "instant" in backend.capabilities else 6
    tasks = [pool.submit(functions.add, i, 0) for i in range(3 * count)]
    threads = [
        threading.Thread(target=lambda part=part: [pool.cancel(task, running=True) for task in part])
        for part in (tasks[::3], tasks[::-3])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert futures.wait(tasks, timeout=50).not_done == set()
    assert all(task.cancelled() or task.result() == i for i, task in enumerate(tasks))  # nobody else was harmed
    assert pool.submit(functions.process_id).result(50) != os.getpid()


@pytest.mark.needs("survives")
def test_a_callback_may_end_a_task(pool: PoolBase, tmp_path: Path) -> None:
    doomed = pool.submit(functions.touch_and_wait, str(tmp_path / "up"), str(tmp_path / "never"))
    functions.wait_for_file(str(tmp_path / "up"))
    pool.submit(functions.add, 1).add_done_callback(lambda _: pool.cancel(doomed, running=True))
    with pytest.raises(futures.CancelledError):
        doomed.result(50)
