"""``nornir-pools run``: lists of commands."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from ..conftest import until
from ..terminal import Terminal
from .conftest import FAILING, Cli

pytestmark = pytest.mark.timeout(120)


def test_each_command_is_run_and_the_failed_are_named_with_status_and_last_line(cli: Cli) -> None:
    Path("list.txt").write_text(FAILING)
    told = cli("run", "list.txt", "-n", "4", status=1)
    assert re.search(r"^5 tasks in [\d.]+s: 2 succeeded, 3 failed$", told, re.MULTILINE)
    assert "line 4: exit status 3: cannot read tile 2\n" in told
    assert "line 6: exit status 1: no such channel\n" in told
    assert re.search(r"line 7: exit status 127: .*no_such_program", told)
    assert re.search(r"^next: nornir-pools retry list-\S+ --failed$", told, re.MULTILINE)
    assert re.search(r"^nornir-pools: run list-\S+: 5 commands, ", told, re.MULTILINE)
    assert "5/5 done, 3 failed" in told
    assert "\x1b" not in told


def test_json_names_exactly_the_failed_with_their_status(cli: Cli) -> None:
    facts = cli.run_failing()
    assert [(task["name"], task["status"]) for task in facts["failed"]] == [("line 4", 3), ("line 6", 1), ("line 7", 127)]
    assert facts["tasks"] == {"waiting": 0, "running": 0, "succeeded": 2, "failed": 3, "cancelled": 0}
    assert (Path(facts["path"]) / "tasks.txt").read_text() == FAILING


def test_commands_that_all_succeed_end_with_status_0(here: Cli) -> None:
    Path("list.txt").write_text("touch 'a b' && touch c\n")
    assert "1 succeeded, 0 failed" in here("run", "list.txt", "--local")
    assert Path("a b").exists()
    assert Path("c").exists()


def test_detached_it_goes_on_without_the_terminal(cli: Cli) -> None:
    Path("list.txt").write_text("while [ ! -e go ]; do sleep 0.05; done\ntrue\n")
    told = cli("run", "list.txt", "-n", "2", "--detach")
    assert re.search(r"next: nornir-pools status list-\S+\n", told)
    assert cli.data("status", "list")["state"] == "held"
    Path("go").touch()
    cli("wait", "list")
    until(lambda: bool(cli.data("status", "list")["state"] == "closed"), "it is not closed", 20)
    (run,) = Path(".nornir_pools").iterdir()
    assert "2 succeeded, 0 failed" in (run / "run.log").read_text()


def test_what_is_wrong_before_it_goes_on_in_the_background_is_told(here: Cli) -> None:
    Path("list.txt").write_text("true\n")
    told = here("run", "list.txt", "--detach", status=3, NORNIR_POOLS_FOLDER="/proc/nowhere")
    assert re.search("folder.* /proc/nowhere.* cannot be", told)  # written, or made by who may write everywhere


def test_a_list_can_be_resumed(here: Cli) -> None:
    Path("list.txt").write_text("echo x >>first\n")
    here("run", "list.txt", NORNIR_POOLS_RESUME="1")
    Path("list.txt").write_text("echo x >>first\necho x >>second\n")
    assert "2 succeeded, 0 failed" in here("run", "list.txt", NORNIR_POOLS_RESUME="1")
    assert (Path("first").read_text(), Path("second").read_text()) == ("x\n", "x\n")
    (run,) = Path(".nornir_pools").iterdir()
    assert (run / "tasks.txt").read_text() == Path("list.txt").read_text()


def test_a_list_is_not_run_where_nothing_of_it_could_be_seen(here: Cli) -> None:
    Path("list.txt").write_text("touch ran\n")
    assert "is for Python scripts" in here("run", "list.txt", status=2, NORNIR_POOLS_EXECUTOR="debug")
    assert not Path("ran").exists()


@pytest.mark.slurm
def test_a_dry_run_shows_script_and_cost_and_submits_nothing(cli: Cli) -> None:
    Path("list.txt").write_text("true\n" * 30)
    told = cli("run", "list.txt", "-n", "10", "--cpus", "2", "--mem", "1500M", "--time", "1:30:00", "--dry-run")
    if cli.executor == "slurm":
        for words in ("#!/bin/bash", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=1536", "#SBATCH --time=90", "--array=0-9"):
            assert words in told
        assert "at most 90.0 core-hours" in told  # 30 x 2 CPUs x 1.5 h
        whole = cli("run", "list.txt", "--time", "1:30:00", "--dry-run", NORNIR_POOLS_SLURM_EXCLUSIVE="true")
        assert "#SBATCH --exclusive" in whole
        assert "core-hours" not in whole  # nobody knows how large the nodes are
    assert "30 commands, at most 10 at once" in told
    assert told.endswith("Nothing was submitted.\n")
    assert not Path(".nornir_pools").exists()


@pytest.mark.slurm
def test_what_slurm_refuses_is_told_in_its_words(cli: Cli) -> None:
    Path("list.txt").write_text("true\n")
    if cli.executor == "slurm":
        assert "invalid partition" in cli("run", "list.txt", "--partition", "no_such", status=1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no command"),
        (b"# nothing\n\n  \n", "has no command"),
        (b"echo 1\r\necho 2\r\n", r"line 1: .* DOS and Windows"),
        (b"true\necho 'open\n", "line 2: .*nterminated quoted string"),
        (b"true\necho \\\ntrue\n", "line 2: a command may not go on in the next line"),
        (b"true\n\xff\n", "line 2: no UTF-8"),
        (b"a\0b\n", "NUL"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(here: Cli, content: bytes, complaint: str) -> None:
    Path("list.txt").write_bytes(content)
    assert re.search(complaint, here("run", "list.txt", status=2))
    assert not Path(".nornir_pools").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere.txt"], "nowhere.txt cannot be read"),
        (["list.txt", "--mem", "much"], "--mem 'much' is no amount of memory"),
        (["list.txt", "--time", "0"], "--time '0' is no time limit"),
        (["list.txt", "-n", "0"], "-n"),
        (["list.txt", "--no-such"], "--no-such"),
    ],
)
def test_wrong_use_is_refused(here: Cli, words: list[str], complaint: str) -> None:
    Path("list.txt").write_text("true\n")
    assert complaint in here("run", *words, status=2)


def test_slurm_where_there_is_none_is_refused(here: Cli, tmp_path: Path) -> None:
    Path("list.txt").write_text("true\n")
    told = here("run", "list.txt", "--slurm", status=2, PATH=str(tmp_path))
    assert "sbatch is not on PATH" in told


def test_a_comment_with_an_apostrophe_is_no_open_quote(here: Cli) -> None:
    Path("list.txt").write_text("true # don't\n")
    here("run", "list.txt")


def test_interrupted_it_ends_its_jobs_and_says_what_was_done(cli: Cli) -> None:
    Path("list.txt").write_text("touch mark; while [ ! -e go ]; do sleep 0.05; done\n")
    process = cli.start("run", "list.txt")
    until(Path("mark").exists, "the command does not start", 40)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=40)
    assert process.returncode == 130
    assert "0 had succeeded, 1 were cancelled" in told
    assert cli.data("status", "list")["tasks"]["cancelled"] == 1


def test_on_a_terminal_there_is_a_bar_and_colours_unless_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)  # (old versions of rich heed it even if it is empty)
    Path("list.txt").write_text(FAILING)
    script = "import sys\nfrom nornir_pools.cli import main\nsys.exit(main(['run', 'list.txt', '--local']))\n"
    for unwanted in (False, True):
        if unwanted:
            monkeypatch.setenv("NO_COLOR", "1")
        with Terminal(script, TERM="xterm", COLUMNS="80") as terminal:
            assert terminal.end(40) == 1
            assert "5/5" in terminal.text
            assert ("\x1b[1;31mline 4\x1b[0m: exit status 3" in terminal.text) is not unwanted
            assert "exit status 3: cannot read tile 2" in terminal.text


def test_a_budget_ends_a_run_and_the_rest_can_be_run_later(cli: Cli) -> None:
    Path("list.txt").write_text("".join(f"[ -e quick ] || sleep 0.3; echo {number} >> done\n" for number in range(100)))
    told = cli("run", "list.txt", "-n", "2", "--budget", "0.0005", status=1)  # 1.8 core-seconds
    assert "its budget of 0.0005 core-hours is spent: its jobs have used 0.000" in told
    counted = re.search(r"^(\d+) tasks in [\d.]+s: (\d+) succeeded, (\d+) failed$", told, re.MULTILINE)
    rest = re.search(
        r"^nornir-pools: the last (\d+) commands were not begun either: nornir-pools run (\S+)$", told, re.MULTILINE
    )
    assert counted is not None
    assert rest is not None
    added, succeeded, failed = map(int, counted.groups())
    assert added == succeeded + failed == 100 - int(rest[1])
    assert 0 < succeeded < 30
    assert len(Path("done").read_text().splitlines()) == succeeded
    assert re.search(r"^next: nornir-pools retry list-\S+ --failed$", told, re.MULTILINE)
    Path("quick").touch()
    cli("run", rest[2], "-n", "2")
    assert len(Path("done").read_text().splitlines()) == succeeded + int(rest[1])


def test_too_many_failures_end_a_run_and_the_rest_can_be_run_later(here: Cli) -> None:
    Path("list.txt").write_text("false\n" + "true\n" * 99)
    told = here("run", "list.txt", "-n", "1", status=1, NORNIR_POOLS_MAX_FAILURES="1")
    assert "has stopped, since 1 of its tasks have failed" in told
    assert re.search(r"the last \d+ commands were not begun either: nornir-pools run \S+rest\.txt", told)


def test_a_dry_run_names_the_budget(here: Cli) -> None:
    Path("list.txt").write_text("true\n")
    told = here("run", "list.txt", "--budget", "2.5", "--dry-run")
    assert "no further command is begun once the jobs have used the budget of 2.5 core-hours\n" in told
    assert "budget" not in here("run", "list.txt", "--dry-run")
    assert "'budget_core_hours' must be a number above 0" in here("run", "list.txt", "--budget", "0", status=2)
