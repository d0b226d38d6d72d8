"""Running a script of the tests in an interpreter of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import nornir_pools
from nornir_pools.deaths import process_born

__all__ = ["Done", "group_is_alive", "is_alive", "run_script"]

ROOT = Path(nornir_pools.__file__).parents[1]


@dataclass
class Done:
    """How a script ended: its status (or minus a signal's number), what it printed, and how long it took."""

    status: int
    out: str
    err: str
    seconds: float


def run_script(text: str, *options: str, interrupt_at: str = "", times: int = 1, seconds: float = 30) -> Done:
    """Write the script into the working folder and run it there.

    `interrupt_at`: send the script Ctrl-C's signal as soon as that file exists; with `times`, again for each of the files
    ``<interrupt_at>2``, ``<interrupt_at>3`` …
    """
    path = Path("script.py")
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *options, path.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        for number in range(1, times + 1) if interrupt_at else ():
            mark = Path(interrupt_at if number == 1 else f"{interrupt_at}{number}")
            while not mark.exists() and process.poll() is None and time.monotonic() < start + seconds:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the script did not end\nstdout: {out}\nstderr: {err}") from None
    return Done(process.returncode, out, err, time.monotonic() - start)


def is_alive(pid: int) -> bool:
    """Whether the process is there, and not only waiting to be reaped."""
    return bool(process_born(pid))


def group_is_alive(group: int) -> bool:
    """Whether a process of that group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
