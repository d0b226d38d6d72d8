"""A list of commands in a file: one a line, as for xargs, parallel or an array over a list."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .output import fail

__all__ = ["Line", "read_lines"]


@dataclass(frozen=True)
class Line:
    """A command, and where it stands."""

    number: int
    command: str


def read_lines(path: Path) -> tuple[list[Line], bytes]:
    """The commands of a file, and its content as it is now. Blank lines and those that begin with # are none.

    Ends the command (status 2), naming file and line, for what cannot be meant.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        fail(f"the task file {path} cannot be read: {error.strerror}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        fail(f"{path}, line {_place(content[: error.start])}: no UTF-8 text")
    before, mark, _ = content.partition(b"\r")
    if mark:
        fail(
            f"{path}, line {_place(before)}: ends as lines do on DOS and Windows, and the shell would take the carriage return "
            f"for a part of the command; convert it: sed -i 's/\\r$//' {shlex.quote(str(path))}"
        )
    if "\0" in text:
        fail(f"{path}: has a NUL character, so it is no list of commands")
    lines = [Line(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [line for line in lines if line.command and not line.command.startswith("#")]
    if not lines:
        fail(f"{path} has no command: write one a line (lines that begin with # are comments)")
    for line in lines:
        if problem := _problem(line.command):
            fail(f"{path}, line {line.number}: {problem}: {line.command}")
    return lines, content


def _place(before: bytes) -> int:
    """The number of the line in which what stands before ends."""
    return before.count(b"\n") + 1


def _problem(command: str) -> str:
    """What is wrong with a command, in the shell's words; "" if nothing is."""
    if command.endswith("\\") and not command.endswith("\\\\"):
        return "a command may not go on in the next line"
    try:
        shlex.split(command, comments=True)
    except ValueError:  # perhaps: the shell, which takes longer, knows
        done = subprocess.run(["/bin/sh", "-n", "-c", command], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            return done.stderr.strip().rpartition(": ")[2] or "the shell does not understand it"
    return ""
