"""How commands speak: tables and colours on a terminal, plain text elsewhere, JSON if asked for, and what their end means."""

from __future__ import annotations

import datetime
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar, cast

import typer

import nornir_pools as pools

__all__ = ["FAILED", "LOST", "OK", "USAGE", "age", "as_json", "command", "complain", "duration", "fail", "on_terminal", "say"]
__all__ += ["INTERRUPTED", "clock", "memory", "short", "styled", "suggest", "table"]

OK, FAILED, USAGE, LOST = 0, 1, 2, 3
"""Exit statuses: all is well, some tasks failed, wrong use, lost or out of reach."""
INTERRUPTED = 130  # as the shell has it for a program that Ctrl-C has ended
_GAP = 2  # blanks between columns

_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "running": "cyan",
    "cancelled": "yellow",
    "held": "cyan",
    "left": "yellow",
}
_F = TypeVar("_F", bound=Callable[..., Any])


def say(text: str = "") -> None:
    """Write a line to stdout."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"nornir-pools: {text}\n")


def suggest(text: str) -> None:
    """Write what to type next to stderr: what stands on stdout is somebody else's text, or a program reads it."""
    sys.stdout.flush()
    sys.stderr.write(f"next: {text}\n")


def fail(text: str, status: int = USAGE) -> NoReturn:
    """End the command with a message."""
    complain(text)
    raise typer.Exit(status)


def command(function: _F) -> _F:
    """For a command: an error of the package is its message and an exit status, not a traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except pools.PoolError as error:
            lost = isinstance(error, (pools.SpoolError, pools.SubmissionError, pools.JobError))
            fail(str(error), LOST if lost else USAGE)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return cast(_F, wrapped)


def on_terminal() -> bool:
    """Whether a person is looking at stdout."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def as_json(value: Any) -> None:
    """Write a value as JSON."""
    say(json.dumps(value, indent=1, default=str))


def styled(text: str, style: str = "") -> str:
    """The text in the colour of its meaning (a state's, if it is one), on a terminal that shows colours."""
    style = style or _STYLES.get(text.partition(" ")[0].rstrip(":"), "")
    if not style or not on_terminal() or os.environ.get("NO_COLOR"):
        return text
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    with console.capture() as captured:
        console.print(Text(text, style), end="", soft_wrap=True)
    return captured.get()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table. A column whose name begins with ">" stands to the right; on a terminal the last one is cut to fit."""
    rows = [list(row) for row in rows]
    names = [name.removeprefix(">") for name in columns]
    if on_terminal():
        _rich_table(columns, names, rows)
        return
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in [names, *rows]:
        cells = [
            cell.rjust(width) if name.startswith(">") else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        ]
        say("  ".join(cells).rstrip())


def _rich_table(columns: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    widths[-1] = max(20, console.width - sum(widths[:-1]) - _GAP * (len(widths) - 1))
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, column, width in zip(names, columns, widths, strict=True):
        grid.add_column(
            name, justify="right" if column.startswith(">") else "left", no_wrap=True, min_width=min(width, len(name))
        )
    for row in rows:
        grid.add_row(*(Text(short(cell, width), _STYLES.get(cell, "")) for cell, width in zip(row, widths, strict=True)))
    console.print(grid)


def short(text: str, most: int = 100) -> str:
    """The text on one line, cut if it is long."""
    line = "".join(mark if mark.isprintable() else "?" for mark in " ".join(text.split()))  # a terminal may obey them
    return line if len(line) <= most else line[: most - 1] + "…"


def duration(seconds: float | None) -> str:
    """Seconds in words that are easy to compare: 0.4s, 12s, 3m05s, 2h10m, 3d4h."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def age(moment: float | None) -> str:
    """How long ago that was."""
    return "-" if moment is None else f"{duration(time.time() - moment)} ago"


def clock(moment: float | None) -> str:
    """A moment as date and time."""
    return "-" if moment is None else datetime.datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def memory(count: float | None) -> str:
    """Bytes in words."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
