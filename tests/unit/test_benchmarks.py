"""The benchmarks run: tiny rounds of them, and what the harness makes of numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..benchmarks import __main__ as program
from ..benchmarks import arrays, contention, growth, harness, page, profiling, sleeps, tables, threads
from ..benchmarks.harness import Case, Contender
from ..conftest import until
from .script import is_alive


def fail() -> dict[str, float]:
    raise AssertionError("a wrong result")


def numbers(value: float) -> dict[str, float]:
    return {"time [ms]": value, "rate [1/s]": value, "jobs": value}


def hang(pids: str) -> dict[str, float]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    Path(pids).write_text(f"{process.pid} {os.getpid()}", encoding="ascii")
    time.sleep(60)
    return {}


def table(case: Case, metric: str) -> str:
    return tables.table(harness.of_case(case), metric)


def test_a_tiny_round_of_threads() -> None:
    (case,) = threads.cases(50)
    case.contenders = case.contenders[1:3]
    harness.run(case, 1)
    assert not case.failures
    assert len(case.values) == 3
    for metric, values in case.values.items():
        assert set(values) == {"nornir_pools add_task", "ThreadPoolExecutor"}
        assert "ThreadPoolExecutor" in table(case, metric)


def test_a_tiny_round_of_sleeps() -> None:
    for case in sleeps.cases(4):
        case.contenders = case.contenders[:1]
        harness.run(case, 1)
        assert not case.failures
        ((seconds,),) = (values["nornir_pools"] for values in case.values.values())
        assert seconds >= 0.1


def test_a_tiny_round_of_growth() -> None:
    case = growth.cases(most=100)[1]
    harness.run(case, 1)
    assert not case.failures
    assert case.values["a task [µs]"]["100 tasks"][0] > 0
    assert case.values["left when all are over, kB for a task"]["100 tasks"][0] < 10


def test_a_tiny_round_of_arrays() -> None:
    pytest.importorskip("numpy")
    for case in arrays.cases(2):
        case.contenders = [contender for contender in case.contenders if contender.name == "nornir_pools"]
        harness.run(case, 1)
        assert not case.failures


def test_a_few_workers_that_take_turns() -> None:
    case = Case("c", [Contender("10 workers", contention.simulated, (10, 2, 5))])
    harness.run(case, 1)
    assert not case.failures
    assert case.values["workers: files made"]["10 workers"][0] == pytest.approx(1.0, abs=0.3)
    assert case.values["workers: round trips over NFS for a task"]["10 workers"][0] > 8


@pytest.mark.parametrize("part", [part for part, _ in profiling.PARTS.values()])
def test_every_part_can_be_profiled(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    count = 3_000 if part == "child" else 50  # that one leaves its profile twice a second
    found = harness.measure(Contender("profile", profiling.profile_part, (part, 1, count)))
    assert 0 < found["profiled tasks"] <= count + 1
    text = profiling.table({"title": "the part", **found})
    assert "the part" in text
    assert "posix." in text


def test_ratios_are_above_one_where_we_are_ahead() -> None:
    case = Case(
        "c", [Contender("nornir_pools", numbers), Contender("peer", numbers), Contender("gone", numbers, needs="no.such")]
    )
    for metric in numbers(1.0):
        case.values[metric] = {"nornir_pools": [1.0, 2.0, 4.0], "peer": [2.0, 2.0, 2.0]}
    assert "1.00 (0.50-2.00)" in table(case, "time [ms]")
    assert tables.ratios([1.0, 4.0], [2.0, 2.0], "rate [1/s]") == [0.5, 2.0]
    assert tables.ratios([1.0, 4.0], [2.0], "time [s]") == [2.0, 0.5]
    assert tables.ratios([1.0], [2.0], "jobs") == []
    assert all("not installed" in text for text in tables.tables(harness.of_case(case)))


def test_who_fails_is_told_and_takes_no_further_part() -> None:
    case = Case("c", [Contender("nornir_pools", numbers, (3.0,)), Contender("peer", fail)])
    harness.run(case, 2)
    assert "a wrong result" in case.failures["peer"]
    assert case.values["time [ms]"] == {"nornir_pools": [3.0, 3.0]}
    assert "failed" in table(case, "time [ms]")
    lonely = Case("c", [Contender("peer", fail)])
    harness.run(lonely, 1)
    assert "failed" in tables.tables(harness.of_case(lonely))[0]


def test_who_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    cleaned: list[Path] = []
    case = Case("c", [Contender("peer", hang, (str(tmp_path / "pids"),), limit=3.0)], clean=cleaned.append)
    harness.run(case, 2)
    assert case.failures["peer"].startswith("no result within 3 s")
    assert len(cleaned) == 1
    for pid in (tmp_path / "pids").read_text(encoding="ascii").split():
        until(lambda pid=pid: not is_alive(int(pid)), "a process is left")  # type: ignore[misc]


def test_what_would_take_too_long_is_computed_from_less_and_says_so() -> None:
    few = Case("100 tasks", [Contender("peer", numbers, (3.0,))])
    many = Case("1,000 tasks", [Contender("nornir_pools", numbers, (1.0,)), Contender("peer", fail, multiple=(few, 10))])
    for case in (few, many):
        harness.run(case, 2)
    assert many.values["time [ms]"]["peer"] == [30.0, 30.0]
    assert "peer (computed: 10 × its 100 tasks)" in table(many, "time [ms]")


def test_cases_and_peers_can_be_chosen() -> None:
    def cases() -> list[Case]:
        names = ("nornir_pools", "Parsl", "dask-jobqueue", "submitit")
        return [Case(title, [Contender(name, numbers) for name in names]) for title in ("one task", "many tasks")]

    (case,) = harness.choose(cases(), "many", "parsl, dask")
    assert [contender.name for contender in case.contenders] == ["nornir_pools", "Parsl", "dask-jobqueue"]
    assert [len(case.contenders) for case in harness.choose(cases(), peers="none")] == [1, 1]
    assert [len(case.contenders) for case in harness.choose(cases())] == [4, 4]


def test_a_report_says_where_and_with_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cases", lambda: [Case("c", [Contender("nornir_pools", numbers, (3.0,))])])
    assert program.main(["threads", "--rounds", "1", "--json", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "threads.json").read_text(encoding="utf-8"))
    assert result["cases"][0]["values"]["time [ms]"] == {"nornir_pools": [3.0]}
    assert result["benchmark"] == "threads"
    assert result["machine"]["cpus"] >= 1
    assert result["versions"]["python"] == "{}.{}.{}".format(*sys.version_info)
    assert {"date", "command", "question"} <= result.keys()


def test_cases_that_were_not_asked_for_stay_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        threads, "cases", lambda: [Case(title, [Contender("nornir_pools", numbers, (3.0,))]) for title in ("few", "many")]
    )
    for more in ((), ("--only", "few")):
        assert program.main(["threads", "--rounds", "2" if more else "1", "--json", str(tmp_path), *more]) == 0
    found = json.loads((tmp_path / "threads.json").read_text(encoding="utf-8"))["cases"]
    assert {case["title"]: len(case["values"]["time [ms]"]["nornir_pools"]) for case in found} == {"many": 1, "few": 2}


def test_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    case = Case("c", [Contender("nornir_pools", numbers, (3.0,)), Contender("peer", fail)])
    harness.run(case, 1)
    report = harness.report("threads", "How?", [case], os.getloadavg(), None)
    program.write("threads", report, tmp_path)
    text = "before\n<!-- results of threads -->\nold\n<!-- end -->\nafter\n<!-- results of other -->\nkept\n<!-- end -->\n"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    for _ in range(2):
        assert program.main(["page", "--json", str(tmp_path), "--page", str(tmp_path / "page.md")]) == 0
        made = (tmp_path / "page.md").read_text(encoding="utf-8")
        assert made.startswith("before\n<!-- results of threads -->\nMeasured ")
        assert made.endswith("<!-- end -->\nafter\n<!-- results of other -->\nkept\n<!-- end -->\n")
        assert "old" not in made
        assert table(case, "time [ms]") in made
        assert "peer failed at “c”: exit status 1" in made


def test_the_plot_has_a_curve_for_each_contender(tmp_path: Path) -> None:
    titles = ("the first task from nothing", "100 tasks from nothing", "one more task")
    metric = {page.TO_THE_LAST: {"nornir_pools": [1.0, 2.0, 3.0], "peer": [4.0]}}
    result = {"cases": [{"title": title, "values": metric} for title in titles]}
    assert page.curves(result) == {"nornir_pools": [(1, 2.0), (100, 2.0)], "peer": [(1, 4.0), (100, 4.0)]}
    pytest.importorskip("matplotlib")
    page.plot(result, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


def test_the_page_of_results_has_a_place_for_every_benchmark() -> None:
    text = (harness.ROOT / "docs" / "explanation" / "performance.md").read_text(encoding="utf-8")
    assert {match[2] for match in page.MARKS.finditer(text)} == {*program.NAMES, "profile"}


def test_benchmarks_are_listed_with_their_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(program.NAMES)
    assert all(line.endswith("?") for line in lines)
    assert program.main(["cluster", "--list"]) == 0
    assert "Parsl" in capsys.readouterr().out


def test_pytest_collects_benchmarks_only_if_asked() -> None:
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    for place, found in (("tests/benchmarks", False), ("tests/benchmarks/run_all.py", True)):
        done = subprocess.run([*words, place], cwd=harness.ROOT, capture_output=True, text=True, check=False)
        assert ("test_benchmark[threads]" in done.stdout) is found, done.stdout + done.stderr
