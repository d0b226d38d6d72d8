"""Run one shell command: the function behind every ``add_process``."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .errors import CommandError, CommandStartError
from .streams import output_files, read_all, script_of
from .tail import noting

__all__ = [
    "CommandRunner",
    "check_arguments",
    "end_command",
    "end_commands",
    "environment",
    "is_command",
    "run_command",
    "take_peak",
]

_ACCEPTED = frozenset(
    {
        "bufsize",
        "close_fds",
        "creationflags",
        "cwd",
        "encoding",
        "env",
        "errors",
        "executable",
        "pass_fds",
        "restore_signals",
        "shell",
        "stderr",
        "startupinfo",
        "stdin",
        "stdout",
        "text",
        "umask",
        "universal_newlines",
        "user",
        "group",
        "extra_groups",
        "check",
        "timeout",
        "input",
        "capture_output",
    }
)

_running: dict[int, tuple[subprocess.Popen[bytes], int]] = {}  # commands that run now in this process, by their process
# group: each with the thread that waits for it
_running_lock = threading.RLock()  # guards _running and _endings, against a command that starts while others are being ended;
# a signal's handler may end them, and come while this thread has it
_endings: list[Collection[int | None] | None] = []  # each time commands were ended: of which threads (None: of all)
_peak = 0  # bytes: see `take_peak`


def check_arguments(command: Any, options: Mapping[str, Any]) -> None:
    """Refuse, before anything starts, what `run_command` would not take. Raises TypeError or ValueError."""
    if isinstance(command, Sequence) and not isinstance(command, (str, bytes)):
        if options.get("shell", True):
            raise ValueError(f"a list of arguments needs shell=False (or shlex.join it into one command): {command!r}")
        if not command:
            raise ValueError("an empty list is no command")
    elif not isinstance(command, (str, bytes, os.PathLike)) or not os.fspath(command):
        raise ValueError(f"a command is a text such as 'ls -l', not {command!r}")
    for name in options:
        if name not in _ACCEPTED:
            raise TypeError(f"add_process takes the arguments of subprocess.run; {name!r} is none of those it can honour")


def environment() -> dict[Any, Any]:
    """The environment of this moment, as `run_command` takes it."""
    # The table inside, of bytes: to go through os.environ decodes every name and value, and to start a program with them
    # encodes them again. (Not left out where it is still that of the process: it may change before the program is started.)
    table: dict[Any, Any] = vars(os.environ)["_data"]
    return table.copy()


def run_command(
    command: Any,
    *,
    check: bool = False,
    timeout: float | None = None,
    input: str | bytes | None = None,
    shell: bool = True,
    **options: Any,
) -> tuple[int, str, str]:
    """Run `command` to its end and return (exit status, stdout, stderr); the arguments are those of ``subprocess.run``.

    The command reads an empty stdin (or `input`), is the head of its own process group, and whatever is left of that
    group is ended with it. Output goes through files without a name, so it may be of any size and a forgotten
    background process cannot hold the command up.

    Raises CommandError if a signal ended it, CommandStartError if it could not start, CalledProcessError if `check` and
    its status is not 0, subprocess.TimeoutExpired after `timeout` seconds.
    """
    for name in ("text", "universal_newlines", "capture_output", "bufsize"):
        options.pop(name, None)  # the output is always captured, and always text
    for name in ("stdin", "stdout", "stderr"):
        if options.get(name) in (None, subprocess.PIPE):
            options.pop(name, None)
    encoding = options.pop("encoding", None) or "utf-8"
    errors = options.pop("errors", None) or "replace"
    with output_files(input, encoding) as outputs, script_of(command, shell) as script, noting(options) as started:
        stdin, stdout, stderr = outputs
        files = {"stdin": stdin, "stdout": stdout, "stderr": stderr, **options}
        try:
            process = _start(command, shell=shell, **files) if script is None else _start_script(script, **files)
        except (OSError, ValueError) as error:
            raise CommandStartError(
                f"the command {_short(command)} could not be started: {error}", errno=getattr(error, "errno", None)
            ) from error
        started()
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _end_group(process)
            output = read_all(stdout, encoding, errors), read_all(stderr, encoding, errors)
            raise subprocess.TimeoutExpired(command, timeout or 0, *output) from None
        finally:
            _end_group(process)
        out, err = read_all(stdout, encoding, errors), read_all(stderr, encoding, errors)
    if status < 0:
        raise CommandError(_killed(command, -status, err), returncode=status, stdout=out, stderr=err)
    if check and status:
        raise subprocess.CalledProcessError(status, command, out, err)
    return status, out, err


def end_command(thread: int, runs: Callable[[], bool]) -> bool:
    """Kill the process group of the command that this thread waits for; returns False if there is none.

    `runs` tells whether the thread is still with what it is to be ended for: while it is, no other command of it begins.
    """
    with _running_lock:
        commands = [process for process, waiting in _running.values() if waiting == thread] if runs() else []
        for process in commands:
            _kill(process)
    return bool(commands)


def end_commands(threads: Collection[int | None] | None = None) -> None:
    """Kill the process groups of all commands that run in this process now, or are just being started.

    `threads`: only of those that these threads wait for.
    """
    with _running_lock:
        _endings.append(threads)
        for process, waiting in _running.values():
            if threads is None or waiting in threads:
                _kill(process)


def take_peak() -> int:
    """The most bytes of memory that one of the commands has used that have ended here since the last call."""
    global _peak
    peak, _peak = _peak, 0
    return peak


class CommandRunner:
    """A callable whose first argument is a command, and whose value is what `run_command` returns."""


def is_command(func: Any) -> bool:
    """Whether this is what a command task calls."""
    return func is run_command or isinstance(func, CommandRunner)


class _Process(subprocess.Popen[bytes]):
    """Notes what a command has used: the system tells that once, to whoever waits for it."""

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        global _peak
        try:
            pid, status, used = os.wait4(self.pid, wait_flags)
        except ChildProcessError:  # somebody else has waited for it
            return self.pid, 0
        if pid == self.pid:
            _peak = max(_peak, used.ru_maxrss * 1024)
        return pid, status


def _start_script(script: int, **options: Any) -> subprocess.Popen[bytes]:
    shell = options.pop("executable", None) or "/bin/sh"
    return _start([shell, f"/dev/fd/{script}"], pass_fds=(script, *options.pop("pass_fds", ())), **options)


def _start(command: Any, **options: Any) -> subprocess.Popen[bytes]:
    # A command that asks at the terminal must fail: in a group that is not the terminal's it would be stopped for ever, in a
    # session of its own there is no terminal. But to the system's scheduler (autogroup) each session is a group to be set up
    # and shared with, which is much of what a short command costs; so there is one only where there is a terminal.
    ended, me = len(_endings), threading.get_ident()
    if os.name != "posix":  # pragma: no cover - Windows has no process groups of this kind
        process = subprocess.Popen(command, **options)
    elif sys.version_info < (3, 11) or _has_terminal():
        process = _Process(command, start_new_session=True, **options)
    else:
        process = _Process(command, process_group=0, **options)
    with _running_lock:
        _running[process.pid] = process, me
        if any(threads is None or me in threads for threads in _endings[ended:]):  # while this one was being started
            _kill(process)
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and whatever is in its group; on Windows, the command."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:  # pragma: no cover
            process.kill()


@functools.cache
def _has_terminal() -> bool:
    """Whether this process has a controlling terminal. (None comes later, and to one that goes nobody needs to pay heed.)"""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the command and whatever it left in its group; then it is no longer ours to end."""
    _kill(process)
    process.wait()
    with _running_lock:
        _running.pop(process.pid, None)


def _killed(command: Any, number: int, stderr: str) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " (SIGKILL often means: out of memory)" if number == signal.SIGKILL else ""
    tail = f"\nthe end of its stderr:\n{stderr[-2000:]}" if stderr else ""
    return f"the command {_short(command)} was ended by {name}{hint}{tail}"


def _short(command: Any) -> str:
    text = repr(command)
    return text if len(text) <= 300 else f"{text[:280]}… ({len(text)} characters)"


def _after_fork() -> None:
    """The commands of the parent are not this process's to end."""
    global _running_lock
    _running_lock = threading.RLock()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
