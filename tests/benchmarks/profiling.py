"""Where does the time of 10,000 tasks that do nothing go, in the script and in a worker?

Each of the four threads and processes that a task passes through is profiled in a run of its own (cProfile, which makes
calls of Python functions look dearer than they are), as jobs of SLURM or, where there is none, as processes of this machine.
Times are of the clock: on a machine with fewer processors than processes, whatever gives up the processor looks slow.
"""

from __future__ import annotations

import pstats
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import inside
from .harness import Contender, check, measure
from .tables import draw, short
from .work import cluster_executor, echo

__all__ = ["measure_all", "profile_part", "table"]

# Each part with the function whose calls are its tasks.
PARTS = {
    "the script: the thread that adds tasks and waits": ("main", r"base\.py:\d+\(_add\)"),
    "the script: its watcher": ("watcher", r"inbox\.py:\d+\(_accept\)"),
    "a worker: the supervisor": ("supervisor", r"worker\.py:\d+\(_run\)"),
    "a worker: the process that runs tasks": ("child", r"child\.py:\d+\(run\)"),
}
KINDS = {
    "waiting": r"acquire|sleep|select\.|\.poll|posix\.read\b|waitid|waitpid",
    "files": r"posix\.",
    "pickle, JSON, hashes": r"pickle|json|loads|dumps|blake2|encode|decode",
}
ROWS = 12
JOBS, COUNT = 8, 10_000


def measure_all(folder: str | None) -> Iterator[dict[str, Any]]:
    """One part after the other."""
    for title, (part, _) in PARTS.items():
        yield {"title": title, **measure(Contender(title, profile_part, (part, JOBS, COUNT)), folder)}


def profile_part(part: str, jobs: int, count: int) -> dict[str, Any]:
    """Run tasks with that part profiled; returns microseconds for a task by kind and by function."""
    import nornir_pools as pools
    from nornir_pools.cluster.watcher import Watcher

    place = Path.cwd() / "profile"
    if part in ("supervisor", "child"):
        inside.observe_workers(part, place)
    else:
        place.mkdir()
    if part == "watcher":
        Watcher._watch = inside.profiled(Watcher._watch, place)  # type: ignore[method-assign]
    executor = cluster_executor()
    begun = time.perf_counter()
    with pools.GetClusterPool("profile", jobs, executor=executor, folder=str(Path.cwd() / "runs")) as pool:

        def run() -> list[int]:
            return [task.result() for task in [pool.submit(echo, number) for number in range(count)]]

        values = inside.profiled(run, place)() if part == "main" else run()
        seconds = time.perf_counter() - begun
    check(values == list(range(count)), "the results")
    time.sleep(1)  # what a worker leaves when it has ended
    files = sorted(map(str, place.glob("*.prof")))
    check(files, "nobody has left a profile")
    stats = pstats.Stats(*files)
    pattern = next(pattern for name, pattern in PARTS.values() if name == part)
    return {"executor": executor, "seconds": seconds, "tasks": count, "processes": len(files), **_digest(stats, pattern)}


def _digest(stats: pstats.Stats, pattern: str) -> dict[str, Any]:
    rows = {_label(key): value for key, value in stats.stats.items()}  # type: ignore[attr-defined]
    tasks = sum(calls for label, (_, calls, *_) in rows.items() if re.search(pattern, label))
    check(tasks, f"no task in the profile ({pattern})")
    kinds = dict.fromkeys([*KINDS, "all other Python"], 0.0)
    for label, (_, _, own, *_) in rows.items():
        kinds[_kind(label)] += own / tasks * 1e6
    top = sorted(rows.items(), key=lambda item: -item[1][2])[:ROWS]
    return {
        "profiled tasks": tasks,
        "kinds": kinds,
        "rows": [(label, calls / tasks, own / tasks * 1e6, total / tasks * 1e6) for label, (_, calls, own, total, _) in top],
    }


def _label(key: tuple[str, int, str]) -> str:
    file, line, name = key
    if file == "~":
        return name.strip("<>").removeprefix("built-in method ").removeprefix("method ")
    return f"{'/'.join(Path(file).parts[-2:])}:{line}({name})"


def _kind(label: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, label)), "all other Python")


def table(part: dict[str, Any]) -> str:
    """One part as Markdown."""
    kinds = ", ".join(f"{kind} {short(value)}" for kind, value in part["kinds"].items())
    rows = [
        ["µs a task", "with what it calls", "calls a task", "function"],
        *([short(own), short(total), short(calls), f"`{label}`"] for label, calls, own, total in part["rows"]),
    ]
    return (
        f"{part['title']} ({part['executor']}, {part['tasks']:,} tasks in {part['seconds']:.1f} s while it was profiled)\n"
        f"µs a task: {kinds}\n\n{draw(rows)}"
    )
