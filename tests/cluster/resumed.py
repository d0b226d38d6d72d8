"""A script that is run again, and its tasks (see test_resume).

``python -m tests.cluster.resumed EXECUTOR TASKS SECONDS``: each task writes a line when it begins and one when it is done.
The values of every ten go to another task.
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


def add_up(number: int, values: list[int]) -> int:
    functions.append_line("begun", number)
    functions.append_line("done", number)
    return sum(values)


def main(executor: str, count: int, seconds: float) -> None:
    """Add the tasks, all but a few under one name, and wait for their values."""
    logging.basicConfig(level=logging.INFO)
    pool = pools.GetClusterPool("again", 4, executor=executor, folder="runs", resume=True)
    functions.append_line("script", "started")
    tasks, sums = [], []
    for number in range(count):
        tasks.append(pool.add_task("tile" if number % 10 else f"tile {number}", work, number, seconds))
        if number % 10 == 9:
            sums.append(pool.add_task("sum", add_up, count + number // 10, tasks[-10:]))
    functions.append_line("script", "added")
    assert [task.wait_return() for task in tasks] == [number * number for number in range(count)]
    assert sum(task.wait_return() for task in sums) == sum(number * number for number in range(count))
    functions.append_line("script", "done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
