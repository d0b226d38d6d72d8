"""A script that is run again does what is missing, has failed or has changed, and nothing else."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(120)


def lines(name: str) -> list[str]:
    return Path(name).read_text().split() if Path(name).exists() else []


def start(executor: str, count: int, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.resumed", executor, str(count), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_and_run_again(executor: str, count: int, seconds: float, rng: random.Random) -> tuple[int, str]:
    """Returns how many tasks were done when the script was killed, and what the second one has logged."""
    wanted = rng.randrange(count)
    script = start(executor, count, seconds)
    try:
        until(lambda: len(lines("begun")) >= wanted, "tasks do not run", 60)
        time.sleep(rng.uniform(0, seconds))
    finally:
        script.kill()
        script.communicate()
    done = len(lines("done"))
    again = start(executor, count, seconds)
    try:
        _, log = again.communicate(timeout=90)
    finally:
        again.kill()
    assert again.returncode == 0, log
    return done, log


def check_that_each_ran_once(count: int) -> None:
    for file in ("begun", "done"):
        assert Counter(map(int, lines(file))) == Counter(range(count)), file
    (run,) = Path("runs").iterdir()
    assert pools.look(run).counts == {"waiting": 0, "running": 0, "succeeded": count, "failed": 0, "cancelled": 0}


@pytest.mark.slow
def test_1000_tasks_run_once_though_the_script_was_killed_at_some_moment(capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(10**6)
    done, log = kill_and_run_again("local", 1000, 0.02, random.Random(seed))
    with capsys.disabled():
        sys.stderr.write(f"\na script of 1000 tasks killed, seed {seed}, when {done} were done; {log.splitlines()[-1]}\n")
    check_that_each_ran_once(1000)


def test_a_script_that_was_killed_is_run_again(executor: str) -> None:
    _, log = kill_and_run_again(executor, 20, 0.1, random.Random())
    assert "goes on with the run again-" in log
    check_that_each_ran_once(20)


@pytest.fixture
def get() -> Iterator[Callable[..., ClusterPool]]:
    """Gives the pool, as in a script that is run again."""

    def make(**options: object) -> ClusterPool:
        pools.ClosePools()
        return pools.GetClusterPool("work", 2, executor="local", folder="runs", **{"resume": True, **options})

    yield make
    pools.ClosePools()


def count_and_add(a: int, b: int = 1) -> int:
    functions.append_line("ledger", a)
    return a + b


def read_once(path: Path) -> str:
    functions.append_line("ledger", path.name)
    return path.read_text()


def fail_until(mark: str) -> str:
    functions.append_line("ledger", mark)
    if not os.path.exists(mark):
        raise ValueError(f"{mark} is missing")
    return "mended"


def test_after_a_script_that_has_ended_results_are_there(
    get: Callable[..., ClusterPool], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nornir_pools")

    def script() -> list[object]:
        pool = get()
        tasks = [pool.add_task("same", count_and_add, 1), pool.add_task("same", count_and_add, 1)]
        tasks.append(pool.add_task("large", bytes, 200_000))
        command = pool.add_process("command", "echo x >>commands; echo out; echo err >&2")
        values = [*(task.wait_return(40) for task in tasks), command.wait_return(40), command.stderrdata, command.returncode]
        pool.shutdown()
        return values

    first = script()
    assert script() == first == [2, 2, bytes(200_000), "out\n", "err\n", 0]
    assert (lines("ledger"), lines("commands")) == (["1", "1"], ["x"])
    assert "in all: 4 results were reused" in caplog.text
    run = pools.look("work")
    assert [task.reused is not None for task in run.tasks] == [True] * 4
    pool = get()
    assert pool.add_task("large", bytes, 100).wait_return(40) == bytes(100)
    pool = get()
    assert pool.add_task("large", bytes, 100).wait_return(40) == bytes(100)
    assert pool.add_task("large", bytes, 200_000).wait_return(40) == bytes(200_000)  # (the one of that name was added just now)
    assert pools.look("work").task(5).again == "its arguments have changed"
    third = [pool.add_task("same", count_and_add, 1) for _ in range(3)]
    assert [task.wait_return(40) for task in third] == [2, 2, 2]
    assert lines("ledger") == ["1", "1", "1"]


def why(task: str) -> str:
    """What the command says of a task of the pool."""
    done = subprocess.run(
        [sys.executable, "-m", "nornir_pools", "why", "work", task],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_what_has_failed_or_changed_is_run_again_and_said_why(
    get: Callable[..., ClusterPool], caplog: pytest.LogCaptureFixture
) -> None:
    Path("file").write_text("one")
    Path("folder").mkdir()

    def script(n: int, version: str) -> list[object]:
        pool = get()
        tasks = [
            pool.add_task("failing", fail_until, "mark"),
            pool.add_task("changing", count_and_add, n),
            pool.add_task("reading", read_once, Path("file")),
            pool.with_options(version=version).add_task("versioned", count_and_add, 7),
            pool.add_process("command", "echo x >>commands; test -e mark"),
        ]
        values = [task.exception(40) or task.wait_return() for task in tasks]
        pool.shutdown()
        return values

    assert repr(script(1, "a")[0]) == "ValueError('mark is missing')"
    Path("mark").touch()
    Path("file").write_text("three")
    caplog.set_level(logging.INFO, "nornir_pools")
    assert script(2, "b") == ["mended", 3, "three", 8, ""]
    assert sorted(lines("ledger")) == ["1", "2", "7", "7", "file", "file", "mark", "mark"]
    view = pools.look("work")
    assert {task.name: task.again for task in view.tasks} == {
        "failing": "it had failed: ValueError: mark is missing",
        "changing": "its arguments have changed",
        "reading": "a file among its arguments has changed",
        "versioned": "its version= has changed",
        "command": "it had failed: exit status 1",
    }
    assert view.counts["succeeded"] == len(view.tasks) == 5
    assert "task 'failing' is run again: it had failed: ValueError" in caplog.text
    assert (view.info.path / "journal.jsonl").read_text().count('"t": "group"') == 1  # versions share jobs
    before = lines("ledger")
    assert "again     though an earlier script had added it: it had failed: ValueError: mark" in why("failing")
    assert script(2, "b") == ["mended", 3, "three", 8, ""]
    assert lines("ledger") == before
    assert "reused    its result" in why("changing")


def test_what_a_left_run_still_does_is_not_done_twice(get: Callable[..., ClusterPool]) -> None:
    pool = get()
    pool.add_task("running", functions.touch_and_wait, "up", "go", 7)
    waiting = [pool.add_task(f"waiting {n}", count_and_add, n) for n in range(5)]
    until(Path("up").exists, "the task does not start", 40)
    until(lambda: len(lines("ledger")) == 5, "the others do not run")
    assert waiting
    pool.add_task("forgotten", functions.touch_and_wait, "also up", "go")
    until(Path("also up").exists, "the task does not start", 40)
    pool.add_task("stale", count_and_add, 100)
    pool.detach()
    pool = get()
    running = pool.add_task("running", functions.touch_and_wait, "up", "go", 7)
    again = [pool.add_task(f"waiting {n}", count_and_add, n) for n in range(5)]
    stale = pool.add_task("stale", count_and_add, 200)  # its old call is called off
    assert [task.wait_return(40) for task in again] == [1, 2, 3, 4, 5]
    assert not running.done()
    Path("go").touch()
    assert (running.wait_return(40), stale.wait_return(40)) == (7, 201)
    assert sorted(lines("ledger")) == ["0", "1", "2", "200", "3", "4"]
    pool.shutdown()
    assert len(list(Path("runs").iterdir())) == 1


def test_a_run_that_lives_is_refused_and_one_without_the_option_left_alone(get: Callable[..., ClusterPool]) -> None:
    pool = get(resume=False)
    assert pool.add_task("t", count_and_add, 1).wait_return(40) == 2
    pool = get()
    assert pool.add_task("t", count_and_add, 1).wait_return(40) == 2
    text = "import nornir_pools as p; p.GetClusterPool('work', executor='local', folder='runs').add_task('t', len, '')"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NORNIR_POOLS_RESUME": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"RunBusyError: the run {pool.folder.name} is held by process {os.getpid()} on" in done.stderr  # type: ignore[union-attr]
    assert len(list(Path("runs").iterdir())) == 2


def test_an_interrupted_run_goes_on(get: Callable[..., ClusterPool]) -> None:
    pool = get()
    assert pool.add_task("done", count_and_add, 1).wait_return(40) == 2
    pool.add_task("cut", functions.touch_and_wait, "up", "go")
    until(Path("up").exists, "the task does not start", 40)
    pool.abandon()
    Path("go").touch()
    pool = get()
    tasks = [pool.add_task("done", count_and_add, 1), pool.add_task("cut", functions.touch_and_wait, "up", "go")]
    assert [task.wait_return(40) for task in tasks] == [2, None]
    assert lines("ledger") == ["1"]
    assert {task.name: task.again for task in pools.look("work").tasks} == {"done": "", "cut": "it was cancelled"}
