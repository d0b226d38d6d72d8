"""The command that removes runs: clean."""

from __future__ import annotations

import math
import re
import time
from typing import Annotated

import typer

import nornir_pools as pools

from .naming import Json
from .output import LOST, USAGE, as_json, command, complain, fail, memory, say, suggest

__all__ = ["add_to", "seconds_of"]


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools clean --older 14d --keep failed --dry-run")(clean)


@command
def clean(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="The runs, as for the other commands.")] = None,
    older: Annotated[str, typer.Option(metavar="AGE", help="All that were started longer ago: 14d, 12h, 30m.")] = "",
    keep: Annotated[str, typer.Option(metavar="failed", help="'failed': keep what tells of failed tasks.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove runs, and say what that frees. Never one that a live script holds or that has live jobs."""
    if keep not in ("", "failed"):
        fail(f"--keep can be 'failed', not {keep!r}")
    if not runs and not older:
        fail("which runs? Give their names, or --older 14d; nornir-pools status lists them")
    latest = time.time() - seconds_of(older) if older else math.inf
    wanted = [pools.look(run).info for run in runs] if runs else pools.runs()
    freed = []
    refused: list[pools.PoolError] = []
    for path in dict.fromkeys(info.path for info in wanted if info.started <= latest):
        try:
            freed.append(pools.clean(path, keep_failed=keep == "failed", dry_run=dry_run))
        except (pools.RunBusyError, pools.SpoolError) as error:
            refused.append(error)
    if json:
        as_json([{**vars(one), "path": str(one.path), "removed": not dry_run} for one in freed])
    else:
        for one in freed:
            kept = f", and what tells of {one.kept} stays" if one.kept else ""
            say(f"{one.name}: {'would free' if dry_run else 'freed'} {memory(one.bytes)} in {one.files} files{kept}")
        if len(freed) != 1:
            say(f"in all: {memory(sum(one.bytes for one in freed))} in {len(freed)} runs")
        suggest("the same without --dry-run, to remove that" if dry_run and freed else "nornir-pools status")
    for refusal in refused:
        complain(str(refusal))
    if refused:
        raise typer.Exit(LOST if any(isinstance(refusal, pools.SpoolError) for refusal in refused) else USAGE)


def seconds_of(text: str) -> float:
    """Seconds from an age such as 14d, 12h, 30m, 90s; a bare number is days."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if match is None:
        fail(f"{text!r} is no age: write it as 14d, 12h or 30m")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "": 86400}[match[2]]
