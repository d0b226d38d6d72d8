"""Whether a process is alive; how one died: the words for it, and the error."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from .errors import WorkerDiedError, WorkerOutOfMemoryError

__all__ = ["death_error", "is_alive", "memory_limit", "oom_kills", "process_born", "tell_death"]

_NO_LIMIT = 1 << 60  # bytes: version 1 of cgroups writes a number near 2**63 where there is no limit


def death_error(what: str, exitcode: int, oom_before: int = 0, after: str = "", peak: int = 0) -> WorkerDiedError:
    """The error for a task whose process, `what`, has died with this exit status (minus the signal's number).

    `oom_before`: what `oom_kills` gave while the process still ran; `peak`: the most bytes it has used, if that is known;
    `after` ends the message.
    """
    out_of_memory = _is_out_of_memory(exitcode, oom_before)
    asked = memory_limit() if out_of_memory else 0
    message = f"{what} {tell_death(exitcode, oom_before, peak, asked)}{after}"
    if out_of_memory:
        return WorkerOutOfMemoryError(message, exitcode=exitcode, memory=peak, memory_asked=asked)
    return WorkerDiedError(message, exitcode=exitcode)


def tell_death(exitcode: int, oom_before: int = 0, peak: int = 0, asked: int = 0) -> str:
    """A clause such as "was killed by SIGKILL: out of memory", in the terms of `death_error`."""
    if exitcode >= 0:
        return f"ended by itself with exit status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    if exitcode != -getattr(signal, "SIGKILL", 9):
        return f"was ended by {name}"
    if _is_out_of_memory(exitcode, oom_before):
        known = [f"it used {peak / 1e6:.0f} MB"] if peak else []
        known += [f"the limit is {asked / 1e6:.0f} MB"] if asked else []
        facts = f" ({', '.join(known)})" if known else ""
        return f"was killed by {name}: out of memory, says the kernel{facts}; give the task more memory"
    return f"was killed by {name} (by somebody, or for want of memory: look at the kernel's log)"


def _is_out_of_memory(exitcode: int, oom_before: int) -> bool:
    return exitcode == -getattr(signal, "SIGKILL", 9) and oom_kills() > oom_before


def oom_kills() -> int:
    """How many processes the kernel has killed in this process's memory cgroup for want of memory; 0 if it does not say."""
    for version, folder in _memory_cgroups():
        file = f"{folder}/{'memory.events' if version == 2 else 'memory.oom_control'}"
        try:
            return int(dict(row.split(" ", 1) for row in _read(file).splitlines()).get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


def _read(file: str) -> str:
    """What the kernel says in a file; asked before each task, so not by way of open()."""
    fd = os.open(file, os.O_RDONLY)
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def memory_limit() -> int:
    """The bytes that this process and all others of its job may use; 0 if there is no limit, or nobody says."""
    limits = [_NO_LIMIT]
    for version, folder in _memory_cgroups():
        for place in (folder, *folder.parents):  # the limit may stand at any level
            try:
                limits.append(int((place / ("memory.max" if version == 2 else "memory.limit_in_bytes")).read_text()))
            except (OSError, ValueError):  # outside of the hierarchy, or "max"
                continue
    return min(limits) if min(limits) < _NO_LIMIT else 0


def _memory_cgroups() -> Iterator[tuple[int, Path]]:
    """This process's cgroups that may count memory, with the version of each."""
    try:
        lines = _read("/proc/self/cgroup").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield 2, Path(f"/sys/fs/cgroup{path}")
        elif "memory" in controllers.split(","):
            yield 1, Path(f"/sys/fs/cgroup/memory{path}")


def process_born(pid: int) -> str:
    """When a process of this machine was started, in the kernel's own terms (proc(5), starttime); "" if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def is_alive(pid: int, born: str) -> bool:
    """Whether the process of that id that was born then still runs; a zombie does not, nor one that has got the id since."""
    return bool(born) and process_born(pid) == born
