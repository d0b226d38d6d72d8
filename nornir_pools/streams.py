"""Files without a name: what a command reads from and writes to, and a command that is too long to be an argument."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

if hasattr(os, "memfd_create"):
    import fcntl

__all__ = ["output_files", "read_all", "script_of"]

_LONGEST_ARGUMENT = 100_000  # bytes


@contextlib.contextmanager
def output_files(text: str | bytes | None, encoding: str) -> Iterator[tuple[int, int, int]]:
    """Descriptors for stdin, stdout and stderr. (Not files: each of their system calls would let another thread go first.)"""
    files: list[int] = []
    try:
        for _ in range(2):
            files.append(_file_without_name())
        stdin = os.open(os.devnull, os.O_RDONLY) if text is None else _file_without_name()
        files.append(stdin)
        if text is not None:
            _fill(stdin, text.encode(encoding) if isinstance(text, str) else text)
        yield stdin, files[0], files[1]
    finally:
        for file in files:
            os.close(file)


@contextlib.contextmanager
def script_of(command: Any, shell: bool) -> Iterator[int | None]:
    """A shell command that is too long for one argument, though not for all of them (execve(2)), as a file for the shell."""
    text = os.fsencode(command) if os.name == "posix" and shell and isinstance(command, (str, bytes)) else b""
    if not _LONGEST_ARGUMENT <= len(text) < os.sysconf("SC_ARG_MAX"):
        yield None
        return
    script = _file_without_name()
    try:
        _fill(script, text)
        yield script
    finally:
        os.close(script)


def read_all(file: int, encoding: str, errors: str) -> str:
    """All that stands in a file, as text."""
    if not os.fstat(file).st_size:
        return ""
    with open(file, "rb", buffering=0, closefd=False) as stream:
        stream.seek(0)
        return stream.readall().decode(encoding, errors)


def _file_without_name() -> int:
    """The descriptor of a file, in memory where the system has such files: the text ends up there in any case."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("output")
        # Processes that write at the same time would overwrite each other's lines: such a file has no lock for its position.
        fcntl.fcntl(memory, fcntl.F_SETFL, os.O_APPEND)
        return memory
    with tempfile.TemporaryFile() as file:  # pragma: no cover - not Linux
        return os.dup(file.fileno())


def _fill(file: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
