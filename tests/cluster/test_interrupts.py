"""Ctrl-C, a dropped connection, SIGTERM: what becomes of the jobs, tried at a real terminal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.local_launcher import LocalLauncher
from nornir_pools.cluster.spool import Spool

from .. import functions
from ..conftest import until
from ..terminal import Terminal
from .conftest import workers

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(autouse=True)
def no_workers_are_left() -> Iterator[None]:
    """The workers of the test's runs end with it."""
    yield
    until(lambda: not workers(Path.cwd()), "workers are left", 20)


def script(executor: str, rest: str, **options: str) -> str:
    """A script with two tasks that run, and one that waits."""
    more = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"""
import os, time
import nornir_pools as pools
from tests import functions
pool = pools.GetClusterPool("work", 2, executor={executor!r}, folder="runs"{more})
tasks = [pool.add_task(str(n), functions.touch_and_wait, f"mark{{n}}", "go", n) for n in range(2)]
while not (os.path.exists("mark0") and os.path.exists("mark1")):
    time.sleep(0.01)
tasks.append(pool.add_task("2", functions.touch_and_wait, "mark2", "go", 2))
print("ready")
{rest}
"""


def interrupt(terminal: Terminal) -> None:
    """Press Ctrl-C once the script waits. (If it comes just before a wait begins, Python may notice it only when that ends.)"""
    time.sleep(0.5)
    terminal.press("\x03")


def values() -> list[object]:
    """Attach to the run, let its tasks end, and return their values."""
    pool = pools.attach("work")
    Path("go").touch()
    return [task.wait_return(40) for task in pool.tasks]


