"""The command that makes a page of a run: report. One file that needs nothing else, to look at, to keep, or to send."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

import nornir_pools as pools

from ..naming import Run
from ..output import LOST, command, fail, memory, say

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools report last -o run.html")(report)


@command
def report(
    run: Run,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file to write; else RUN.html, here.")
    ] = None,
) -> None:
    """Write a page about a run, for a browser: timeline, failures, waiting and running, memory. One file, without network."""
    from .page import page_of

    view = pools.look(run)
    target = output or Path(f"{view.info.name}.html")
    content = page_of(view).encode("utf-8", "replace")  # (a name may hold bytes that are no text)
    try:
        _write(target, content)
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}", LOST)
    say(f"wrote {target} ({memory(len(content))}): {len(view.tasks)} tasks of run {view.info.name}")
    say(f"next: open it in a browser, or from your own machine: scp {os.uname().nodename}:{target.absolute()} .")


def _write(target: Path, content: bytes) -> None:
    """Write a file whole or not at all: a browser may be showing the last one."""
    if target.exists() and not target.is_file():  # /dev/stdout
        target.write_bytes(content)
        return
    fd, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:50]}.")
    try:
        with open(fd, "wb") as file:
            file.write(content)
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), 0o666 & ~umask)
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
