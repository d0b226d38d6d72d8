"""The arguments that most commands share, and their completion by the shell."""

from __future__ import annotations

from typing import Annotated

import typer

import nornir_pools as pools

__all__ = ["Json", "Run", "TaskWord"]


def _runs(incomplete: str) -> list[str]:
    """For the shell's completion."""
    names = ["last", *(run.name for run in pools.runs())]
    return [name for name in names if name.startswith(incomplete)]


Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's name or its unique beginning, a pool's name (its newest run), a path, or 'last'.",
        autocompletion=_runs,
        show_default=False,
    ),
]
TaskWord = Annotated[str, typer.Argument(metavar="TASK", help="A task's number or name.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
