"""Starting processes of our own through multiprocessing: by which method, and without the main script."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from multiprocessing import spawn
from typing import Any

__all__ = ["context", "without_main_script"]

# (On macOS nothing may be forked that has used the system's libraries, and who knows what a fork server has.)
_FORKSERVER = "forkserver" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
context: Any = multiprocessing.get_context("forkserver" if _FORKSERVER else "spawn")
"""multiprocessing with the start method of our processes: never a bare fork, which copies locks that other threads hold."""

_starting = threading.local()  # .ours is True while this thread starts a process of ours


@contextlib.contextmanager
def without_main_script() -> Iterator[None]:
    """Processes that this thread starts meanwhile do not import the main script.

    Functions of the main script travel by value, so the import would only cost time, and in a script without a
    ``__main__`` guard it would run the script again in every process.
    """
    _starting.ours = True
    try:
        yield
    finally:
        _starting.ours = False


def _preparation_data(name: str, _original: Any = spawn.get_preparation_data) -> dict[str, Any]:
    """As multiprocessing's, but for processes of ours without what it says of the main script."""
    data: dict[str, Any] = _original(name)
    if getattr(_starting, "ours", False):
        for key in ("init_main_from_path", "init_main_from_name"):
            data.pop(key, None)
    return data


spawn.get_preparation_data = _preparation_data
