"""A script that is run again does what is missing, has failed or has changed, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

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
    wanted = rng.randrange(1, count)
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
    count += count // 10
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
        return pools.GetClusterPool("work", 2, folder="runs", **{"executor": "local", "resume": True, **options})

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


# --- tasks as arguments


def slow_array(gate: str, n: int) -> Any:
    functions.append_line("ledger", f"array {n}")
    functions.wait_for_file(gate)
    return functions.make_array(n)


def total(word: str, *values: Any, **more: Any) -> str:
    functions.append_line("ledger", word)
    return " ".join([word, *(str(int(value.sum()) if isinstance(value, np.ndarray) else value) for value in values), str(more)])


def large_outcomes() -> list[Path]:
    return [path for path in Path("runs").glob("*/packs/*/*") if path.is_file()]


def test_a_child_is_done_without_its_parents_and_one_that_is_run_again_gets_their_values(
    get: Callable[..., ClusterPool],
) -> None:
    def script(*new: int, gate: str = "gate") -> tuple[dict[str, Any], ClusterPool]:
        pool = get()
        tasks: dict[str, Any] = {"array": pool.add_task("array", slow_array, gate, 100_000)}
        tasks["small"] = pool.add_task("small", count_and_add, 1)
        tasks["other"] = pool.add_task("other", count_and_add, *new or [2])
        tasks["command"] = pool.add_process("command", "echo x >>commands; printf out")
        tasks["child"] = pool.add_task("child", total, "child", tasks["array"], {"key": tasks["command"]}, a=tasks["small"])
        tasks["changed"] = pool.add_task("changed", total, "changed", *(tasks[name] for name in list(tasks)[:4]))
        tasks["after"] = pool.with_options(after=tasks["other"]).add_task("after", total, "after")
        return tasks, pool

    Path("gate").touch()
    tasks, pool = script()
    first = {name: task.wait_return(40) for name, task in tasks.items() if name != "array"}
    assert first["child"] == "child 4999950000 {'key': 'out'} {'a': 2}"
    assert first["changed"] == "changed 4999950000 2 3 out {}"
    pool.shutdown()
    before = sorted(lines("ledger"))
    tasks, pool = script()
    assert {name: task.wait_return(40) for name, task in tasks.items() if name != "array"} == first
    assert tasks["array"].wait_return().sum() == 4999950000
    pool.shutdown()
    assert (sorted(lines("ledger")), lines("commands")) == (before, ["x"])

    tasks, pool = script(3)  # what has other parents is run again, with the values of those that are not
    assert tasks["changed"].wait_return(40) == "changed 4999950000 2 4 out {}"
    assert tasks["array"]._unread is not None  # its value took no way through the script
    assert tasks["after"].wait_return(40) == first["after"]
    pool.shutdown()
    view = pools.look("work")
    assert sorted(lines("ledger")) == sorted([*before, "3", "changed", "after"])
    again = dict.fromkeys(("other", "changed", "after"), "its arguments have changed")
    assert {task.name: task.again for task in view.tasks if task.again} == again

    Path("gate").unlink()
    (path,) = large_outcomes()
    path.unlink()
    tasks, pool = script(3)
    assert tasks["child"].wait_return(40) == first["child"]  # at once, though its parent is run again
    assert not tasks["array"].done()
    Path("gate").touch()
    assert tasks["array"].wait_return(40).sum() == 4999950000
    pool.shutdown()
    assert pools.look("work").task("array").again.startswith("its result is gone: ")


def test_what_waited_for_its_parents_is_run_once(get: Callable[..., ClusterPool]) -> None:
    def script(*, swapped: bool = False) -> dict[str, Any]:
        pool = get()
        tasks = {"array": pool.add_task("array", slow_array, "gate", 1000), "small": pool.add_task("small", count_and_add, 1)}
        family = {"a": tasks["array"], "b": tasks["small"]}
        tasks["child"] = pool.add_task("child", functions.echo, **dict(reversed(family.items())) if swapped else family)
        tasks["grandchild"] = pool.add_task("grandchild", total, "grandchild", [tasks["child"]])
        tasks["changed"] = pool.add_task("changed", total, "new" if swapped else "old", tasks["array"])
        if not swapped:
            tasks["forgotten"] = pool.add_task("forgotten", total, "forgotten", tasks["array"])
        return tasks

    tasks = script()
    tasks["small"].wait(40)
    until(lambda: "array" in lines("ledger"), "the parent does not start", 40)
    pools.GetClusterPool("work").detach()
    tasks = script(swapped=True)
    assert not any(task.done() for name, task in tasks.items() if name != "small")
    view = pools.look("work")
    assert view.task("child").waits_for == (view.task("array").number,)
    Path("gate").touch()
    found = tasks["child"].wait_return(40)[1]
    assert (found["a"].sum(), found["b"]) == (499500, 2)
    assert tasks["grandchild"].wait_return(40).startswith("grandchild [")
    assert tasks["changed"].wait_return(40) == "new 499500 {}"
    pool = tasks["child"]._pool
    pool.wait_completion()  # it does not wait for what nobody has added again
    pool.shutdown()
    assert sorted(lines("ledger")) == sorted(["array", "1000", "1", "grandchild", "new"])
    view = pools.look("work")
    assert {task.name: task.state for task in view.tasks if task.state != "succeeded"} == {"forgotten": "cancelled"}
    assert {task.name: task.again for task in view.tasks if task.again} == {"changed": "its arguments have changed"}
    assert len(view.tasks) == len(tasks) + 1
    before = sorted(lines("ledger"))
    assert script()["child"].wait_return(40)[1]["b"] == 2
    until(lambda: sorted(lines("ledger")) == sorted([*before, "old", "forgotten"]), "it is not run", 40)


def test_a_family_that_has_failed_is_run_again(get: Callable[..., ClusterPool]) -> None:
    def script() -> list[Any]:
        pool = get()
        bad = pool.add_task("bad", fail_until, "mark")
        child = pool.add_task("child", total, "child", bad)
        unlike = pool.add_task("unlike", total, "unlike", pools.GetThreadPool("threads", 1).add_task("one", count_and_add, 1))
        found = [task.exception(40) or task.wait_return() for task in (bad, child, unlike)]
        pool.shutdown()
        return found

    assert isinstance(script()[1], pools.ParentFailedError)
    assert not any(task.again for task in pools.look("work").tasks)
    Path("mark").touch()
    for _ in range(2):
        assert script() == ["mended", "child mended {}", "unlike 2 {}"]
    assert sorted(lines("ledger")) == ["1"] * 3 + ["child"] + ["mark"] * 2 + ["unlike"] * 3
    view = pools.look("work")
    assert view.task("child").again.startswith("it had failed: ParentFailedError: ")
    assert "task 'one' among them cannot be compared either" in view.task("unlike").again
    assert view.counts["succeeded"] == len(view.tasks) == 3


def test_what_still_runs_can_be_cancelled_by_the_next_script(get: Callable[..., ClusterPool]) -> None:
    pool = get()
    pool.add_task("running", functions.touch_and_wait, "up", "go")
    until(Path("up").exists, "the task does not start", 40)
    pool.detach()
    pool = get()
    running = pool.add_task("running", functions.touch_and_wait, "up", "go")
    child = pool.add_task("child", total, "child", running)
    assert running.running()
    assert pool.cancel(running, running=True)
    assert child.cancelled()
    pool.shutdown()
    pool = get()
    Path("go").touch()
    assert pool.add_task("running", functions.touch_and_wait, "up", "go").wait_return(40) is None
    assert pools.look("work").task("running").again == "it was cancelled"


# --- runs of another kind of jobs, another machine, another Python


@pytest.mark.slurm
@pytest.mark.parametrize("kinds", [("local", "slurm"), ("slurm", "local")])
def test_a_run_that_is_over_is_gone_on_with_by_another_kind_of_jobs(
    get: Callable[..., ClusterPool], slurm: Slurm, kinds: tuple[str, str]
) -> None:
    pool = get(executor=kinds[0])
    assert [pool.add_task("t", count_and_add, n).wait_return(60) for n in range(3)] == [1, 2, 3]
    again = get(executor=kinds[1])
    assert [again.add_task("t", count_and_add, n).wait_return(60) for n in range(5)] == [1, 2, 3, 4, 5]
    assert lines("ledger") == ["0", "1", "2", "3", "4"]
    assert again.folder is not None
    assert again.folder == pool.folder
    view = pools.look(again.folder)
    assert (view.executor, view.counts["succeeded"]) == (kinds[1], 5)
    assert [task.job.startswith("L") for task in view.tasks] == [kinds[0] == "local"] * 3 + [kinds[1] == "local"] * 2


def test_one_of_another_machine_that_is_over_is_gone_on_with(get: Callable[..., ClusterPool]) -> None:
    run = run_of(get, host="another")
    again = get()
    assert again.add_task("t", count_and_add, 1).wait_return(40) == 2
    assert (lines("ledger"), again.folder) == (["1"], run)


@pytest.mark.slurm
def test_one_that_is_not_over_is_left_alone_by_another_kind_of_jobs_until_it_is_cancelled(
    get: Callable[..., ClusterPool], slurm: Slurm, caplog: pytest.LogCaptureFixture
) -> None:
    first = get(executor="slurm")
    assert first.add_task("done", count_and_add, 1).wait_return(60) == 2
    first.add_task("runs", functions.touch_and_wait, "mark", "go")
    until(Path("mark").exists, "the task does not start", 60)
    first.detach()
    other = get()
    assert other.add_task("done", count_and_add, 1).wait_return(40) == 2
    assert first.folder is not None
    assert other.folder is not None
    assert other.folder != first.folder
    advice = f"nornir-pools cancel {first.folder.name} ends it, and then it can be gone on with"
    assert f"all is run anew: its executor is slurm, not local, and not all of it is over; {advice}" in caplog.text
    assert lines("ledger") == ["1", "1"]
    pools.ClosePools()
    shutil.rmtree(other.folder)
    pools.cancel(first.folder)
    until(lambda: not slurm.jobs(), "its job is not cancelled", 40)
    Path("go").touch()
    with (first.folder / "journal.jsonl").open("a") as journal:
        journal.write('{"t": "idle", "wor')  # the machine went down
    last = get()
    tasks = [last.add_task("done", count_and_add, 1), last.add_task("runs", functions.touch_and_wait, "mark", "go", "value")]
    assert [task.wait_return(40) for task in tasks] == [2, "value"]
    assert (last.folder, lines("ledger")) == (first.folder, ["1", "1"])
    entries = [line for line in (first.folder / "journal.jsonl").read_text().splitlines() if line.startswith('{"t": "closed"')]
    assert len(entries) == 1  # so that SLURM's jobs are not looked for among this machine's processes


def test_one_of_another_python_is_left_alone(get: Callable[..., ClusterPool], caplog: pytest.LogCaptureFixture) -> None:
    run_of(get, python="3.9")
    assert get().add_task("t", count_and_add, 1).wait_return(40) == 2
    assert "cannot be resumed, so all is run anew: its python is 3.9, not 3." in caplog.text
    assert lines("ledger") == ["1", "1"]


def run_of(get: Callable[..., ClusterPool], **facts: str) -> Path:
    """A run with one task that is over, which says of itself what it is told to."""
    pool = get()
    assert pool.add_task("t", count_and_add, 1).wait_return(40) == 2
    pools.ClosePools()
    assert pool.folder is not None
    description = pool.folder / "run.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), **facts}))
    return pool.folder
