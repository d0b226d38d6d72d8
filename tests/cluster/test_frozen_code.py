"""Editing code while jobs wait changes nothing: they run what was there when their tasks were added."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import nornir_pools as pools

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(120)

HELPER = "def name():\n    return 'old'\n"
WORK = """\
from pathlib import Path

from .helper import name


def value(*_):
    from . import lazy

    return [name(), lazy.VALUE, (Path(__file__).parent / "data.txt").read_text()]


def fail():
    raise ValueError(f"this is {name()} code")  # old line
"""
SCRIPT = """\
import json, os, time
from pathlib import Path
import nornir_pools as pools
from own import work

def block():
    Path("runs.up").touch()
    while not os.path.exists("go"):
        time.sleep(0.01)

pool = pools.GetClusterPool("work", 1, executor={executor!r}, folder="runs"{options})
blocked = pool.add_task("block", block)
tasks = [pool.add_task("value", work.value), pool.add_task("fail", work.fail)]
child = pool.add_task("child", work.value, blocked)
Path("own/helper.py").write_text("def name():\\n    return 'new code'\\n")
Path("own/lazy.py").write_text("VALUE = 'new lazy'\\n")
Path("own/work.py").write_text("# changed\\n" + Path("own/work.py").read_text().replace("old line", "new line"))
Path("later.py").write_text("def value():\\n    return 'later'\\n")
import later
tasks.append(pool.add_task("later", later.value))
Path("later.py").write_text("")
Path("go").touch()
error = tasks[1].exception()
later = "no value" if tasks[2].exception() else tasks[2].wait_return()
assert child.wait_return() == tasks[0].wait_return()
found = [tasks[0].wait_return(), str(error), str(error.__cause__), later]
print(json.dumps(found))
"""


def run(executor: str, options: str = "") -> list[Any]:
    Path("own").mkdir()
    for name, text in (("__init__", ""), ("helper", HELPER), ("lazy", "VALUE = 'lazy'\n"), ("work", WORK)):
        Path(f"own/{name}.py").write_text(text)
    Path("own/data.txt").write_text("data")
    Path("script.py").write_text(SCRIPT.format(executor=executor, options=options))
    done = subprocess.run(
        [sys.executable, "script.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_jobs_debug_and_retry_run_what_was_added(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, error, trace, later = run(executor)
    assert value == ["old", "lazy", "data"]
    assert error == "this is old code"
    assert f'File "{Path("own/work.py").absolute()}", line 13, in fail\n' in trace
    assert "# old line" in trace
    assert later == "later"
    (again,) = pools.retry("work").tasks
    assert str(again.exception(40)) == "this is old code"
    pools.ClosePools()
    if executor == "slurm":
        (again,) = pools.retry("last", new_code=True).tasks
        assert str(again.exception(40)) == "this is new code code"
    else:
        words = ["retry", "last", "--failed", "--new-code"]
        done = subprocess.run([sys.executable, "-m", "nornir_pools", *words], capture_output=True, text=True, timeout=60)
        assert (done.returncode, "ValueError: this is new code code" in done.stdout) == (1, True), done
        monkeypatch.syspath_prepend(os.getcwd())
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        try:
            assert importlib.import_module("own.work").name() == "new code"  # this process has today's
            with mock.patch.dict(os.environ), pytest.raises(ValueError, match="this is old code"):
                pools.recorded_call(pools.runs()[0].path, "fail")()
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
                del sys.modules[name]


def test_who_does_not_want_that_says_so() -> None:
    value, error, _, later = run("local", ", frozen_code=False")
    assert value == ["new code", "new lazy", "data"]
    assert error == "this is new code code"
    assert later == "no value"
