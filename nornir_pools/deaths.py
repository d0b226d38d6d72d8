"""Whether a process is alive, and how it died, in words."""

from __future__ import annotations

import signal
from pathlib import Path

__all__ = ["is_alive", "oom_kills", "process_born", "tell_death"]


def tell_death(exitcode: int, oom_before: int = 0) -> str:
    """A clause such as "was killed by SIGKILL: out of memory" for an exit status (minus the signal's number).

    `oom_before`: what `oom_kills` gave while the process still ran.
    """
    if exitcode >= 0:
        return f"ended by itself with exit status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    if exitcode != -getattr(signal, "SIGKILL", 9):
        return f"was ended by {name}"
    if oom_kills() > oom_before:
        return f"was killed by {name}: out of memory, says the kernel; give the task more memory"
    return f"was killed by {name} (by somebody, or for want of memory: look at the kernel's log)"


def oom_kills() -> int:
    """How many processes the kernel has killed in this process's memory cgroup for want of memory; 0 if it does not say."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # cgroup v2
            file = Path(f"/sys/fs/cgroup{path}/memory.events")
        elif "memory" in controllers.split(","):
            file = Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
        else:
            continue
        try:
            counts = dict(row.split(" ", 1) for row in file.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


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
