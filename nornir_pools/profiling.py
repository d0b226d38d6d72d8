"""NORNIR_PROFILE: a cProfile for each worker, process or job, merged into one file when the script ends.

The script that makes a pool names a folder of its own for the profiles, in an environment variable that its workers get like
any other::

    NORNIR_PROFILE=DIR python tiles.py ─> DIR/tiles-HOST-PID/*.pstats, one a worker ─> DIR/tiles_aggregate.pstats

A worker writes its profile anew after each task, since it may be ended at any moment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .here import PROFILES, here, is_child

if TYPE_CHECKING:
    import cProfile
    import pstats

__all__ = ["call_profiled", "merge", "merge_profiles", "prepare"]

_mine: Path | None = None  # the folder for the profiles of this script's workers, made by `prepare`,
_mine_pid = 0  # in the process of this id
_total: tuple[int, pstats.Stats] | None = None  # in a worker: of all its tasks, with the process's id


def prepare() -> None:
    """A pool is being made: from now on workers write profiles, if NORNIR_PROFILE asks for it. Raises OSError."""
    global _mine, _mine_pid
    wanted = os.environ.get("NORNIR_PROFILE")
    # (A worker that makes pools: the script above it merges the profiles of its workers as well.)
    if not wanted or here.job or (PROFILES in os.environ and _mine_pid == os.getpid()) or is_child():
        return
    import platform

    _mine_pid = os.getpid()
    _mine = Path(wanted).absolute() / f"{_script()}-{platform.node()}-{_mine_pid}"
    _mine.mkdir(parents=True, exist_ok=True)
    os.environ[PROFILES] = str(_mine)


def _script() -> str:
    return Path(sys.argv[0] if sys.argv else "").stem.strip("-") or "python"


def call_profiled(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """In a worker: call the function, and add to this process's profile what that takes."""
    import cProfile

    folder = Path(os.environ[PROFILES])  # of now: a task may do anything to its environment
    # One for each task: of functions that came by value, as those of the main script do, each task has its own, and in a
    # profile one of them would take the place of the others.
    profile = cProfile.Profile()
    try:
        profile.enable()
    except ValueError:  # the task before has left a profiler of its own running
        return func(*args, **kwargs)
    try:
        return func(*args, **kwargs)
    finally:
        profile.disable()
        with contextlib.suppress(OSError):  # a profile is not worth a task
            _add(profile, folder)


def _add(profile: cProfile.Profile, folder: Path) -> None:
    global _total
    import platform
    import pstats

    stats = pstats.Stats(profile)
    if _total is None or _total[0] != os.getpid():
        _total = os.getpid(), stats
    else:
        _total[1].add(stats)
    path = folder / f"{platform.node()}-{os.getpid()}.pstats"
    draft = path.with_suffix(".draft")
    _total[1].dump_stats(draft)
    draft.replace(path)


def merge() -> None:
    """At exit: put together what the workers of this script have written."""
    if _mine is None or _mine_pid != os.getpid():
        return
    merge_profiles(_mine.glob("*.pstats"), _mine.parent / f"{_script()}_aggregate.pstats")
    with contextlib.suppress(OSError):
        _mine.rmdir()


def merge_profiles(parts: Iterable[Path], target: Path) -> None:
    """Add up profiles into one file and remove them; what cannot be read is left. Nothing is written if there are none."""
    import pstats

    total: pstats.Stats | None = None
    merged = []
    for part in sorted(parts):
        try:
            stats = pstats.Stats(str(part))
        except (OSError, EOFError, TypeError, ValueError):
            continue
        total = stats if total is None else total.add(stats)
        merged.append(part)
    if total is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    total.dump_stats(target)
    for part in merged:
        if part != target:
            part.unlink(missing_ok=True)
