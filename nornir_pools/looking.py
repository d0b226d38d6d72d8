"""Looking at a run from outside, and tidying up: by its name, whoever holds it, from any machine that sees its folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cluster.clearing import Cleared
    from .cluster.views import RunView

__all__ = ["clean", "look"]


def look(run: str | os.PathLike[str] = "last") -> RunView:
    """What is known of a run: its state, its tasks and its jobs, from its journal and its folder. Changes nothing.

    `run` is a path, a run's name or its unique beginning, the name of a pool (its newest run), or "last" (of all). It may
    be held by a live script, here or elsewhere, left by a dead one, or closed. Raises RunNotFoundError if there is none.
    """
    from .cluster.reading import view_run

    return view_run(run)


def clean(run: str | os.PathLike[str], *, keep_failed: bool = False, dry_run: bool = False) -> Cleared:
    """Remove a run's folder, and return what that frees; with `dry_run` only tell.

    With `keep_failed`, what tells of its failed tasks stays: journal, logs, and their calls. Raises RunBusyError if a live
    process holds the run or jobs of it are alive, RunNotFoundError if there is none, SpoolError if nobody can tell.
    """
    from .cluster.clearing import clear_run

    return clear_run(run, keep_failed=keep_failed, dry_run=dry_run)
