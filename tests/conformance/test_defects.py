"""Defects of upstream that this package must not have: each is provoked here, or by the tests named below, by its number.

====  ==========================================  ==================================================================
D1    a command ran twice                         conformance/test_commands.py::test_a_command_runs_exactly_once
D2    exit statuses were lost                     conformance/test_commands.py::test_stdout_is_the_value_and_the_status_is_kept
                                                  conformance/test_commands.py::test_a_missing_program_is_an_error
                                                  conformance/test_commands.py::test_a_signal_is_an_error_with_a_negative_status
D5    idle threads were lost                      unit/test_threads.py::test_pool_of_one_thread_still_works_after_a_pause
                                                  unit/test_threads.py::test_threads_are_added_as_tasks_need_them
D6    a wait in a task stopped a pool             conformance/test_calls.py::test_a_task_may_wait_for_tasks_of_its_own_pool
                                                  conformance/test_callers.py::test_09_two_tasks_that_each_wait_for_a_third_of_their_pool
D7    sys.exit in a task cost a worker            conformance/test_errors.py::test_sys_exit_of_a_task_does_not_end_the_script
                                                  unit/test_threads.py::test_no_exception_of_a_task_costs_a_worker
D8    a killed worker was waited for for ever     conformance/test_errors.py::test_the_death_of_the_process_is_told_and_costs_no_other_task
D9    pools in forked processes and in workers    unit/test_places.py::test_a_servers_forked_worker_has_pools_of_its_own
                                                  conformance/test_calls.py::test_a_task_may_have_pools_of_its_own
D10   a result that came early broke the pool     unit/test_processes.py::test_many_short_tasks_are_each_completed_however_threads_are_switched
D11   programs ended late                         unit/test_exit.py::test_script_with_idle_pools_ends_at_once
D12   checks were assertions                      unit/test_exit.py::test_checks_hold_without_assertions
D14   the serial pool was another thing           conformance/test_callers.py::test_16_the_serial_pool_is_another_pool
                                                  conformance/test_commands.py::test_it_runs_in_the_folder_and_environment_of_the_moment
                                                  conformance/test_calls.py::test_the_pool_looks_as_upstream_has_it
                                                  unit/test_serial.py::test_shutdown_takes_the_name_out
D15   arguments and limits of commands            conformance/test_commands.py::test_arguments_of_subprocess_run_are_honoured
                                                  conformance/test_commands.py::test_bytes_that_are_no_text_are_replaced
                                                  conformance/test_commands.py::test_no_more_commands_run_at_once_than_workers
D16   wait_completion raised a task's error       conformance/test_errors.py::test_wait_completion_never_raises_a_tasks_error
                                                  conformance/test_lifecycle.py::test_one_failing_task_does_not_keep_pools_open
D18   a stopped shared memory manager was used    unit/test_shared_memory.py::test_after_it_was_stopped_there_is_a_new_one
                                                  unit/test_shared_memory.py::test_jobs_do_not_get_its_key
D19   MAX_PYTHON_THREADS was not checked          unit/test_settings.py::test_wrong_thread_limit_is_named_and_no_pool_is_made
                                                  unit/test_settings.py::test_thread_limit_bounds_pools_of_worker_processes
D21   closing a pool started its workers          unit/test_processes.py::test_pool_without_tasks_has_no_workers_not_even_when_it_is_closed
                                                  conformance/test_lifecycle.py::test_a_closed_pool_refuses_and_its_name_gives_a_new_one
D22   one pool's end closed others                unit/test_registry.py::test_closing_the_machine_pool_leaves_other_pools_alone
D23   closing went on for ever                    unit/test_registry.py::test_closing_ends_although_other_threads_keep_making_pools
                                                  unit/test_registry.py::test_after_closing_a_name_gives_a_new_pool
D26   tracebacks grew                             conformance/test_errors.py::test_the_traceback_does_not_grow_with_each_time
                                                  unit/test_task.py::test_traceback_does_not_grow_when_several_threads_ask
D28   progress was printed on stdout              unit/test_base.py::test_progress_of_a_pool_writes_nothing_to_stdout
                                                  unit/test_upstream.py::test_what_upstream_prints_goes_to_the_log
====  ==========================================  ==================================================================
"""  # noqa: E501 - names of tests

from __future__ import annotations

import ast
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase

from .. import functions
from ..conftest import until
from ..unit.script import run_script

TESTS = Path(__file__).parents[1]
PACKAGE = Path(pools.__file__).parent


def test_each_defect_has_its_test() -> None:
    table: dict[int, list[str]] = {}
    number = 0
    for line in (__doc__ or "").splitlines():
        if found := re.search(r"(\S+\.py)::(\w+)$", line):
            number = int(line[1:4]) if line.startswith("D") else number
            assert f"def {found[2]}(" in (TESTS / found[1]).read_text(encoding="utf-8"), line
            table.setdefault(number, []).append(found[2])
    here = [int(name[6:8]) for name in globals() if name.startswith("test_d")]
    assert sorted({*table, *here}) == [*range(1, 29)]
    assert not table.keys() & set(here)


def test_d03_iscompleted_is_a_bool_before_and_after_a_wait_and_never_raises(pool: PoolBase) -> None:
    tasks: list[Any] = [pool.add_process("c", "sleep 0.1; echo out"), pool.add_process("killed", "kill -9 $$")]
    tasks += [pool.add_task("bad", functions.fail), pool.add_task("good", functions.add, 1)]
    assert {type(task.iscompleted) for task in tasks} == {bool}
    until(lambda: all(task.iscompleted for task in tasks), "they are never done", 40)
    for task in tasks:
        task.exception()
    assert [task.iscompleted for task in tasks] == [True] * 4


