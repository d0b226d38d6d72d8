"""Run one shell command: the function behind every ``add_process``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from .errors import CommandError, CommandStartError

__all__ = ["check_arguments", "end_commands", "run_command", "take_peak"]

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

_groups: set[int] = set()  # the process groups of the commands that run now in this process
_groups_lock = threading.Lock()  # guards _groups against a command that starts while all are being ended
_LONGEST_ARGUMENT = 100_000  # bytes
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
    with _output_files(input, encoding) as (stdin, stdout, stderr), _script_of(command, shell) as script:
        files = {"stdin": stdin, "stdout": stdout, "stderr": stderr, **options}
        try:
            process = _start(command, shell=shell, **files) if script is None else _start_script(script, **files)
        except (OSError, ValueError) as error:
            raise CommandStartError(
                f"the command {_short(command)} could not be started: {error}", errno=getattr(error, "errno", None)
            ) from error
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _end_group(process)
            output = _read(stdout, encoding, errors), _read(stderr, encoding, errors)
            raise subprocess.TimeoutExpired(command, timeout or 0, *output) from None
        finally:
            _end_group(process)
        out, err = _read(stdout, encoding, errors), _read(stderr, encoding, errors)
    if status < 0:
        raise CommandError(_killed(command, -status, err), returncode=status, stdout=out, stderr=err)
    if check and status:
        raise subprocess.CalledProcessError(status, command, out, err)
    return status, out, err


def end_commands() -> None:
    """Kill the process groups of all commands that run in this process now."""
    with _groups_lock:
        for group in _groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)


def take_peak() -> int:
    """The most bytes of memory that one of the commands has used that have ended here since the last call."""
    global _peak
    peak, _peak = _peak, 0
    return peak


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


@contextlib.contextmanager
def _output_files(text: str | bytes | None, encoding: str) -> Iterator[tuple[IO[bytes] | int, IO[bytes], IO[bytes]]]:
    with contextlib.ExitStack() as stack:
        stdin: IO[bytes] | int = subprocess.DEVNULL
        if text is not None:
            stdin = stack.enter_context(_file_without_name())
            stdin.write(text.encode(encoding) if isinstance(text, str) else text)
            stdin.seek(0)
        yield stdin, stack.enter_context(_file_without_name()), stack.enter_context(_file_without_name())


@contextlib.contextmanager
def _script_of(command: Any, shell: bool) -> Iterator[IO[bytes] | None]:
    """A shell command that is too long for one argument, though not for all of them (execve(2)), as a file for the shell."""
    text = os.fsencode(command) if os.name == "posix" and shell and isinstance(command, (str, bytes)) else b""
    if not _LONGEST_ARGUMENT <= len(text) < os.sysconf("SC_ARG_MAX"):
        yield None
        return
    with _file_without_name() as script:
        script.write(text)
        script.flush()
        yield script


def _start_script(script: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
    shell = options.pop("executable", None) or "/bin/sh"
    file = script.fileno()
    return _start([shell, f"/dev/fd/{file}"], pass_fds=(file, *options.pop("pass_fds", ())), **options)


def _file_without_name() -> IO[bytes]:
    """In memory where the system has such files: the text ends up there in any case."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("output"), "w+b")
    return tempfile.TemporaryFile()  # pragma: no cover - not Linux


def _start(command: Any, **options: Any) -> subprocess.Popen[bytes]:
    if os.name != "posix":  # pragma: no cover - Windows has no process groups of this kind
        return subprocess.Popen(command, **options)
    process = _Process(command, start_new_session=True, **options)
    with _groups_lock:
        _groups.add(process.pid)
    return process


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the command and whatever it left in its group; then it is no longer ours to end."""
    if os.name != "posix":  # pragma: no cover
        process.kill()
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with _groups_lock:
        _groups.discard(process.pid)


def _read(file: IO[bytes], encoding: str, errors: str) -> str:
    file.seek(0)
    return file.read().decode(encoding, errors)


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
    global _groups_lock
    _groups_lock = threading.Lock()
    _groups.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
