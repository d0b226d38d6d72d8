"""Shell commands: what they get, what comes back, and that none outlives its task."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.base import PoolBase


def test_stdout_is_the_value_and_the_status_is_kept(pool: PoolBase) -> None:
    task = pool.add_process("partial", "echo partial; echo why >&2; exit 3")
    assert task.wait_return() == "partial\n"
    assert (task.returncode, task.stdoutdata, task.stderrdata) == (3, "partial\n", "why\n")
    assert task.failed
    assert task.cmd == "echo partial; echo why >&2; exit 3"


def test_the_status_waits_for_the_end(pool: PoolBase) -> None:
    assert pool.add_process("slow", "sleep 0.3; exit 4").returncode == 4


def test_a_command_runs_exactly_once(pool: PoolBase, tmp_path: Path) -> None:
    pool.add_process("once", "echo ran >> log").wait()
    assert (tmp_path / "log").read_text() == "ran\n"


def test_it_runs_in_the_folder_and_environment_of_the_moment(
    pool: PoolBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    monkeypatch.setenv("MARK", "first")
    first = pool.add_process("first", "pwd; echo $MARK")
    relative = pool.add_process("relative", "pwd", cwd="../two")
    monkeypatch.chdir(tmp_path / "two")
    monkeypatch.setenv("MARK", "second")
    second = pool.add_process("second", "pwd; echo $MARK")
    assert first.wait_return() == f"{tmp_path}/one\nfirst\n"
    assert relative.wait_return() == f"{tmp_path}/two\n"
    assert second.wait_return() == f"{tmp_path}/two\nsecond\n"


def test_arguments_of_subprocess_run_are_honoured(pool: PoolBase, tmp_path: Path) -> None:
    task = pool.add_process(
        "all",
        "cat <(cat) <(echo $MARK)",
        executable="/bin/bash",
        env={"MARK": "m1", "PATH": "/usr/bin:/bin"},
        input="from stdin\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert task.wait_return() == "from stdin\nm1\n"


def test_stdin_is_empty(pool: PoolBase) -> None:
    assert pool.add_process("cat", "cat; echo end").wait_return(50) == "end\n"


@pytest.mark.parametrize("argument", ["a b", 'q"q', "it's", "$HOME", "sémi;colon", "(1:7)*", "\n"])
def test_words_arrive_as_they_are(pool: PoolBase, argument: str) -> None:
    assert pool.add_process("s", shlex.join(["printf", "%s", argument])).wait_return() == argument
    assert pool.add_process("l", ["printf", "%s", argument], shell=False).wait_return() == argument


@pytest.mark.parametrize("command", [None, 7, "", [], ["printf", "x"]])
def test_what_is_no_command_is_refused_at_once(pool: PoolBase, command: object) -> None:
    with pytest.raises(ValueError, match=r"command|list"):
        pool.add_process("bad", command)
    with pytest.raises(TypeError, match="preexec_fn"):
        pool.add_process("bad", "true", preexec_fn=print)
    assert pool.num_active_tasks == 0


def test_large_outputs_come_whole(pool: PoolBase) -> None:
    program = "import sys; sys.stderr.write('x' * 5_000_000); print('y' * 5_000_000)"
    task = pool.add_process("large", [sys.executable, "-c", program], shell=False)
    assert len(task.wait_return()) == 5_000_001
    assert len(task.stderrdata) == 5_000_000


def test_bytes_that_are_no_text_are_replaced(pool: PoolBase) -> None:
    assert pool.add_process("bytes", r"printf 'a\377b'").wait_return() == "a\ufffdb"


def test_check_raises_for_a_status_that_is_not_zero(pool: PoolBase) -> None:
    task = pool.add_process("checked", "echo out; echo err >&2; exit 3", check=True)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        task.wait_return()
    assert (caught.value.returncode, caught.value.output, caught.value.stderr) == (3, "out\n", "err\n")
    assert task.returncode == 3


def test_a_missing_program_is_an_error(pool: PoolBase) -> None:
    assert pool.add_process("shell", "no_such_command_zz").returncode == 127
    task = pool.add_process("exec", "no_such_command_zz", shell=False)
    with pytest.raises(pools.CommandStartError, match="no_such_command_zz"):
        task.wait_return()
    with pytest.raises(OSError, match="no_such_command_zz"):
        task.returncode  # noqa: B018 - it never had a status, and must not look like one
    assert pool.add_process("good", "echo ok").wait_return() == "ok\n"


def test_a_shell_command_may_be_longer_than_an_argument(pool: PoolBase) -> None:
    task = pool.add_process("long", f"printf a; echo {'x' * 1_000_000} | wc -c; exit 3", input="unread")
    assert task.wait_return() == "a1000001\n"
    assert task.returncode == 3


@pytest.mark.parametrize("shell", [True, False])
def test_a_command_line_that_is_too_long_is_an_error(pool: PoolBase, shell: bool) -> None:
    text = "x" * 3_000_000
    with pytest.raises(pools.CommandStartError, match="too long"):
        pool.add_process("long", f"echo {text}" if shell else ["echo", text], shell=shell).wait_return()


def test_a_signal_is_an_error_with_a_negative_status(pool: PoolBase) -> None:
    task = pool.add_process("killed", "echo before; kill -9 $$")
    with pytest.raises(pools.CommandError, match="SIGKILL") as caught:
        task.wait_return()
    assert caught.value.stdout == "before\n"
    assert task.returncode == -9


def test_a_time_limit_ends_the_whole_group(pool: PoolBase, tmp_path: Path) -> None:
    task = pool.add_process("slow", "echo begun; sleep 61.25 & sleep 61.25", timeout=0.5)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        task.wait_return(50)
    assert caught.value.output == "begun\n"
    assert gone("61.25")


def test_what_a_command_leaves_behind_is_ended_with_it(pool: PoolBase) -> None:
    assert pool.add_process("background", "sleep 62.25 & echo started").wait_return(20) == "started\n"
    assert gone("62.25")


@pytest.mark.needs("concurrent")
def test_no_more_commands_run_at_once_than_workers(pool: PoolBase, tmp_path: Path) -> None:
    for i in range(6):
        pool.add_process(str(i), "echo start >> log; sleep 0.2; echo end >> log")
    pool.wait_completion()
    running = most = 0
    for line in (tmp_path / "log").read_text().splitlines():
        running += 1 if line == "start" else -1
        most = max(most, running)
    assert most == 2


def test_commands_are_shown_without_being_waited_for(pool: PoolBase) -> None:
    task = pool.add_process("slow", "sleep 0.5")
    assert "slow" in repr(task)
    assert dir(task)
    task.wait()


def gone(words: str) -> bool:
    """Whether no process with these words on its command line runs, now or in a moment."""
    end = time.monotonic() + 10
    while any(words in " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
