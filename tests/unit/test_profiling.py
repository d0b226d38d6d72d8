"""NORNIR_PROFILE: what workers did, in one file when the script has ended."""

from __future__ import annotations

import os
import pstats
from pathlib import Path
from typing import Any

import pytest

from nornir_pools.here import PROFILES
from nornir_pools.profiling import call_profiled

from .script import run_script

SCRIPT = """
import os, sys
import nornir_pools as pools

def of_mine(n):
    return n + 1

def around_it(n):
    if n == 3:
        raise ValueError("one of them fails")
    return of_mine(n)

if {in_folder!r}:
    os.mkdir("elsewhere"); os.chdir("elsewhere")  # the folder is that of the moment the pool was made
pool = {get}
tasks = [pool.add_task("t", around_it, n) for n in range(8)]
pool.add_task("nested", lambda: sum(pools.GetMultithreadingPool("in", 1).map(of_mine, [1, 2]))).wait_return()
print(sum(task.exception() is None for task in tasks))
{end}
"""
GET = {
    "processes": "pools.GetMultithreadingPool('p', 2)",
    "jobs": "pools.GetClusterPool('p', 2, executor='local', folder='runs')",
}


def calls_in(path: Path) -> dict[str, int]:
    stats: Any = pstats.Stats(str(path))
    calls = {"of_mine": 0, "around_it": 0}
    for (_, _, name), value in stats.stats.items():
        if name in calls:
            calls[name] += value[1]
    return calls


@pytest.mark.parametrize("get", GET)
@pytest.mark.parametrize("end", ["", "raise SystemExit(0)"])
def test_profiles_of_all_workers_are_put_together(get: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_PROFILE", "profiles")
    done = run_script(SCRIPT.format(get=GET[get], in_folder=False, end=end))
    assert (done.status, done.out) == (0, "7\n"), done.err
    assert [path.name for path in Path("profiles").iterdir()] == ["script_aggregate.pstats"]
    assert calls_in(Path("profiles/script_aggregate.pstats")) == {"of_mine": 7 + 2, "around_it": 8}


def test_a_task_may_empty_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PROFILES, str(tmp_path))
    assert call_profiled(os.environ.pop, PROFILES) == str(tmp_path)
    assert len(list(tmp_path.glob("*.pstats"))) == 1


def test_what_a_killed_worker_has_done_before_is_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NORNIR_PROFILE", str(tmp_path / "profiles"))
    script = SCRIPT.format(
        get=GET["processes"], in_folder=True, end="pool.add_task('die', os.kill, 0, 0)\npools.FastClosePools()"
    )
    done = run_script(script.replace("os.kill, 0, 0", "os._exit, 1"))
    assert (done.status, done.out) == (0, "7\n"), done.err
    assert calls_in(tmp_path / "profiles/script_aggregate.pstats") == {"of_mine": 9, "around_it": 8}


def test_without_it_nothing_is_written() -> None:
    done = run_script(SCRIPT.format(get=GET["processes"], in_folder=False, end=""))
    assert (done.status, done.out) == (0, "7\n")
    assert not list(Path().rglob("*.pstats"))


def test_a_task_with_a_profiler_of_its_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_PROFILE", "profiles")
    done = run_script(
        """
        import cProfile
        import nornir_pools as pools

        def own():
            profile = cProfile.Profile()
            try:
                profile.enable()
            except ValueError:  # from Python 3.12 on there is but one at a time
                return "other"
            profile.disable()
            return "own"

        pool = pools.GetMultithreadingPool("p", 1)
        print(pool.add_task("own", own).wait_return() in ("own", "other"), pool.add_task("t", abs, -1).wait_return())
        """
    )
    assert (done.status, done.out) == (0, "True 1\n"), done.err
