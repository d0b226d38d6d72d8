"""How a script ends: no sooner than its tasks, no later than need be, and with nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import until
from .script import group_is_alive, is_alive, run_script

GET = {
    "threads": "pools.GetThreadPool('p', 1)",
    "processes": "pools.GetMultithreadingPool('p', 1)",
    "commands": "pools.GetProcessPool('p', 1)",
}


def test_script_with_idle_pools_ends_at_once() -> None:
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare = time.monotonic() - start
    done = run_script(
        """
        import time
        import nornir_pools as pools
        pools.GetThreadPool("unused")
        pools.GetMultithreadingPool("unused too")
        for get in (pools.GetThreadPool, pools.GetProcessPool, pools.GetMultithreadingPool, pools.GetSerialPool):
            assert get(get.__name__, 2).add_task("t", abs, -1).wait_return() == 1
        print(time.monotonic())
        """
    )
    assert (done.status, done.err) == (0, "")
    assert time.monotonic() - float(done.out) < 1 + bare


@pytest.mark.parametrize("kind", GET)
@pytest.mark.parametrize("ending", ["", "pool.shutdown(wait=False)", "raise SystemExit(3)", "raise ValueError('last')"])
def test_tasks_that_were_added_are_done_when_the_script_ends(kind: str, ending: str) -> None:
    done = run_script(
        f"""
        import pathlib, time
        import nornir_pools as pools
        pool = {GET[kind]}
        def work(name):
            time.sleep(0.1)
            pathlib.Path(name).touch()
        for n in range(3):
            pool.add_task("t", work, f"done{{n}}")
        pool.add_process("c", "sleep 0.1; touch done3")
        {ending}
        """
    )
    assert [Path(f"done{n}").exists() for n in range(4)] == [True] * 4
    assert done.status == {"raise SystemExit(3)": 3, "raise ValueError('last')": 1}.get(ending, 0)
    assert ("ValueError: last" in done.err) == ("ValueError" in ending)


def test_a_task_that_is_added_when_all_is_over_is_refused() -> None:
    done = run_script(
        """
        import atexit

        @atexit.register
        def last():
            for pool in made:
                try:
                    pool.submit(id, None)
                except RuntimeError as error:
                    print(type(error).__name__)

        import nornir_pools as pools
        made = [pools.GetThreadPool("t", 1), pools.GetMultithreadingPool("p", 1)]
        """
    )
    assert (done.status, done.out, done.err) == (0, "PoolClosedError\nPoolClosedError\n", "")


def test_failure_nobody_asked_about_is_told_at_exit() -> None:
    done = run_script(
        """
        import nornir_pools as pools
        def bad():
            raise ValueError("lost")
        pools.GetThreadPool("p", 1).add_task("mine", bad)
        """
    )
    assert done.status == 0
    assert "ValueError: lost (tasks 'mine')" in done.err
    assert done.out == ""


def test_script_needs_no_main_guard() -> None:
    done = run_script(
        """
        import nornir_pools as pools
        print("once")
        def double(n):
            return 2 * n
        print(list(pools.GetMultithreadingPool("p", 2).map(double, range(3))))
        """
    )
    assert (done.status, done.out, done.err) == (0, "once\n[0, 2, 4]\n", "")


def test_checks_hold_without_assertions() -> None:
    done = run_script(
        """
        import nornir_pools as pools
        pool = pools.GetThreadPool("p", 1)
        def refused(error, func, *args):
            try:
                func(*args)
            except error:
                return
            raise SystemExit(f"{func} was not refused")
        refused(pools.PoolKindError, pools.GetProcessPool, "p")
        refused(TypeError, pool.add_task, "t", 5)
        pool.shutdown()
        refused(pools.PoolClosedError, pool.add_task, "t", abs, 1)
        commands = pools.GetProcessPool("c", 1)
        commands.shutdown()
        refused(pools.PoolClosedError, commands.add_process, "c", "touch ran")
        """,
        "-O",
    )
    assert (done.status, done.err) == (0, "")
    assert not Path("ran").exists()


WAITING = """
import os, pathlib, signal, time
import nornir_pools as pools
def work():
    pathlib.Path("pid").write_text(str(os.getpid()))
    os.rename("pid", "started")
    time.sleep(50)
