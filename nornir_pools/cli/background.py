"""Going on in the background: what --detach means. A process without a terminal holds the run until it is over.

If that process is killed, too, the run's jobs go on all the same, as those of any script.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from .output import command

__all__ = ["in_background"]

_STARTED = b"\0"


def in_background(work: Callable[[Callable[[Path], None]], int]) -> int:
    """Have ``work(started)`` done by a process of its own; returns once it has called ``started`` with a file for what it
    prints from then on, or has ended. What it prints until then appears here. Returns the exit status so far."""
    heard, told = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        _be_in_background(work, told)
    os.close(told)
    text = b""
    while data := os.read(heard, 65536):
        text += data
    os.close(heard)
    before, started, _ = text.partition(_STARTED)
    sys.stdout.write(before.decode("utf-8", "replace"))
    if started:
        return 0
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _be_in_background(work: Callable[[Callable[[Path], None]], int], told: int) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, null), (1, told), (2, told)):
        os.dup2(target, number)
    os.close(told)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a program's own stdout

    def started(output: Path) -> None:
        sys.stdout.write(_STARTED.decode())
        sys.stdout.flush()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    status = 1
    try:
        status = command(work)(started)
    except typer.Exit as end:
        status = end.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
