"""Every name that upstream has is here, and does, or harmlessly does not do, what it does there."""

from __future__ import annotations

import contextlib
import logging
import platform
import pstats
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import task as task_module

from .. import functions


def words(text: str) -> list[str]:
    return text.split()


MODULE = words(
    """
    GetThreadPool GetMultithreadingPool GetProcessPool GetLocalMachinePool GetParallelPythonPool GetSerialPool
    GetGlobalThreadPool GetGlobalMultithreadingPool GetGlobalProcessPool GetGlobalLocalMachinePool GetGlobalSerialPool
    GetGlobalClusterPool dictKnownPools _pool_kind IsParallelPythonAvailable WaitOnAllPools WaitOnThreadPools
    WaitOnProcessPools CloseThreadPools CloseProcessPools ReleaseStagePools ClosePools FastClosePools _remove_pool
    init_pool_process shared_lock max_windows_threads ApplyOSThreadLimit get_or_create_shared_memory_manager _sprint
    _pprint _PrintError _PrintWarning _PrintProgressUpdate start_profiling end_profiling aggregate_profiler_data
    invoke_with_profiler GetAndCreateProfileDataPath GetAndCreateProfileDataFileName MergeProfilerStats profiler
    profile_data_path PoolKind PoolFactory IPool Task poolbase task shared_memory
    """
)
POOL = words(
    """
    name num_active_tasks active_tasks queued_tasks logger job_report_interval_in_seconds TryReportActiveTaskCount
    PrintActiveTaskCount add_task add_process wait_completion shutdown tasks shutdown_event TryRegisterAtExit
    _active_tasks get_active_nodes terminate_workers ActiveTasks
    """
)
THREAD_POOL = words(
    """
    WorkerCheckInterval deadthreadqueue add_worker_thread add_threads_if_needed remove_finished_threads
    """
)
TASK = words(
    """
    name args kwargs task_id generate_id task_start_time task_end_time elapsed_time elapsed_time_str set_completion_time
    wait wait_return iscompleted completed node error_message
    """
)
COMMAND = words(
    """
    cmd stdoutdata stderrdata returned_value returncode exception
    """
)


LEFT_OUT = words(
    """
    threadpool processpool multiprocessthreadpool local_machine_pool serialpool parallelpythonpool ipool
    num_workers maxtasksperchild authkey proc server groupname ppTask ECLIPSE NORNIR_LOG_ROOT PYTHONPATH
    """
)


def test_the_module_has_every_name() -> None:
    assert not [name for name in MODULE if not hasattr(pools, name)]
    assert issubclass(pools.poolbase.LocalThreadPoolBase, pools.poolbase.PoolBase)
    assert issubclass(pools.Task, (task_module.TaskWithEvent, task_module.SerialTask))
    assert (pools.max_windows_threads, pools.shared_lock, pools.profiler, pools.profile_data_path) == (1024, None, None, None)


@pytest.mark.parametrize(
    "get",
    [pools.GetThreadPool, pools.GetMultithreadingPool, pools.GetProcessPool, pools.GetLocalMachinePool, "serial", "debug"],
)
def test_pools_and_tasks_have_every_member(get: Any) -> None:
    makers = {"serial": pools.GetSerialPool, "debug": lambda name, _: pools.GetClusterPool(name, executor="debug")}
    pool = makers.get(get, get)("p", 2)
    extra = [] if get in makers else THREAD_POOL
    assert not [name for name in POOL + extra if not hasattr(pool, name)]
    task, command = pool.add_task("t", functions.add, 1), pool.add_process("c", "echo out; echo err >&2")
    assert not [name for name in TASK if not hasattr(task, name)]
    assert not [name for name in TASK + COMMAND if not hasattr(command, name)]
    assert command.completed.wait(20)
    assert (command.returned_value, command.error_message) == ((b"out\n", b"err\n"), "")
    assert not hasattr(task, "returncode")  # by which callers delete files


def test_what_is_left_out_is_listed_where_users_look() -> None:
    text = (Path(pools.__file__).parents[1] / "docs/howto/port-from-upstream.md").read_text(encoding="utf-8")
    assert not [name for name in LEFT_OUT if f"{name}`" not in text and f"`{name}" not in text]
    pool = pools.GetMultithreadingPool("p", 1)
    with pool.lock:
        assert not [name for name in LEFT_OUT if hasattr(pool.add_task("t", functions.add, 1), name)]


def test_events_tell_the_end_of_a_task_and_of_a_pool() -> None:
    pool = pools.GetThreadPool("p", 1)
    task = pool.add_task("t", functions.touch_and_wait, "begun", "go")
    assert (task.completed.is_set(), task.completed.wait(0.01), task.error_message) == (False, False, "")
    event = pool.shutdown_event
    assert (event.is_set(), event.wait(0.01), list(pool._active_tasks)) == (False, False, [task.task_id])
    seen = threading.Thread(target=event.wait)
    seen.start()
    Path("go").touch()
    assert task.completed.wait(20)
    pool.shutdown()
    seen.join(20)
    assert (task.completed.is_set(), event.is_set(), seen.is_alive()) == (True, True, False)


def test_error_message_and_node_of_a_task() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    good, bad = pool.add_task("good", functions.add, 1), pool.add_task("bad", functions.fail, ValueError, "no tile")
    assert bad.exception(30) is not None
    assert (bad.error_message, good.error_message) == ("no tile", "")
    assert bad.node == platform.node()
    with pools.GetClusterPool("c", 1, executor="local") as cluster:
        task = cluster.add_task("t", functions.add, 1)
        assert (task.wait_return(50), task.node) == (2, platform.node())


