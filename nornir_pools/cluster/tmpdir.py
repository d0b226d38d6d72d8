"""A folder of its own for what tasks write to TMPDIR: one for each process that runs tasks, and empty when a task begins.

A folder for each task would have to be made and removed each time, and would go away under what libraries keep from one task
to the next. The worker makes and removes it, so that it goes also where the process was killed.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["empty", "enter", "make", "remove"]

_LASTING = "pymp-"  # so begins the folder of multiprocessing, which it has as long as this process lives


def make() -> str:
    """Make such a folder below this process's TMPDIR, else below /tmp; returns its path, or nothing if that cannot be."""
    for parent in (os.environ.get("TMPDIR"), "/tmp"):
        if parent:
            place = os.path.join(os.path.abspath(parent), f"nornir-{os.urandom(4).hex()}")
            with contextlib.suppress(OSError):
                os.mkdir(place, 0o700)
                return place
    return ""


def enter(place: str) -> None:
    """Have programs, and Python's tempfile, use it from now on."""
    if place:
        os.environ["TMPDIR"] = place
        if tempfile := sys.modules.get("tempfile"):
            vars(tempfile)["tempdir"] = None  # what it has found out before; it looks once


def empty(place: str) -> None:
    """Remove what a task has left in it."""
    try:
        names = os.listdir(place) if place else []
    except FileNotFoundError:  # the task has removed it
        with contextlib.suppress(OSError):
            os.mkdir(place, 0o700)
        return
    except OSError:
        return
    for name in names:
        if not name.startswith(_LASTING):
            _remove(os.path.join(place, name))


def remove(place: str) -> None:
    """Remove it with all that is in it."""
    if place:
        _remove(place)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        try:
            os.rmdir(path)
        except OSError:
            import shutil  # few tasks leave something

            shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
