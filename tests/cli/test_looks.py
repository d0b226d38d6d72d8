"""Looking at runs: status, tasks, logs, wait, why, while their scripts run and after they are gone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

import nornir_pools as pools
from nornir_pools.cli import facts, looks, reasons
from nornir_pools.cluster.views import RunView, TaskView

from ..conftest import until
from ..terminal import Terminal
from .conftest import Cli, made_view

pytestmark = pytest.mark.timeout(120)
WAITING = ["waiting 0", "waiting 1", "waiting 2"]
Running = Callable[[], "subprocess.Popen[str]"]


def test_a_run_is_seen_while_its_script_runs(cli: Cli, running: Running) -> None:
    running()
    facts = cli.data("status", "work")
    assert facts["state"] == "held"
    assert facts["tasks"] == {"waiting": 3, "running": 2, "succeeded": 1, "failed": 0, "cancelled": 0}
    assert len(facts["jobs"]) == 2
    told = cli("status", "last")
    assert re.search(r"state +held by process \d+ on ", told)
    assert re.search(r"next:\n  nornir-pools wait work-", told)
    assert [task["name"] for task in cli.data("tasks", "work", "--running")] == ["running 0", "running 1"]
    assert [task["name"] for task in cli.data("tasks", "work", "--waiting", "--succeeded")] == ["first", *WAITING]
    assert "not over after 0.1 s" in cli("wait", "work", "--timeout", "0.1", status=3)
    assert re.search(r"waits +for its turn: 3 tasks wait, 2 run in 2 jobs", cli("why", "work", "waiting 1"))
    assert "so far, in job" in cli("why", "work", "running 0")
    assert "has not started, so there is no log" in cli("logs", "work", "waiting 1")


def test_a_run_is_seen_and_waited_for_when_its_script_is_gone(cli: Cli, running: Running) -> None:
    process = running()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cli.data("status", "work")["state"] == "left"
    assert cli.data("status", "work")["tasks"]["running"] == 2
    waiting = cli.start("wait", "work")
    Path("go").touch()
    out, err = waiting.communicate(timeout=50)
    assert waiting.returncode == 0, out + err
    facts = cli.data("status", "work")
    assert facts["tasks"] == {"waiting": 0, "running": 0, "succeeded": 6, "failed": 0, "cancelled": 0}
    assert "left by its script; all its tasks are done" in cli("status", "work")
    before = sorted(path for path in Path(facts["path"]).rglob("*") if path.name != "holder")
    cli("tasks", "work")
    assert sorted(path for path in Path(facts["path"]).rglob("*") if path.name != "holder") == before


def test_a_run_that_nobody_works_on_is_lost(cli: Cli, running: Running) -> None:
    process = running()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path,) = Path(".nornir_pools").absolute().iterdir()
    assert pools.cancel(path, ["running 0", "running 1"]) is False
    until(lambda: not pools.look(path).live_jobs(), "jobs live", 40)
    assert cli.data("status", "work", status=3)["tasks"]["waiting"] == 3
    told = cli("status", "work", status=3)
    assert "none of its jobs is alive" in told
    assert "nornir_pools.attach('work-" in told
    assert "waits in vain" in cli("why", "work", "waiting 0")
    cli("wait", "work", status=3)
    until(lambda: not pools.look(path).live_jobs(), "jobs live")


def test_what_nobody_can_tell_of_a_run_does_not_hide_the_rest(cli: Cli, running: Running, tmp_path: Path) -> None:
    process = running()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (path,) = Path(".nornir_pools").absolute().iterdir()
    facts, why = (path / "run.json").read_text(), "SLURM does not answer"
    variables: dict[str, str] = {}
    if cli.executor == "slurm":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / "squeue").chmod(0o755)
        variables = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    else:
        (path / "run.json").write_text(json.dumps({**json.loads(facts), "host": "elsewhere"}))
        why = "processes of the machine elsewhere"
    told = cli("status", "work", status=3, **variables)
    (path / "run.json").write_text(facts)
    assert why in told
    assert "waiting 3" in told
    pools.cancel(path)
    until(lambda: not pools.look(path).live_jobs(), "jobs live", 40)


def test_the_tasks_of_a_closed_run_are_told(cli: Cli) -> None:
    name = cli.run_failing()["name"]
    assert [task["state"] for task in cli.data("tasks", name)] == ["succeeded", "failed", "succeeded", "failed", "failed"]
    first = cli.data("tasks", name)[0]
    assert first["started"] <= first["finished"]
    assert first["node"]
    assert first["memory"] > 1e6
    told = cli("tasks", name, "--failed")
    assert re.search(r"^ 2  failed +[\d.]+s +\S+ +line 4 +exit status 3: cannot read tile 2$", told, re.MULTILINE)
    assert "No task of run" in cli("tasks", name, "--running")
    assert "line 4: exit status 3: cannot read tile 2" in cli("status", name, status=1)
    assert re.search(rf"closed +5/5 +3 +- +\S+ ago +{name}$", cli("status"), re.MULTILINE)
    assert [run["name"] for run in cli.data("status")] == [name]


def test_the_part_of_the_log_that_belongs_to_a_task(cli: Cli) -> None:
    cli.run_failing()
    shown = f"cannot read tile 2\nnext: nornir-pools retry {pools.look().info.name} --task 2\n"
    assert cli("logs", "last", "line 4") == shown
    assert cli("logs", "last", "2") == shown
    told = cli("logs", "last", "--all-failed")
    assert re.findall(r"^==> (\d+) ", told, re.MULTILINE) == ["2", "4", "5"]
    assert "no such channel\n" in told


def test_a_log_can_be_followed(cli: Cli) -> None:
    Path("list.txt").write_text("echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended\n")
    cli("run", "list.txt", "--detach")
    following = cli.start("logs", "list", "1", "-f")
    assert following.stdout is not None
    assert following.stdout.readline() == "begun\n"
    Path("go").touch()
    assert following.communicate(timeout=40)[0] == "ended\n[task 1 succeeded]\n"
    cli("wait", "list")
    until(lambda: pools.look("list").info.state == "closed", "it is not closed", 20)


def test_why_a_task_has_failed(cli: Cli) -> None:
    cli.run_failing()
    told = cli("why", "last", "line 4")
    for words in (
        r"failed: task 2 \(line 4\) of run list-",
        r"command +echo .*exit 3",
        r"cause +exit status 3: cannot read tile 2",
        r"ran +in job \S+ on \S+, started 20",
        r"used +[\d.]+ MB, [\d.]+s of CPU",
        r"\| cannot read tile 2",
        r"next +.*nornir-pools retry list-\S+ --task 2",
    ):
        assert re.search(words, told), words
    assert cli.data("why", "last", "2")["status"] == 3


@pytest.mark.slurm
def test_why_a_job_waits_is_told_in_words(cli: Cli) -> None:
    if cli.executor != "slurm":
        pytest.skip("local jobs do not wait")
    Path("list.txt").write_text("true\n")
    cli("run", "list.txt", "--detach", NORNIR_POOLS_SLURM_ADDITIONAL_PARAMETERS='{"begin": "now+1hour"}')
    until(lambda: "BeginTime" in cli("why", "list", "1"), "SLURM gives no reason", 20)
    told = cli("why", "list", "1")
    assert re.search(r"pending +1 jobs: it is to start later.*\(BeginTime\)", told)
    assert re.search(r"expected +to start 20\d\d-.*\(in (59m|1h)", told)
    cli("cancel", "list")


def test_to_watch_is_to_see_it_end(cli: Cli) -> None:
    Path("list.txt").write_text("while [ ! -e go ]; do sleep 0.05; done\n")
    cli("run", "list.txt", "--detach")
    until(lambda: bool(pools.look("list").counts["running"]), "it does not run", 40)
    watching = cli.start("status", "list", "--watch")
    assert watching.stdout is not None
    assert "1 running" in watching.stdout.readline()
    Path("go").touch()
    out, _ = watching.communicate(timeout=40)
    assert "1 succeeded" in out.splitlines()[-1]
    assert watching.returncode == 0
    until(lambda: pools.look("list").info.state == "closed", "it is not closed", 20)


def test_a_terminal_of_80_columns_is_enough(here: Cli) -> None:
    here.run_failing()
    script = "import sys\nfrom nornir_pools.cli import main\nsys.exit(main(['tasks', 'last']))\n"
    with Terminal(script, TERM="xterm-256color", COLUMNS="80") as terminal:
        assert terminal.end(40) == 0
        assert "\x1b[" in terminal.text
        lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.text).splitlines()
        assert max(map(len, lines)) <= 80
        assert any("line 4" in line and "exit status 3" in line for line in lines)


def test_slurm_is_asked_once_whether_anybody_works_on_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunView] = []

    def live_jobs(view: RunView) -> list[str]:
        asked.append(view)
        return []

    monkeypatch.setattr(RunView, "live_jobs", live_jobs)
    view = made_view([TaskView(1, "t", "waiting")], "left")
    assert "attach" in "\n".join(looks._describe(view))
    assert facts.end_of(view) == 3
    assert reasons._of_waiting(view, view.tasks[0])[0].startswith("waits in vain")
    assert asked == [view]


def test_what_is_shown_is_how_the_run_is_now_and_not_before_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    done = [made_view([TaskView(1, "t", state)], "held") for state in ("running", "running", "succeeded")]
    order: list[str] = []

    def look(path: Path) -> RunView:
        order.append("look")
        return done.pop(0)

    monkeypatch.setattr(pools, "look", look)
    monkeypatch.setattr("time.sleep", lambda seconds: order.append("pause"))
    assert [view.tasks[0].state for view in looks._looks(done.pop(0))] == ["running", "running", "succeeded"]
    assert order == ["pause", "look", "pause", "look"]


def test_to_wait_ends_in_time_also_for_a_run_without_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "look", lambda run: made_view([], "held"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(typer.Exit) as ended:
        looks.wait("made", 0.05)
    assert ended.value.exit_code == 3


def test_a_log_is_followed_into_another_try_and_no_character_is_torn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    text = "tör\n".encode()
    first.write_bytes(text[:2])
    second.write_text("another's\nagain\n")
    running = TaskView(1, "t", "running", log=str(first))
    again = replace(running, log=str(second), log_start=10)
    tasks = iter([running, again, replace(again, state="succeeded", log_end=16)])

    def look(path: Path) -> RunView:
        first.write_bytes(text)
        return made_view([next(tasks)], "held")

    monkeypatch.setattr(pools, "look", look)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    looks._follow_log(made_view([running], "held"), running)
    assert capsys.readouterr().out == "tör\nagain\n[task 1 succeeded]\n"


NAMES = ("status", "tasks", "logs", "wait", "why", "efficiency", "retry", "cancel", "debug")


def test_an_unknown_run_and_two_that_match_are_refused(here: Cli) -> None:
    more = {"logs": ["1"], "why": ["1"], "debug": ["1"], "retry": ["--failed"]}
    for name in NAMES:
        told = here(name, "nowhere", *more.get(name, []), status=2)
        assert "there is no run 'nowhere'; the newest ones are: none" in told
    for number in range(2):
        pools.GetClusterPool(f"twin{number}", 1, executor="local").add_task("t", len, "x").wait_return(40)
    pools.ClosePools()
    for name in NAMES:
        told = here(name, "twin", *more.get(name, []), status=2)
        assert re.search("'twin' is the beginning of more than one run's name: twin0-.*, twin1-", told)


def test_an_unknown_task_is_refused(here: Cli) -> None:
    here.run_failing()
    for words in (
        ["logs", "last"],
        ["why", "last"],
        ["debug", "last"],
        ["cancel", "last", "--task"],
        ["retry", "last", "--task"],
    ):
        assert "there is no task '77' in run list-" in here(*words, "77", status=2)
        assert "'line' may be any of 5 tasks" in here(*words, "line", status=2)
    assert "which task?" in here("logs", "last", status=2)


def test_help_of_each_command_shows_an_example_and_loads_nothing_heavy(here: Cli) -> None:
    listed = re.findall(r"^  (\w+)  ", here("--help").partition("Commands:\n")[2], re.MULTILINE)
    assert {"run", "status", "tasks", "logs", "why", "cancel", "retry", "wait", "clean", "debug", "efficiency", "demo"} <= set(
        listed
    )
    for name in set(listed) - {"demo"}:
        assert f"Example: nornir-pools {name} " in here(name, "--help")
    heavy = ("rich", "submitit", "numpy", "nornir_pools.cluster.launcher", "skimage")
    program = (
        "import sys\nfrom nornir_pools.cli import main\nmain(['--help'])\n"
        f"assert not set({heavy}) & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=here.environment, capture_output=True, timeout=40)
    assert re.fullmatch(r"nornir-pools \d.*\n", here("--version"))
    assert "Usage" in here(status=2)
    assert "No such command" in here("nonsense", status=2)
