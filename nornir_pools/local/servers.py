"""multiprocessing's own servers, the fork server and the resource tracker: at the end of the script, and in a forked child."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from typing import Any

__all__ = ["stop_servers"]


def stop_servers() -> None:
    """At exit: end multiprocessing's fork server and resource tracker, and wait for them.

    They would end by themselves a moment after this process; but then nobody waits for them, and where process 1 does not
    either (in many containers) they stay as zombies. The wait is bounded: a process of the user's own may keep them alive.
    """

    def stop() -> None:
        for module, pid in (("forkserver", "_forkserver_pid"), ("resource_tracker", "_pid")):
            helper: Any = getattr(sys.modules.get(f"multiprocessing.{module}"), f"_{module}", None)
            if getattr(helper, pid, None) is not None and hasattr(helper, "_stop"):  # else it is the one of our parent
                helper._stop()

    if not multiprocessing.active_children():
        thread = threading.Thread(target=stop, daemon=True)
        with contextlib.suppress(RuntimeError):  # Python 3.12.1 starts no thread any more at this point
            thread.start()
            thread.join(1.0)


def _after_fork() -> None:
    """A forked child has none of the children that multiprocessing knows of, its servers included."""
    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    for module, name, fd, rest in (
        ("forkserver", "_forkserver", "_forkserver_alive_fd", ("_forkserver_address", "_forkserver_pid")),
        ("resource_tracker", "_resource_tracker", "_fd", ("_pid",)),
    ):
        helper = getattr(sys.modules.get(f"multiprocessing.{module}"), name, None)
        if helper is not None:
            if getattr(helper, fd, None) is not None:
                os.close(getattr(helper, fd))
            for each in (fd, *rest):
                setattr(helper, each, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
