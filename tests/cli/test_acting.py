"""Changing runs: retry, cancel, clean, debug."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cli import acting, clearing
from nornir_pools.cluster.clearing import Cleared
from nornir_pools.cluster.views import TaskView

from .. import functions
from ..conftest import until
from .conftest import Cli, made_view

pytestmark = pytest.mark.timeout(120)
Running = Callable[[], "subprocess.Popen[str]"]


def test_retry_runs_exactly_the_failed_ones(cli: Cli) -> None:
    Path("list.txt").write_text("echo x >>done\ntest -e mended && echo y >>done\ntest -e mended; exit $?\n")
    first = cli.data("run", "list.txt", status=1)
    assert cli.data("retry", first["name"], "--failed", status=1)["tasks"]["failed"] == 2
    Path("mended").touch()
    told = cli("retry", first["name"], "--failed", "--mem", "700M", "--time", "7")
    assert "2 succeeded, 0 failed" in told
    assert f"2 tasks of run {first['name']} again" in told
    assert sorted(Path("done").read_text().split()) == ["x", "y"]
    tasks = cli.data("tasks", "last")
    assert [task["name"] for task in tasks] == ["line 2", "line 3"]
    assert cli.data("why", "last", "1")["asked"] == {"mem_gb": 0.7, "timeout_min": 7}
    assert "nothing to retry" in cli("retry", "last", "--failed")


def test_retry_needs_to_know_which(here: Cli) -> None:
    here.run_failing()
    assert "which tasks?" in here("retry", "last", status=2)
    assert "has not failed: it is succeeded" in here("retry", "last", "--task", "1", status=2)


def test_functions_are_retried_with_their_arguments_and_folder(here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("inner").mkdir()
    monkeypatch.chdir("inner")
    pool = pools.GetClusterPool("work", 1, executor="local", folder="../.nornir_pools")
    shared = pool.share(b"many bytes" * 10)
    pool.add_task("well", functions.add, 1, 2).wait_return(40)
    failed = pool.add_task("missing", _needs, "mark", shared)
    assert isinstance(failed.exception(40), FileNotFoundError)
    pool.shutdown()
    monkeypatch.chdir("..")
    Path("inner/mark").touch()
    again = pools.retry("work")
    assert [task.name for task in again.tasks] == ["missing"]
    assert [task.wait_return(40) for task in again.tasks] == [100]
    again.shutdown()


def _needs(mark: str, data: bytes) -> int:
    os.stat(mark)
    return len(data)


def test_what_cannot_be_retried_says_why(here: Cli) -> None:
    name = here.run_failing()["name"]
    for call in Path(".nornir_pools", name, "failed").rglob("*.0"):
        call.unlink()
    assert "the calls of 3 failed tasks (line 4, line 6, line 7) are not in its folder" in here(
        "retry", name, "--failed", status=2
    )
    assert "is not in run" in here("debug", name, "2", status=2)


def test_a_task_of_a_run_that_is_held_elsewhere_is_cancelled(cli: Cli, running: Running) -> None:
    process = running()
    assert "1 tasks of run work-" in cli("cancel", "work", "--task", "waiting 1")
    assert re.search(r"were cancelled by process \d+ on ", cli("cancel", "work", "--task", "running 0"))
    states = {task["name"]: task["state"] for task in cli.data("tasks", "work")}
    assert (states["waiting 1"], states["running 0"], states["running 1"]) == ("cancelled", "cancelled", "running")
    assert "is over: cancelled" in cli("cancel", "work", "--task", "waiting 1", status=2)
    Path("go").touch()
    assert process.communicate(timeout=50)[1] is not None
    counts = cli.data("status", "work")["tasks"]
    assert counts == {"waiting": 0, "running": 0, "succeeded": 4, "failed": 0, "cancelled": 2}


def test_all_of_a_run_that_is_held_elsewhere_is_cancelled(cli: Cli, running: Running) -> None:
    process = running()
    assert "5 tasks of run work-" in cli("cancel", "work")
    process.communicate(timeout=50)
    assert process.returncode == 0
    assert cli.data("status", "work")["tasks"] == {"waiting": 0, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 5}
    assert "nothing to cancel" in cli("cancel", "work")


def test_where_no_process_lives_the_jobs_are_cancelled(cli: Cli, running: Running) -> None:
    process = running()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "no process holds it" in cli("cancel", "work")
    until(lambda: not pools.look("work").live_jobs(), "jobs live", 40)
    assert cli.data("status", "work")["tasks"] == {"waiting": 0, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 5}


def test_to_cancel_many_tasks_is_to_look_a_few_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = ["running", "cancelled", "cancelled"]
    views = [made_view([TaskView(n, f"t{n}", state) for n in range(50)], "held") for state in states]
    monkeypatch.setattr(pools, "look", lambda run: views.pop(0))
    monkeypatch.setattr(pools, "cancel", lambda run, tasks: True)
    acting.cancel("made")
    assert not views
    assert capsys.readouterr().out.startswith("50 tasks of run made-")


def test_the_call_that_is_debugged_is_of_the_run_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    view = made_view([TaskView(1, "t", "failed")])
    runs: list[Any] = []

    def recorded_call(run: Any, task: int) -> Callable[[], None]:
        runs.append(run)
        return lambda: None

    monkeypatch.setattr(pools, "look", lambda run: view)
    monkeypatch.setattr(pools, "recorded_call", recorded_call)
    acting.debug("last", "1")
    assert runs == [view.info.path]


def test_a_text_or_a_number_is_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def note(run: str, tasks: Any) -> Any:
        given.append(tasks)
        raise pools.RunNotFoundError

    monkeypatch.setattr("nornir_pools.cluster.cancelling.cancel_run", note)
    monkeypatch.setattr("nornir_pools.cluster.again.tasks_to_retry", note)
    words: list[Any] = ["17", 17, ["tile 1", 2], None]
    calls: list[Callable[..., Any]] = [pools.cancel, pools.retry]
    for call in calls:
        for tasks in words:
            with pytest.raises(pools.RunNotFoundError):
                call("last", tasks)
    assert given == [["17"], [17], ["tile 1", 2], None] * 2


def test_clean_goes_by_the_age_of_a_run_also_if_it_is_in_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    old = made_view([])
    young = replace(old, info=replace(old.info, path=Path("young"), started=time.time()))
    cleaned: list[Path] = []

    def clean(path: Path, **how: bool) -> Cleared:
        cleaned.append(path)
        return Cleared("made", path, 0, 0, "")

    monkeypatch.setattr(pools, "look", {"old": old, "young": young}.__getitem__)
    monkeypatch.setattr(pools, "runs", list)
    monkeypatch.setattr(pools, "clean", clean)
    clearing.clean(["old", "young"], older="1d")
    assert cleaned == [old.info.path]


def test_clean_removes_no_run_that_lives(cli: Cli, running: Running) -> None:
    process = running()
    assert re.search(r"is held by process \d+ on .*, so it is not removed", cli("clean", "work", status=2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert re.search(r"has 2 live jobs \(.*\), so it is not removed; cancel it first", cli("clean", "work", status=2))
    cli("cancel", "work")
    until(lambda: not pools.look("work").live_jobs(), "jobs live", 40)
    (run,) = Path(".nornir_pools").iterdir()
    assert re.search(r"^work-\S+: would free [\d.]+ kB in \d+ files$", cli("clean", "work", "--dry-run"), re.MULTILINE)
    assert run.exists()
    assert re.search(r"^work-\S+: freed [\d.]+ kB in \d+ files$", cli("clean", "work"), re.MULTILINE)
    assert not run.exists()
    assert "there is no run 'work'" in cli("clean", "work", status=2)


def test_clean_keeps_failures_if_asked_and_takes_only_what_is_old(here: Cli) -> None:
    name = here.run_failing()["name"]
    Path("list.txt").write_text("true\n")
    here("run", "list.txt", "--name", "good")
    assert here.data("clean", "--older", "1d") == []
    assert "and what tells of 3 failed tasks stays" in here("clean", name, "--keep", "failed")
    assert here("logs", name, "line 4").startswith("cannot read tile 2\nnext: nornir-pools retry ")
    assert {one["name"] for one in here.data("clean", "--older", "0s", "--dry-run")} == {name, pools.look("good").info.name}
    assert re.search("in all: .* in 2 runs\nnext: nornir-pools status\n", here("clean", "--older", "0s"))
    assert not any(Path(".nornir_pools").iterdir())
    assert "There are no runs yet" in here("status")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [([], "which runs?"), (["--older", "soon"], "'soon' is no age"), (["last", "--keep", "all"], "--keep can be 'failed'")],
)
def test_clean_that_cannot_be_meant_is_refused(here: Cli, words: list[str], complaint: str) -> None:
    assert complaint in here("clean", *words, status=2)


def test_debug_runs_the_call_here_and_stops_where_it_fails(here: Cli) -> None:
    pool = pools.GetClusterPool("work", 1, executor="local")
    pool.add_task("broken", functions.fail, ValueError, "this tile is empty").exception(40)
    pool.shutdown()
    told = here("debug", "work", "1", status=1)  # (stdin is empty, which ends pdb)
    assert "ValueError: this tile is empty" in told
    assert "it has failed here as well" in told
    assert "raise error(*args)" in told
    assert "(Pdb)" in told


def test_debug_of_a_command_runs_it_here(here: Cli) -> None:
    here.run_failing()
    told = here("debug", "last", "line 4", status=1)
    assert "cannot read tile 2\n" in told
    assert "ended with status 3" in told
    assert "those of tasks that have succeeded are not kept" in here("debug", "last", "1", status=2)


def test_without_slurm_what_only_it_knows_is_out_of_reach(cli: Cli, running: Running, tmp_path: Path) -> None:
    if cli.executor != "slurm":
        return
    process = running()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for words in (["clean", "work"], ["cancel", "work"], ["status", "work"]):
        assert "SLURM does not answer" in cli(*words, status=3, PATH=str(tmp_path))
    cli("cancel", "work")


@pytest.mark.slurm
def test_efficiency_is_near_what_a_task_was_made_to_use(cli: Cli) -> None:
    pool = pools.GetClusterPool("use", 2, executor=cli.executor, mem_gb=1, timeout_min=5)
    for n in range(3):
        pool.add_task(f"large {n}", _use, 200_000_000, 0.0)
    pool.add_task("busy", _use, 0, 4.0)  # of which the import of this module is a part
    pool.add_process("command", "python3 -c 'x = b\"a\" * 150000000'")
    pool.wait_completion()
    pool.shutdown()
    rows = {row["name"]: row for row in cli.data("efficiency", "use")}
    assert (rows["large #"]["tasks"], rows["large #"]["memory_asked"]) == (3, 1024**3)
    empty = rows["busy"]["memory"]
    assert rows["large #"]["memory"] - empty == pytest.approx(200_000_000, rel=0.1)
    assert rows["busy"]["cpu_seconds"] == pytest.approx(4.0, rel=0.1)
    assert rows["command"]["memory"] == pytest.approx(160_000_000, rel=0.1)
    told = cli("efficiency", "use")
    assert re.search(r"^large #: .*--mem [\d.]+G would do$", told, re.MULTILINE)


@pytest.mark.slurm
def test_efficiency_tells_of_cpus_that_were_paid_for_and_idle(cli: Cli) -> None:
    pool = pools.GetClusterPool("whole", 1, executor=cli.executor, slurm_exclusive=True)
    pool.add_task("sleeps", time.sleep, 0.5).wait_return(60)
    pool.shutdown()
    (row,) = cli.data("efficiency", "whole")
    told = cli("efficiency", "whole")
    if cli.executor == "slurm":
        assert row["cpus_set_aside"] == 8
        assert 'sleeps: 8 CPUs were set aside for each, as of a whole node: with tasks_at_once="auto"' in told
    else:
        assert row["cpus_set_aside"] is None
        assert "set aside" not in told


def _use(size: int, seconds: float) -> int:
    import time

    data = b"x" * size
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass
    return len(data)
