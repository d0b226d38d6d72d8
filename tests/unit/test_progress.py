"""The progress bar: when it is shown, what it says, that it leaves the terminal as it was; and the log in its place."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import progress, settings

from .. import functions
from ..conftest import until
from ..terminal import Terminal
from .script import run_script

# Tasks that wait for the test; three of them, one fails.
START = """
import sys, time
import nornir_pools as pools
from nornir_pools import progress, settings
from tests import functions

def fill(pool):
    pool.submit(functions.fail)
    pool.submit(functions.add, 1)
    pool.submit(functions.wait_for_file, "go")
    return pool
"""
# Waits that would show a bar soon, and take long enough for it.
SOON = START + "progress.DELAY = 0.05\n"
MARK = "\x1b["  # begins what moves the cursor or sets a colour
SHOWN = "2/3 1 running, \x1b[31m1 failed"
WAIT = "pool.submit(time.sleep, 0.5); pool.wait_completion(); print('over')"


@pytest.mark.parametrize(
    "wait",
    [
        "fill(pools.GetThreadPool('tiles', 2)).wait_completion(); print('over')",
        "with fill(pools.GetMultithreadingPool('tiles', 2)): pass\nprint('over')",
        "fill(pools.GetThreadPool('tiles', 2)); import atexit; atexit.register(print, 'over')\npools.GetSerialPool('other')",
        "fill(pools.GetThreadPool('tiles', 2)).with_options(mem_gb=1).wait_completion(); print('over')",
        "fill(pools.GetThreadPool('tiles', 2)); pools.ClosePools(); print('over')",
    ],
    ids=["wait", "with", "exit", "view", "close"],
)
def test_every_wait_for_a_pool_shows_a_bar(wait: str) -> None:
    if "atexit" in wait:  # the hook of the pools runs before this one
        wait = "import atexit; atexit.register(print, 'over'); " + wait.partition(";")[0]
    with Terminal(START + wait, TERM="xterm") as terminal:
        terminal.see("tiles ")
        terminal.see(SHOWN)
        Path("go").touch()
        terminal.see("3/3 \x1b[31m1 failed")
        terminal.see("over")
        assert terminal.end(20) == 0
        assert "?25" not in terminal.everything  # the cursor is never hidden, so nothing has to bring it back


def test_the_bar_comes_after_a_second_and_a_shorter_wait_imports_nothing() -> None:
    assert progress.DELAY == 1.0
    script = START + "with pools.GetThreadPool('short', 2) as pool: pool.submit(functions.add, 1)\nprint('rich' in sys.modules)"
    with Terminal(script, TERM="xterm") as terminal:
        assert terminal.end(30) == 0
        assert terminal.everything == "False\n"


def test_a_wait_that_is_nearly_over_shows_no_bar_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(progress.Watch, "_begin", lambda self: begun.append(1))
    pool = pools.GetThreadPool("t", 1)
    watch = progress.Watch(pool)
    for number in range(100):
        pool.add_task("done", functions.add, number)
    pool.wait_completion()
    pool.add_task("last", functions.wait_for_file, "go")
    until(lambda: progress.count(pool).running == 1, "the task does not start")
    watch._since -= 1.0  # a hundred tasks a second, and one to go
    watch.look()
    assert (begun, watch.pause) == ([], progress.NEARLY_DONE)
    watch.look()
    assert begun == [1]
    Path("go").touch()


@pytest.mark.parametrize(
    ("lines", "environment"),
    [
        ("pool = pools.GetThreadPool('t', 1); " + WAIT, {"NORNIR_POOLS_PROGRESS": "0"}),
        ("pool = pools.GetThreadPool('t', 1); " + WAIT, {"TERM": "dumb"}),
        (
            "import threading\npool = pools.GetThreadPool('t', 1)\npool.submit(time.sleep, 0.5)\n"
            "thread = threading.Thread(target=pool.wait_completion); thread.start(); thread.join(); print('over')",
            {},
        ),
        (
            "def nested():\n    progress.DELAY = 0.05\n    pool = pools.GetThreadPool('t', 1)\n"
            "    pool.submit(time.sleep, 0.5); pool.wait_completion()\n"
            "pools.GetMultithreadingPool('p', 1).submit(nested).wait(); print('over')",
            {},
        ),
        (
            "pool = pools.GetThreadPool('t', 1)\npool.submit(time.sleep, 0.5)\n"
            "pools.GetThreadPool('u', 1).submit(pool.wait_completion).wait(); print('over')",
            {},
        ),
        ("import io\nsys.stderr = io.StringIO()\npool = pools.GetThreadPool('t', 1); " + WAIT, {}),
        ("sys.stderr = None\npool = pools.GetThreadPool('t', 1); " + WAIT, {}),
        ("sys.modules['rich'] = None\npool = pools.GetThreadPool('t', 1); " + WAIT, {}),
    ],
    ids=["switched off", "dumb", "thread", "worker process", "worker thread", "no terminal", "no stderr", "no rich"],
)
def test_no_bar_where_it_has_no_business(lines: str, environment: dict[str, str]) -> None:
    with Terminal(SOON + lines, **{"TERM": "xterm", **environment}) as terminal:
        assert terminal.end(30) == 0
        assert terminal.everything == "over\n"


def test_no_bar_beside_another_display() -> None:
    pytest.importorskip("tqdm")
    lines = (
        "import tqdm, rich.live\nfrom rich.console import Console\n"
        "pool = pools.GetThreadPool('mine', 1)\n"
        "with tqdm.tqdm(total=1): pool.submit(time.sleep, 0.5); pool.wait_completion()\n"
        "with rich.live.Live('theirs', console=Console(stderr=True)): pool.submit(time.sleep, 0.5); pool.wait_completion()\n"
        "print('now', flush=True)\npool.submit(time.sleep, 0.5); pool.wait_completion()"
    )
    with Terminal(SOON + lines, TERM="xterm") as terminal:
        terminal.see("now")
        assert "mine" not in terminal.everything
        terminal.see("mine")
        assert terminal.end(20) == 0


def test_output_that_is_no_terminal_gets_nothing() -> None:
    done = run_script(SOON + "pool = pools.GetThreadPool('t', 1); " + WAIT)
    assert (done.status, done.out, done.err) == (0, "over\n", "")


def test_what_is_printed_meanwhile_goes_where_it_belongs() -> None:
    lines = (
        "sys.stdout = open('out', 'w')\npool = pools.GetThreadPool('t', 1)\npool.submit(functions.wait_for_file, 'go')\n"
        "pool.submit(print, 'from a task')\npool.submit(lambda: sys.stderr.write('a word\\n'))\npool.wait_completion()"
    )
    with Terminal(SOON + lines, TERM="xterm") as terminal:
        terminal.see("0/3")
        Path("go").touch()
        terminal.see("a word\n")
        terminal.see("3/3")
        assert terminal.end(20) == 0
        assert "from a task" not in terminal.everything
    assert Path("out").read_text() == "from a task\n"


@pytest.mark.parametrize("environment", [{}, {"NORNIR_POOLS_PROGRESS": "0"}], ids=["bar", "none"])
def test_ctrl_c_acts_as_without_a_bar(environment: dict[str, str]) -> None:
    lines = (
        "pool = pools.GetThreadPool('tiles', 1)\npool.submit(functions.touch_and_wait, 'up', 'never')\n"
        "waits = pool.submit(functions.add, 1)\n"
        "try:\n    with pool: pass\nfinally:\n    print('cancelled', waits.cancelled(), flush=True)"
    )
    with Terminal(SOON + lines, **{"TERM": "xterm", **environment}) as terminal:
        if environment:
            until(Path("up").exists, "the task does not start")
        else:
            terminal.see("0/2")
        terminal.press("\x03")
        terminal.see("cancelled True\n")
        terminal.see("KeyboardInterrupt\n")
        assert terminal.end(20) == -2
        assert "?25" not in terminal.everything
    Path("never").touch()


def test_a_terminal_that_goes_away_ends_the_bar_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(progress._Bar):
        def draw(self, counts: progress.Counts, words: list[str]) -> None:
            raise OSError("the terminal is gone")

    monkeypatch.setattr(progress, "DELAY", 0.01)
    monkeypatch.setattr(progress, "_can_show_bar", lambda: True)
    monkeypatch.setattr(progress, "_Bar", Broken)
    pool = pools.GetThreadPool("t", 1)
    pool.add_task("t", functions.wait_for_file, "go")
    threading.Timer(0.2, Path("go").touch).start()
    pool.wait_completion()


def test_without_a_bar_there_is_a_line_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert progress.LOG_PAUSE == 60.0
    monkeypatch.setattr(progress, "DELAY", 0.01)
    monkeypatch.setattr(progress, "LOG_PAUSE", 0.05)
    pool = pools.GetThreadPool("tiles", 1)
    pool.add_task("bad", functions.fail).exception()
    pool.add_task("blocks", functions.wait_for_file, "go")
    pool.add_task("waits", functions.add, 1)
    threading.Timer(0.5, Path("go").touch).start()
    with caplog.at_level(logging.INFO, "nornir_pools"):
        pool.wait_completion()
    lines = [record.getMessage() for record in caplog.records]
    assert 1 < len(lines) < 12
    assert set(lines) == {"pool 'tiles': 1 of 3 tasks done, 1 running, 1 waiting, 1 failed"}


@pytest.mark.parametrize(
    "get", [pools.GetThreadPool, pools.GetMultithreadingPool, pools.GetProcessPool, pools.GetLocalMachinePool]
)
def test_counts_are_those_of_all_tasks_the_pool_has_had(get: Any) -> None:
    pool = get("t", 1)
    assert progress.count(pool) == (0, 0, 0, 0, 0, "")
    pool.add_process("fails", "exit 3").wait()
    pool.add_task("fails", functions.fail).exception()
    pool.add_task("good", functions.add, 1).wait()
    pool.add_task("runs", functions.wait_for_file, "go")
    pool.add_task("waits", functions.add, 1)
    cancelled = pool.add_task("cancelled", functions.add, 1)
    assert cancelled.cancel()
    with pytest.raises(TypeError):
        pool.add_task("no task", None)
    until(lambda: progress.count(pool) == (6, 4, 1, 1, 2, ""), "the counts do not come")
    Path("go").touch()
    pool.wait_completion()
    assert progress.count(pool) == (6, 6, 0, 0, 2, "")


def test_a_task_that_cannot_be_added_is_not_counted() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    with pytest.raises(pools.ArgumentError):
        pool.add_task("t", functions.add, threading.Lock())
    assert progress.count(pool).added == 0


def words(watch: progress.Watch, done: int, running: int, seconds: float) -> str:
    """What is said so many seconds after the wait began."""
    began = time.monotonic() - seconds
    watch._since, watch._before = began, 0
    return ", ".join(watch._words(progress.Counts(1000, done, running, 1000 - done - running, 0, "Priority")))


def test_rate_and_time_left() -> None:
    watch = progress.Watch(pools.GetThreadPool("t", 1))
    assert words(watch, 0, 0, 30) == "1000 waiting (Priority)"
    assert words(watch, 100, 8, 10) == "8 running, 892 waiting (Priority), 10.0/s, 0:01:30 left"
    assert words(watch, 10, 8, 60).endswith(", 10.0/min, 1:39:00 left")
    assert words(watch, 1, 8, 3600).endswith(", 1.0/h, 41 days, 15:00:00 left")


def test_time_in_a_queue_does_not_count_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.Watch, "_begin", lambda self: None)
    watch = progress.Watch(pools.GetThreadPool("t", 1))
    for counts, moved in ((progress.Counts(9, 0, 0, 9, 0, ""), True), (progress.Counts(9, 0, 1, 8, 0, ""), False)):
        watch._since -= 100
        monkeypatch.setattr(progress, "count", lambda pool, counts=counts: counts)
        before = watch._since
        watch.look()
        assert (watch._since != before) is moved


def test_a_notebook_that_can_show_it_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        pass

    notebook = types.ModuleType("IPython")
    notebook.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    widgets = types.ModuleType("ipywidgets")
    widgets.__spec__ = importlib.machinery.ModuleSpec("ipywidgets", None)
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    assert progress._can_show_bar()
    monkeypatch.delitem(sys.modules, "ipywidgets")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not progress._can_show_bar()


def test_the_setting_is_no_option_of_a_cluster_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_POOLS_PROGRESS", "0")
    assert pools.GetClusterPool("c", executor="debug").add_task("t", functions.add, 1).wait_return() == 2
    for text, wanted in (("0", False), ("off", False), ("1", True), ("", True)):
        monkeypatch.setenv("NORNIR_POOLS_PROGRESS", text)
        assert settings.wants_progress() is wanted


def test_a_name_is_no_markup_and_a_narrow_terminal_has_the_counts() -> None:
    from rich.console import Console

    bar = object.__new__(progress._Bar)
    bar._name = "[red]tiles[/red]"
    for width in (20, 40, 100):
        console = Console(width=width, file=open(os.devnull, "w"), force_terminal=False)  # noqa: SIM115
        with console.capture() as capture:
            console.print(bar._line(progress.Counts(100, 40, 2, 58, 0, ""), ["2 running", "58 waiting"]))
        console.file.close()
        text = capture.get()
        assert text.count("\n") == 1
        assert re.search(r"\[re.* 40/100 ", text)
