"""Where pools are made and used: a notebook, a server's forked worker, a thread other than the main one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .script import ROOT, run_script

GET = {
    "serial": "pools.GetSerialPool({!r})",
    "threads": "pools.GetThreadPool({!r}, 2)",
    "processes": "pools.GetMultithreadingPool({!r}, 2)",
    "commands": "pools.GetProcessPool({!r}, 2)",
    "machine": "pools.GetLocalMachinePool({!r}, 2)",
    "cluster": "pools.GetClusterPool({!r}, 2, executor='local', folder='runs')",
}
USE = """
def double(n):
    return 2 * n

def bad():
    raise ValueError("bad tile")

def use(pool):
    tasks = [pool.add_task("t", double, n) for n in range(5)]
    command = pool.add_process("c", "echo out; exit 3")
    failed = pool.add_task("bad", bad)
    assert [task.wait_return() for task in tasks] == [0, 2, 4, 6, 8]
    assert (command.wait_return(), command.returncode) == ("out\\n", 3)
    try:
        failed.wait()
    except ValueError as error:
        assert str(error) == "bad tile"
    assert list(pool.map(double, [1, 2])) == [2, 4]
    pool.wait_completion()
    return len(tasks)
"""
IGNORE = ("-W", "ignore:This process:DeprecationWarning")  # Python's word of caution about fork and threads


@pytest.fixture(params=GET)
def get(request: pytest.FixtureRequest) -> str:
    return GET[request.param]


def test_a_notebooks_main_thread_has_a_running_loop(get: str) -> None:
    """Cells are run from inside of it, in a main module without a file, and the loop goes on between them."""
    cells = [
        "import asyncio\nimport nornir_pools as pools",
        USE,
        f"pool = {get.format('p')}\nprint(use(pool))",
        "class Own(Exception):\n    pass\ndef own():\n    raise Own('mine')\ntask = pool.add_task('own', own)",
        "try:\n    task.wait()\nexcept Own as error:\n    print(error)",
        "waiting = asyncio.get_running_loop().create_task(_awaited(pool))",
        "pool.wait_completion()",
    ]
    program = f"""
import asyncio, ast, sys
async def _awaited(pool):
    loop = asyncio.get_running_loop()
    return await pool.add_task("t", double, 4) + await loop.run_in_executor(pool, double, 5)
async def kernel():
    sys.ps1 = "In : "
    for cell in {cells!r}:
        exec(compile(cell, "<cell>", "exec"), vars(sys.modules["__main__"]))
        await asyncio.sleep(0)
    print(await waiting)
asyncio.run(kernel())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\nmine\n18\n", "")


def test_a_cell_that_was_interrupted_ends_no_task_of_the_notebook() -> None:
    done = run_script(
        """
        import os, sys, time
        import nornir_pools as pools
        sys.ps1 = "In : "
        pool = pools.GetMultithreadingPool("p", 1)
        def work():
            while not os.path.exists("go"):
                time.sleep(0.01)
            open("done", "w").close()
        task = pool.add_task("t", work)
        try:
            open("waiting", "w").close()
            task.wait()
        except KeyboardInterrupt:  # as a kernel does, which then waits for the next cell, and ends much later
            sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
        open("go", "w").close()
        """,
        interrupt_at="waiting",
    )
    assert (done.status, done.err) == (0, "")
    assert Path("done").exists()


def test_a_servers_forked_worker_has_pools_of_its_own(get: str) -> None:
    """The parent has used its pools, and goes on; the child makes its own, uses the global ones, and ends."""
    end = "pools.ClosePools(); os._exit(5)" if "Machine" in get else "sys.exit(5)"  # (the former runs no exit hooks)
    done = run_script(
        f"""
        import os, sys, threading
        import nornir_pools as pools
        {USE.replace(chr(10), chr(10) + " " * 8)}
        parents = {get.format("mine")}
        use(parents)
        use(pools.GetGlobalThreadPool())
        pid = os.fork()
        if not pid:
            assert not pools.dictKnownPools
            mine = {get.format("mine")}
            assert mine is not parents
            use(mine)
            use(pools.GetGlobalThreadPool())
            use(pools.GetGlobalMultithreadingPool())
            {end}
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(status, use(parents), {get.format("mine")} is parents)
        """,
        *IGNORE,
        seconds=50,
    )
    assert (done.status, done.out, done.err) == (0, "5 5 True\n", "")


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2), reason="this Python starts no thread once its main thread has ended (gh-113964)"
)
def test_pools_can_be_made_and_used_in_any_thread(get: str) -> None:
    """Also by one that goes on when the main thread has come to its end."""
    done = run_script(
        f"""
        import threading
        import nornir_pools as pools
        {USE.replace(chr(10), chr(10) + " " * 8)}
        pools.ApplyOSThreadLimit(1)  # the package has been used
        def serve(name):
            threading.main_thread().join()
            shared, own = {get.format("one")}, {get.replace("{!r}", "name")}
            print(str(sum(shared.map(double, range(5))) + use(own)) + "\\n", end="", flush=True)  # in one piece
        threads = [threading.Thread(target=serve, args=[f"thread {{n}}"]) for n in range(2)]
        for thread in threads:
            thread.start()
        """,
        seconds=50,
    )
    assert (done.status, done.out, done.err) == (0, "25\n25\n", "")


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_script_without_a_main_guard_runs_once_whatever_its_start_method(method: str) -> None:
    """Workers do not import the main script, so that there is nothing to complain about."""
    done = run_script(
        f"""
        import multiprocessing
        import nornir_pools as pools
        print("once", flush=True)
        multiprocessing.set_start_method({method!r})
        {USE.replace(chr(10), chr(10) + " " * 8)}
        print(use(pools.GetMultithreadingPool("p", 2)), use(pools.GetLocalMachinePool("m", 2)))
        pools.get_or_create_shared_memory_manager().SharedMemory(8)
        """
    )
    assert (done.status, done.out, done.err) == (0, "once\n5 5\n", "")
