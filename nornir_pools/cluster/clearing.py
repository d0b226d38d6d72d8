"""Removing runs that nobody needs any more, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunBusyError
from .history import values_of_failures
from .lease import Lease
from .reading import view_run
from .spool import Spool
from .views import RunView

__all__ = ["Cleared", "clear_run"]


@dataclass(frozen=True)
class Cleared:
    """What was removed of a run, or would be."""

    name: str
    path: Path
    files: int
    bytes: int
    kept: str = ""
    """What stays, in words."""


def clear_run(run: str | os.PathLike[str], *, keep_failed: bool = False, dry_run: bool = False) -> Cleared:
    """Remove a run's folder; with `keep_failed` what tells of its failures stays, if there were any.

    Raises RunBusyError if a live process holds the run or jobs of it are alive, SpoolError if that cannot be found out.
    """
    view = view_run(run)
    if view.info.state == "held":
        raise RunBusyError(
            f"the run {view.info.name} is held by {view.info.holder}, so it is not removed", run=str(view.info.path)
        )
    if jobs := view.live_jobs():
        raise RunBusyError(
            f"the run {view.info.name} has {len(jobs)} live jobs ({', '.join(jobs[:3])}{' …' if len(jobs) > 3 else ''}), so it "
            "is not removed; cancel it first",
            run=str(view.info.path),
        )
    failed = [task for task in view.tasks if task.state == "failed"] if keep_failed else []
    logs = {os.path.basename(task.log) for task in failed if task.log}
    before = _measure(view.info.path)
    if failed:
        kept = _measure(view.info.path, of_failures=logs)
        result = Cleared(
            view.info.name, view.info.path, before[0] - kept[0], before[1] - kept[1], f"{len(failed)} failed tasks"
        )
    else:
        result = Cleared(view.info.name, view.info.path, *before)
    if not dry_run:
        _remove(view, logs if failed else None)
    return result


def _remove(view: RunView, logs: set[str] | None) -> None:
    with contextlib.closing(Spool(view.info.path)) as spool:
        lease = Lease(spool)
        lease.take()  # or somebody else takes it over at this moment
        try:
            if logs is None:
                shutil.rmtree(view.info.path)
            else:
                spool.discard(keep_logs=logs, keep_values=values_of_failures(spool))
                spool.note(t="closed")  # its values are gone: nobody can take it over any more
        finally:
            lease.release()


def _measure(path: Path, of_failures: set[str] | None = None) -> tuple[int, int]:
    """Files, and bytes, below a folder; or those of them that tell of failures, whose logs have these names."""
    files = size = 0
    for folder, _, names in os.walk(path):
        part = os.path.relpath(folder, path).split(os.sep)[0]
        for name in names:
            if of_failures is not None and not (part in (".", "failed", "shared") or (part == "jobs" and name in of_failures)):
                continue
            try:
                size += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
            files += 1
    return files, size
