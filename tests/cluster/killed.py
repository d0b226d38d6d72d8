"""A script that adds tasks, says which of them it was promised, and is killed at some moment (see test_killed_scripts).

``python -m tests.cluster.killed EXECUTOR FOLDER ACKNOWLEDGED LEDGER STEP``: STEP is after how many of its operations on files
and commands it kills itself; 0 for never.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import nornir_pools as pools

from .. import functions

TASKS = 60
STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "subprocess.Popen")


def work(ledger: str, number: int, seconds: float) -> int:
    """Take a while, then write one line: how often a task has run to its end."""
    time.sleep(seconds)
    functions.append_line(ledger, number)
    if number % 10 == 7:
        raise ValueError(number)
    return number * number


def die_at(step: int) -> None:
    """Kill this process when it comes to its operation of that number, in whatever thread."""
    lock = threading.Lock()
    left = step

    def count(event: str, arguments: object) -> None:
        nonlocal left
        if event in STEPS:
            with lock:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def main(executor: str, folder: str, acknowledged: str, ledger: str, step: int) -> None:
    """Add the tasks, a third of them with options of their own, and wait for them."""
    pool = pools.GetClusterPool("killed", 4, executor=executor, folder=folder)
    others = pool.with_options(timeout_min=5)
    if step:
        die_at(step)
    tasks = []
    for number in range(TASKS):
        where = others if number % 3 == 0 else pool
        tasks.append(where.add_task(str(number), work, ledger, number, 0.02 + 0.01 * (number % 8)))
        functions.append_line(acknowledged, number)
        time.sleep(0.005)
    for task in tasks:
        task.exception()
    functions.append_line(acknowledged, "done")
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