pool = {get}
task = {add}
while not os.path.exists("started"):
    time.sleep(0.01)
if {other}:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
{wait}
"""
ADDS = {
    "commands": "pool.add_process('c', 'echo $$ > pid; mv pid started; exec sleep 50')",
    "processes": "pool.add_task('t', work)",
}
MARK = 'open("waiting", "w").close()\n'
# Python itself drops an interrupt that comes once the script's text is over and before the exit hooks are called.
AT_EXIT = f"""
wait = pool.wait_completion
def wait_completion():
    {MARK}
    wait()
pool.wait_completion = wait_completion
"""
WAITS = {
    "a wait": MARK + "task.wait()",
    "its event": MARK + "task.completed.wait()",
    "room for another task": f"for _ in range(100): pool.submit(abs, 1)\n{MARK}pool.add_task('t', abs, 1)",
    "the end of a task called off": f"pool._end_running = lambda task: True\n{MARK}pool.cancel(task, running=True)",
    "another pool's task": MARK + "pools.GetSerialPool('s').add_task('t', print, task)",
    "the with statement": MARK + "with pool: pass",
    "shutdown": MARK + "pool.shutdown()",
    "waiting for all": MARK + "pools.WaitOnAllPools()",
    "closing all": MARK + "pools.ClosePools()",
    "the end of the script": AT_EXIT,
}


@pytest.mark.parametrize("where", WAITS)
@pytest.mark.parametrize("kind", ADDS)
@pytest.mark.parametrize("other", [False, True], ids=["", "though another thread takes the signal"])
def test_interrupt_ends_script_workers_and_commands_wherever_it_waits(kind: str, where: str, other: bool) -> None:
    try:
        text = WAITING.format(get=GET[kind], add=ADDS[kind], wait=WAITS[where], other=other)
        done = run_script(text, interrupt_at="waiting", seconds=15)
        until(lambda: not is_alive(int(Path("started").read_text())), "it lives on")
        assert "KeyboardInterrupt" in done.err
    finally:
        end(int(Path("started").read_text()))


def end(pid: int) -> None:
    """A test that fails leaves nothing behind either."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_interrupt_that_the_script_handles_ends_no_task() -> None:
    done = run_script(
        """
        import os, time
        import nornir_pools as pools
        pool = pools.GetProcessPool("p", 1)
        task = pool.add_process("c", "touch started; until [ -e go ]; do sleep 0.01; done; echo done")
        while not os.path.exists("started"):
            time.sleep(0.01)
        try:
            open("waiting", "w").close()
            task.wait()
        except KeyboardInterrupt:
            open("go", "w").close()
        print(task.wait_return(), end="")
        """,
        interrupt_at="waiting",
    )
    assert (done.status, done.out, done.err) == (0, "done\n", "")


def test_forked_child_ends_cleanly_and_so_does_the_parent() -> None:
    done = run_script(
        """
        import os, sys, time
        import nornir_pools as pools
        pool, workers = pools.GetThreadPool("t", 1), pools.GetMultithreadingPool("p", 1)
        pool.submit(abs, -1).wait()
        worker = workers.submit(os.getpid).wait_return()
        pid = os.fork()
        if not pid:
            pool.submit(abs, -1).wait()
            sys.exit(5)  # with all exit hooks, as a script would
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), workers.submit(os.getpid).wait_return() == worker)
        """,
        "-W",
        "ignore:This process:DeprecationWarning",  # Python's word of caution about fork and threads
    )
    assert (done.status, done.out, done.err) == (0, "5 True\n", "")


def test_no_helper_process_is_left() -> None:
    done = run_script(
        """
        import os
        import nornir_pools as pools
        pools.GetMultithreadingPool("p", 2).submit(os.getpid).wait()
        print(os.getpgid(0))
        """
    )
    assert done.status == 0
    group = int(done.out)
    until(lambda: not group_is_alive(group), "processes are left")