@pytest.mark.parametrize("late", [False, True], ids=["when it ends", "after it has cancelled its jobs"])
def test_a_worker_is_ended_whose_first_word_an_interrupted_pool_reads_only(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that word tells which process it is."""
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    real, read = Spool.inbox, False
    monkeypatch.setattr(Spool, "inbox", lambda self: real(self) if read else [])
    pool.add_process("long", "touch mark; while [ ! -e go ]; do sleep 0.05; done")
    until(Path("mark").exists, "the command does not start", 40)

    def cancel(self: LocalLauncher, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        nonlocal read
        real_cancel(self, jobs, pending_only=pending_only)
        read = read or not pending_only

    real_cancel = LocalLauncher.cancel
    if late:
        monkeypatch.setattr(LocalLauncher, "cancel", cancel)
    else:
        read = True
    pool.abandon()
    assert read
    until(lambda: not workers(Path.cwd()), "a worker is left", 20)


def test_ctrl_c_ends_the_script_and_its_jobs(executor: str) -> None:
    with Terminal(script(executor, "tasks[0].wait_return()")) as terminal:
        terminal.see("ready")
        interrupt(terminal)
        assert terminal.end(20) == -signal.SIGINT
    assert "KeyboardInterrupt" in terminal.text
    assert "pool 'work': interrupted, so its 2 jobs were cancelled" in terminal.text
    until(lambda: not workers(Path.cwd()), "workers are left", 20)
    (run,) = pools.runs()
    assert run.state == "closed"
    assert not Path("mark2").exists()


def test_ctrl_c_while_the_script_waits_at_its_end_does_the_same(executor: str) -> None:
    with Terminal(script(executor, "")) as terminal:
        terminal.see("ready")
        interrupt(terminal)
        terminal.end(20)
    assert "pool 'work': interrupted, so its 2 jobs were cancelled" in terminal.text
    until(lambda: not workers(Path.cwd()), "workers are left", 20)


@pytest.mark.parametrize("executor", [pytest.param("slurm", marks=pytest.mark.slurm)], indirect=True)
def test_a_second_ctrl_c_does_not_wait_for_the_scheduler(executor: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scancel").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/hanging\nexec sleep 100\n")
    (tmp_path / "bin" / "scancel").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    with Terminal(script(executor, "tasks[0].wait_return()"), PATH=path) as terminal:
        terminal.see("ready")
        interrupt(terminal)
        until((tmp_path / "hanging").exists, "nothing is cancelled", 20)
        terminal.press("\x03")
        terminal.end(10)
        assert "interrupted again, while its jobs were being cancelled; 2 jobs go on" in terminal.text.replace("\n", " ")
    os.kill(int((tmp_path / "hanging").read_text()), signal.SIGKILL)
    assert values() == [0, 1, 2]


def test_a_wait_for_the_jobs_end_that_was_given_up_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    task = pool.add_task("t", functions.touch_and_wait, "mark", "go")
    assert pool._run is not None
    waits = iter([KeyboardInterrupt(), AssertionError("it is waited for again")])

    def wait(timeout: float | None) -> None:
        raise next(waits)

    with monkeypatch.context() as patched:
        patched.setattr(pool._run.watcher._thread, "join", wait)
        with pytest.raises(KeyboardInterrupt):
            pool.abandon()
        pool.abandon()  # as when the program ends
        pool.shutdown()
    assert task.cancelled()


def test_detach_on_ctrl_c_leaves_the_jobs_and_says_how_to_come_back(executor: str) -> None:
    with Terminal(script(executor, "tasks[0].wait_return()", on_interrupt="detach")) as terminal:
        terminal.see("ready")
        interrupt(terminal)
        assert terminal.end(20) == -signal.SIGINT
    assert "2 jobs go on; to come back to them: nornir_pools.attach('" in terminal.text
    assert values() == [0, 1, 2]


def test_a_with_block_left_by_ctrl_c_cancels_its_jobs_and_the_script_goes_on(executor: str) -> None:
    rest = """
try:
    with pool:
        print("inside")
        tasks[0].wait_return()
except KeyboardInterrupt:
    print("caught", [task.cancelled() for task in tasks])
other = pools.GetClusterPool("work", 1, executor=pool.executor, folder="runs")
print("next:", other.add_task("n", functions.add, 1).wait_return(40))
"""
    with Terminal(script(executor, rest)) as terminal:
        terminal.see("inside")
        interrupt(terminal)
        terminal.see("caught [True, True, True]", 20)
        terminal.see("next: 2", 40)
        assert terminal.end(20) == 0
    assert not Path("mark2").exists()


def test_ctrl_c_at_a_prompt_ends_the_statement_and_not_the_jobs(executor: str) -> None:
    with Terminal("") as terminal:
        terminal.see(">>> ")
        terminal.press(f"exec({script(executor, '')!r})\n")
        terminal.see("ready\n")
        terminal.press("tasks[0].wait_return()\n")
        time.sleep(0.5)  # until the statement runs: there is nothing to see of that
        terminal.press("\x03")
        terminal.see("KeyboardInterrupt")
        terminal.press("tasks[0].done(), open('go', 'w').close(), [task.wait_return(40) for task in tasks]\n")
        terminal.see("(False, None, [0, 1, 2])")
        terminal.press("exit()\n")
        assert terminal.end(20) == 0
    assert "cancelled" not in terminal.text


@pytest.mark.parametrize("how", ["hang up", "SIGTERM", "SIGHUP"])
def test_the_jobs_outlive_a_dropped_connection(executor: str, how: str) -> None:
    ends: dict[str, Callable[[Terminal], None]] = {
        "hang up": Terminal.hang_up,
        "SIGTERM": lambda terminal: terminal.process.terminate(),
        "SIGHUP": lambda terminal: terminal.process.send_signal(signal.SIGHUP),
    }
    with Terminal(script(executor, "tasks[0].wait_return()")) as terminal:
        terminal.see("ready")
        ends[how](terminal)
        assert terminal.process.wait(20) in (-signal.SIGHUP, -signal.SIGTERM)
    assert [run.state for run in pools.runs()] == ["left"]
    assert values() == [0, 1, 2]
