"""What the workers measure of each task."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nornir_pools.cluster.measures import Meter, command_facts, has_failed
from nornir_pools.command import run_command
from nornir_pools.outcome import Outcome, call
from nornir_pools.tail import take_end

from ..conftest import until
from .script import run_script

LARGE = 150_000_000


def test_memory_of_a_task_is_its_own_and_not_that_of_one_before() -> None:
    meter = Meter()
    meter.start()
    before = meter.facts()["memory"]
    meter.start()
    len(b"x" * LARGE)
    assert meter.facts()["memory"] - before == pytest.approx(LARGE, rel=0.1)
    meter.start()
    assert meter.facts()["memory"] < before + LARGE / 2


def test_cpu_is_that_of_the_process_and_of_its_children() -> None:
    program = "import time\nwhile time.process_time() < 0.3: pass"
    meter = Meter()
    meter.start()
    subprocess.run([sys.executable, "-c", program], check=True)
    assert meter.facts()["cpu"] == pytest.approx(0.3, abs=0.1)
    meter.start()
    time.sleep(0.05)
    assert meter.facts()["cpu"] < 0.04


def test_memory_of_a_command_is_its_own_though_a_larger_one_was_before() -> None:
    done = run_script(  # not here: a command's peak begins with that of the process which starts it
        f"""
        import sys
        from nornir_pools.cluster.measures import Meter
        from nornir_pools.command import run_command, take_peak
        meter = Meter()
        for size in ({3 * LARGE}, 1):
            meter.start()
            run_command([sys.executable, "-c", f"len(b'x' * {{size}})"], shell=False)
            print(take_peak())
        print(take_peak())
        """
    )
    large, small, none = map(int, done.out.split())
    assert large > 3 * LARGE > small + LARGE / 2
    assert small > none == 0


def test_a_kernel_that_resets_no_peak_costs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    monkeypatch.setattr(meter, "_reset", -1)
    meter.start()
    assert meter.facts()["memory"] > 0


def test_how_a_command_ended_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(run_command, ("echo one >&2; echo two >&2; exit 3",), {})
    outcome.facts = command_facts(outcome, run_command)
    assert outcome.facts == {"status": 3, "last": "two"}
    assert has_failed(outcome)
    assert capsys.readouterr().err == "one\ntwo\n"
    outcome = call(run_command, ("kill -9 $$",), {})
    assert command_facts(outcome, run_command)["status"] == -9
    outcome = call(run_command, ("true",), {})
    assert command_facts(outcome, run_command) == {"status": 0}
    assert not has_failed(Outcome(facts={"status": 0}))
    assert command_facts(Outcome(value=(1, "", "")), len) == {}


def test_the_last_line_of_a_stderr_that_goes_into_the_log_is_told_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(tmp_path / "log", "wb") as log:
        command = "echo one >&2; sleep 0.05; echo two; exit 3"
        outcome = call(run_command, (command,), {"stdout": log.fileno(), "stderr": log.fileno()})
        assert command_facts(outcome, run_command) == {"status": 3, "last": "one"}
        outcome = call(run_command, ("exit 4",), {"stdout": log.fileno(), "stderr": log.fileno()})
        assert command_facts(outcome, run_command) == {"status": 4, "last": ""}
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert capsys.readouterr().err == ""


def test_a_process_that_has_left_its_command_holds_nobody_up_and_can_go_on_to_write(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        command = "setsid sh -c 'while [ ! -e go ]; do sleep 0.02; done; echo late >&2' & sleep 0.1; echo early >&2"
        begun = time.monotonic()
        assert run_command(command, cwd=tmp_path, stderr=log.fileno()) == (0, "", "")
        assert time.monotonic() - begun < 10
        assert take_end() == "early\n"
        (tmp_path / "go").touch()
        until(lambda: (tmp_path / "log").read_text() == "early\nlate\n", "it is not copied")
    until(lambda: not any("stderr" in thread.name for thread in threading.enumerate()), "a thread is left")
