"""A script that is run again, and its tasks (see test_resume).

``python -m tests.cluster.resumed EXECUTOR TASKS SECONDS``: each task writes a line when it begins and one when it is done.
"""

from __future__ import annotations

import logging
import sys
import time

import nornir_pools as pools

from .. import functions


def work(number: int, seconds: float) -> int:
    functions.append_line("begun", number)
    time.sleep(seconds)
    functions.append_line("done", number)
    return number * number


def main(executor: str, count: int, seconds: float) -> None:
    """Add the tasks, all but a few under one name, and wait for their values."""
    logging.basicConfig(level=logging.INFO)
    pool = pools.GetClusterPool("again", 4, executor=executor, folder="runs", resume=True)
    functions.append_line("script", "started")
    tasks = [pool.add_task("tile" if number % 10 else f"tile {number}", work, number, seconds) for number in range(count)]
    functions.append_line("script", "added")
    assert [task.wait_return() for task in tasks] == [number * number for number in range(count)]
    functions.append_line("script", "done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
