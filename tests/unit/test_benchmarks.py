"""The benchmarks run: a tiny round of two of them, and what the harness makes of numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..benchmarks import __main__ as program
from ..benchmarks import harness, sleeps, threads
from ..benchmarks.harness import Case, Contender


def fail() -> dict[str, float]:
    raise AssertionError("a wrong result")


def numbers(value: float) -> dict[str, float]:
    return {"time [ms]": value, "rate [1/s]": value, "jobs": value}


def test_a_tiny_round_of_threads() -> None:
    (case,) = threads.cases(50)
    case.contenders = case.contenders[1:3]
    harness.run(case, 1)
    assert not case.failures
    assert len(case.values) == 3
    for metric, values in case.values.items():
        assert set(values) == {"nornir_pools add_task", "ThreadPoolExecutor"}
        assert "ThreadPoolExecutor" in harness.table(case, metric)


def test_a_tiny_round_of_sleeps() -> None:
    for case in sleeps.cases(4):
        case.contenders = case.contenders[:1]
        harness.run(case, 1)
        assert not case.failures
        ((seconds,),) = (values["nornir_pools"] for values in case.values.values())
        assert seconds >= 0.1


def test_ratios_are_above_one_where_we_are_ahead() -> None:
    case = Case(
        "c", [Contender("nornir_pools", numbers), Contender("peer", numbers), Contender("gone", numbers, needs="no.such")]
    )
    for metric in numbers(1.0):
        case.values[metric] = {"nornir_pools": [1.0, 2.0, 4.0], "peer": [2.0, 2.0, 2.0]}
    assert "1.00 (0.50-2.00)" in harness.table(case, "time [ms]")
    assert harness.ratios([1.0, 4.0], [2.0, 2.0], "rate [1/s]") == [0.5, 2.0]
    assert harness.ratios([1.0, 4.0], [2.0], "time [s]") == [2.0, 0.5]
    assert harness.ratios([1.0], [2.0], "jobs") == []
    assert "not installed" in harness.table(case, "jobs")


def test_who_fails_is_told_and_takes_no_further_part() -> None:
    case = Case("c", [Contender("nornir_pools", numbers, (3.0,)), Contender("peer", fail)])
    harness.run(case, 2)
    assert "a wrong result" in case.failures["peer"]
    assert case.values["time [ms]"] == {"nornir_pools": [3.0, 3.0]}
    assert "failed" in harness.table(case, "time [ms]")


def test_a_report_says_where_and_with_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cases", lambda: [Case("c", [Contender("nornir_pools", numbers, (3.0,))])])
    assert program.main(["threads", "--rounds", "1", "--json", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert result["cases"][0]["values"]["time [ms]"] == {"nornir_pools": [3.0]}
    assert result["benchmark"] == "threads"
    assert result["machine"]["cpus"] >= 1
    assert result["versions"]["python"] == "{}.{}.{}".format(*sys.version_info)
    assert {"date", "command", "question"} <= result.keys()


def test_benchmarks_are_listed_with_their_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(program.NAMES)
    assert all(line.endswith("?") for line in lines)


def test_pytest_collects_benchmarks_only_if_asked() -> None:
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    for place, found in (("tests/benchmarks", False), ("tests/benchmarks/run_all.py", True)):
        done = subprocess.run([*words, place], cwd=harness.ROOT, capture_output=True, text=True, check=False)
        assert ("test_benchmark[threads]" in done.stdout) is found, done.stdout + done.stderr
