"""Windows and macOS: pools of one machine need nothing that only Linux, or only POSIX, has; a cluster pool says that it does.

The scripts run with those modules, functions and signals hidden from the package (``elsewhere/sitecustomize.py``), in the
script and in its worker processes, which are spawned. They have no ``__main__`` guard.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .script import ROOT, run_script

pytestmark = pytest.mark.parametrize("system", ["windows", "macos"])

GET = {
    "serial": "pools.GetSerialPool('p', 2)",
    "threads": "pools.GetThreadPool('p', 2)",
    "processes": "pools.GetMultithreadingPool('p', 2)",
    "commands": "pools.GetProcessPool('p', 2)",
    "machine": "pools.GetLocalMachinePool('p', 2)",
    "debug": "pools.GetClusterPool('p', executor='debug')",
}
USE = """
import os, subprocess
import numpy as np
import nornir_pools as pools
from nornir_pools import *

print("once")
class OwnError(Exception):
    pass
def double(n):
    if n == 3:
        raise OwnError("three")
    return 2 * n

pool = {get}
tasks = [pool.add_task("t", double, n) for n in range(40)]
try:
    tasks[3].wait_return()
except OwnError as error:
    assert str(error) == "three"
assert [task.wait_return() for n, task in enumerate(tasks) if n != 3] == [2 * n for n in range(40) if n != 3]
pool.wait_completion()
assert all(task.iscompleted for task in tasks)
array = np.arange(300_000.0)
assert (pool.submit(np.add, pool.share(array), array).result() == 2 * array).all()
assert list(pool.map(abs, [-1, -2])) == [1, 2]
command = pool.add_process("c", "echo out; echo $MARK >&2; exit 3", env=dict(os.environ, MARK="mark"))
assert (command.wait_return(), command.stderrdata.strip(), command.returncode) == ("out\\n", "mark", 3)
try:
    pool.add_process("slow", "exec sleep 20", timeout=0.2).wait_return()
except subprocess.TimeoutExpired:
    print("in time")
{more}
WaitOnAllPools()
ReleaseStagePools()
FastClosePools()
print("end")
"""
APART = """
def nested():
    with GetMultithreadingPool("inside", 1) as inside:
        return inside.submit(double, 4).result()
assert pool.submit(nested).result() == 8
try:
    pool.submit(os._exit, 3).result()
except WorkerDiedError as error:
    assert error.exitcode == 3, error
assert pool.submit(double, 1).result() == 2
assert pool.submit(os.getpid).result() != os.getpid()
"""


@pytest.fixture(autouse=True)
def elsewhere(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_TEST_SYSTEM", system)
    monkeypatch.setattr("tests.unit.script.ROOT", f"{Path(__file__).parent / 'elsewhere'}{os.pathsep}{ROOT}")


@pytest.mark.parametrize("pool", GET)
def test_pools_of_one_machine_are_whole_there(system: str, pool: str) -> None:
    done = run_script(USE.format(get=GET[pool], more=APART if pool in ("processes", "machine") else ""))
    assert (done.status, done.out, done.err) == (0, "once\nin time\nend\n", "")


def test_a_cluster_pool_says_in_one_sentence_that_it_needs_linux(system: str) -> None:
    done = run_script(
        """
        import nornir_pools as pools
        assert not pools.IsClusterAvailable()
        for get in (pools.GetGlobalClusterPool, pools.GetClusterPool, pools.GetParallelPythonPool):
            for executor in (None,) if get is not pools.GetClusterPool else (None, "local", "slurm", "auto"):
                try:
                    get() if executor is None else get("c", executor=executor)
                except pools.OptionError as error:
                    print(error)
        assert not pools.dictKnownPools
        """
    )
    platform = {"windows": "win32", "macos": "darwin"}[system]
    assert done.status == 0, done.err
    assert set(done.out.splitlines()) == {
        f"pool {name!r}: a cluster pool needs Linux, and this is {platform}: use GetLocalMachinePool, whose pools take "
        'the same calls and commands, or executor="debug"'
        for name in ("Global cluster pool", "c")
    }
    assert len(done.out.splitlines()) == 6


def test_shared_memory_and_profiles_are_there_too(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_PROFILE", "profiles")
    done = run_script(
        """
        import nornir_pools as pools
        manager = pools.get_or_create_shared_memory_manager()
        block = manager.SharedMemory(8)
        block.buf[0] = 7
        def read(name):
            from multiprocessing.shared_memory import SharedMemory
            import nornir_pools as pools
            pools.get_or_create_shared_memory_manager()
            block = SharedMemory(name)
            value = block.buf[0]
            block.close()
            return value
        print(pools.GetMultithreadingPool("p", 1).submit(read, block.name).result())
        block.close()
        """
    )
    assert (done.status, done.out) == (0, "7\n"), done.err
    assert Path("profiles/script_aggregate.pstats").exists()


def test_a_file_of_settings_is_read_there(system: str) -> None:
    Path("nornir_pools.toml").write_text("max_jobs = 3\n", encoding="utf-8")
    Path("nornir_pools.toml").chmod(0o644)
    done = run_script(
        """
        import nornir_pools as pools
        print(pools.GetClusterPool("c", executor="debug").options.max_jobs, pools.ApplyOSThreadLimit(5000))
        """
    )
    assert (done.status, done.out) == (0, f"3 {1024 if system == 'windows' else 5000}\n"), done.err