def test_attributes_that_a_caller_sets_win() -> None:
    task: Any = pools.GetThreadPool("p", 1).add_task("t", functions.add, 1)
    for name in ("completed", "node", "error_message", "transform"):
        setattr(task, name, f"my {name}")
        assert getattr(task, name) == f"my {name}"
    assert task.wait_return() == 2


def test_bookkeeping_of_threads_is_harmless() -> None:
    pool = pools.GetThreadPool("p", 2)
    for _ in range(5):
        pool.add_worker_thread()
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("p-")]) == 2
    pool.add_threads_if_needed()
    pool.remove_finished_threads()
    pool.TryRegisterAtExit()
    with contextlib.suppress(queue.Empty):
        raise AssertionError(pool.deadthreadqueue.get_nowait())
    assert list(pool.map(functions.add, [1, 2])) == [2, 3]


def test_number_of_tasks_is_reported_to_the_log_and_not_too_often(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "nornir_pools")
    pool = pools.GetThreadPool("p", 1)
    pool.TryReportActiveTaskCount()
    assert not caplog.messages  # fewer than two
    tasks = [pool.add_task("t", functions.wait_for_file, "go") for _ in range(3)]
    pool.TryReportActiveTaskCount()
    pool.TryReportActiveTaskCount()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("pool 'p': 3 tasks are not done")
    pool.job_report_interval_in_seconds = 0.0
    pool.TryReportActiveTaskCount()
    assert len(caplog.messages) == 2
    Path("go").touch()
    assert [task.wait_return() for task in tasks] == [None] * 3
    assert capfd.readouterr() == ("", "")


def test_what_upstream_prints_goes_to_the_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.INFO, "nornir_pools")
    for name in ("_sprint", "_pprint", "_PrintProgressUpdate", "_PrintWarning", "_PrintError"):
        getattr(pools, name)(f"{name} 100%")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "_sprint 100%"),
        ("INFO", "_pprint 100%"),
        ("INFO", "_PrintProgressUpdate 100%"),
        ("WARNING", "_PrintWarning 100%"),
        ("ERROR", "_PrintError 100%"),
    ]
    assert capfd.readouterr() == ("", "")


def test_profiling_functions_do_what_they_did(tmp_path: Path) -> None:
    import cProfile

    pools.start_profiling()
    pools.aggregate_profiler_data(str(tmp_path / "unused"))
    pools.end_profiling()
    called: list[int] = []
    assert pools.invoke_with_profiler(called.append, 1) is None  # type: ignore[func-returns-value]
    assert called == [1]
    parts = Path(pools.GetAndCreateProfileDataPath())
    assert (parts, Path(pools.GetAndCreateProfileDataFileName()).parent) == (tmp_path / "pool_profiles", parts)
    for number in range(2):
        with cProfile.Profile() as profile:
            functions.add(number)
        (parts / f"{number}").mkdir()
        profile.dump_stats(parts / f"{number}" / "worker.pstats")
    (parts / "broken.pstats").write_bytes(b"none")
    pools.MergeProfilerStats(str(tmp_path / "out"), str(parts), "mine")
    assert [path.name for path in parts.rglob("*.pstats")] == ["broken.pstats"]
    stats: Any = pstats.Stats(str(tmp_path / "out" / "mine_aggregate.pstats"))
    assert [value[0] for (_, _, name), value in stats.stats.items() if name == "add"] == [2]


def test_worker_initialiser_keeps_the_lock_and_sends_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "shared_lock", None)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    lock, sent = threading.Lock(), queue.Queue()  # type: ignore[var-annotated]
    try:
        pools.init_pool_process(sent, logging.WARNING, lock)
        assert pools.shared_lock is lock
        logging.getLogger("mine").warning("from the worker")
        assert sent.get_nowait().getMessage() == "from the worker"
        pools.init_pool_process()
        assert pools.shared_lock is lock
    finally:
        for handler in set(root.handlers) - set(before):
            root.removeHandler(handler)
        root.setLevel(level)


def test_pool_can_be_taken_out_by_name_or_itself() -> None:
    first, second = pools.GetThreadPool("first", 1), pools.GetThreadPool("second", 1)
    pools._remove_pool("first")
    pools._remove_pool(second)
    pools._remove_pool("unknown")
    assert not pools.dictKnownPools
    for pool in (first, second):
        assert pool.add_task("t", functions.add, 1).wait_return() == 2
        pool.shutdown()


CALLS = words(
    """
    WaitOnAllPools WaitOnThreadPools WaitOnProcessPools CloseThreadPools CloseProcessPools ReleaseStagePools ClosePools
    FastClosePools
    """
)


@pytest.mark.parametrize("text", ["1", "yes"])
def test_each_lifecycle_call_is_told_if_asked_for(
    text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "nornir_pools")
    pools.GetThreadPool("tiles", 1)
    pools.WaitOnAllPools()
    assert not caplog.messages
    monkeypatch.setenv("NORNIR_POOL_DIAG", text)
    for name in CALLS:
        getattr(pools, name)()
    told = {name: [message for message in caplog.messages if message.startswith(f"{name}: ")] for name in CALLS}
    assert all(told.values())
    assert told["WaitOnThreadPools"][0].endswith(f"threads={threading.active_count()}, pools=[('tiles', 'thread', 0)]")
    assert "gil=True" in told["ClosePools"][0]