def test_d04_a_command_that_prints_much_comes_to_an_end_though_it_is_only_polled(pool: PoolBase) -> None:
    task = pool.add_process("much", "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero >&2")
    until(lambda: task.iscompleted, "it is never done", 40)
    assert (len(task.wait_return()), len(task.stderrdata)) == (300_000, 300_000)


@pytest.mark.parametrize("get", [pools.GetParallelPythonPool, pools.GetClusterPool])
def test_d13_a_named_cluster_pool_works_where_there_is_no_cluster(get: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("nornir_pools.cluster.slurm.is_available", lambda folder="": False)
    monkeypatch.setattr("shutil.which", lambda name, **where: None)
    monkeypatch.setattr("nornir_pools.cluster.slurm.looks_installed", lambda: False)
    pool = get("c", 1)
    assert pool.add_task("t", functions.add, 1).wait_return(40) == 2
    assert pool.add_process("c", "echo out").wait_return(40) == "out\n"
    assert isinstance(pool.num_active_tasks, int)


@pytest.mark.needs("concurrent")
def test_d17_a_running_task_counts_and_its_time_stands_still_when_it_is_over(pool: PoolBase, tmp_path: Path) -> None:
    task = pool.add_task("running", functions.touch_and_wait, str(tmp_path / "begun"), str(tmp_path / "go"))
    until((tmp_path / "begun").exists, "it does not begin", 40)
    assert pool.num_active_tasks == 1
    assert task.task_end_time is None
    (tmp_path / "go").touch()
    command = pool.add_process("c", "true")
    for each in (task, command):
        each.wait()
        assert each.task_end_time is not None
        assert each.elapsed_time == each.task_end_time - each.task_start_time == each.elapsed_time
    until(lambda: pool.num_active_tasks == 0, "they are still active")


def test_d17_arguments_are_those_that_were_given() -> None:
    pool = pools.GetThreadPool("p", 1)
    blocker = pool.add_task("block", functions.wait_for_file, "go", value=3)
    waiting = pool.add_task("wait", functions.echo, 1, 2, key="word")
    assert (waiting.args, waiting.kwargs) == ((1, 2), {"key": "word"})
    Path("go").touch()
    assert (blocker.wait_return(), waiting.wait_return()) == (3, ((1, 2), {"key": "word"}))


def test_d20_no_error_is_caught_without_being_named() -> None:
    """Nor is a KeyboardInterrupt taken for something else: what catches everything raises it again, or keeps it."""
    for path in PACKAGE.rglob("*.py"):
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(handler, ast.ExceptHandler):
                continue
            where = f"{path.name}:{handler.lineno}"
            assert handler.type is not None, where
            if ast.unparse(handler.type) == "BaseException":
                kept = handler.name is not None and any(
                    isinstance(node, ast.Name) and node.id == handler.name for part in handler.body for node in ast.walk(part)
                )
                raised = any(isinstance(node, ast.Raise) for part in handler.body for node in ast.walk(part))
                printed = "print_exc" in ast.unparse(handler)
                assert kept or raised or printed, where


@pytest.mark.needs("jobs")
def test_d24_cluster_pools_count_for_themselves_and_leave_arguments_alone(pool: PoolBase, tmp_path: Path) -> None:
    """That a job which is gone is not waited for for ever is tested in ``tests/cluster/test_endings.py``."""
    with pools.GetClusterPool("other", 1, executor="local", folder=str(tmp_path / "others")) as other:
        task = pool.add_task("wait", functions.wait_for_file, str(tmp_path / "go"))
        assert (pool.ActiveTasks, other.ActiveTasks) == (1, 0)
        options = {"shell": False, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = other.add_process("c", ["printf", "%s", "a b"], **options)
        assert (command.wait_return(40), command.returncode) == ("a b", 0)
        assert options == {"shell": False, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        (tmp_path / "go").touch()
        task.wait(40)


@pytest.mark.needs("bounded")
def test_d25_a_command_does_not_begin_while_its_add_process_blocks(pool: PoolBase, tmp_path: Path) -> None:
    go = tmp_path / "go"
    blockers = [pool.add_task("block", functions.wait_for_file, str(go)) for _ in range(2)]
    until(lambda: pool.tasks.qsize() == 0, "the workers do not begin")
    for number in range(64):
        pool.add_process(str(number), "true")
    last: list[Any] = []
    thread = threading.Thread(target=lambda: last.append(pool.add_process("last", f"touch {tmp_path / 'ran'}")))
    thread.start()
    thread.join(0.3)
    assert (thread.is_alive(), (tmp_path / "ran").exists()) == (True, False)
    go.touch()
    thread.join(40)
    last[0].wait(40)
    assert (tmp_path / "ran").exists()
    assert [blocker.wait_return() for blocker in blockers] == [None, None]


def test_d27_nothing_is_made_or_taken_over_by_an_import() -> None:
    done = run_script(
        """
        import os, sys
        before = set(os.listdir())
        from nornir_pools import *
        for pool in (GetThreadPool("t", 1), GetMultithreadingPool("p", 1), GetProcessPool("c", 1), GetSerialPool("s")):
            assert pool.add_task("t", abs, -1).wait_return() == 1
        assert set(os.listdir()) == before
        print([name for name in ("curses", "nornir_shared", "numpy", "matplotlib", "six") if name in sys.modules])
        """
    )
    assert (done.status, done.out, done.err) == (0, "[]\n", "")
