"""Looking inside: what this package does with files, counted, and where its time goes, in the script and in its workers.

A worker is a program of its own, so it is told by its environment to observe itself (``site/sitecustomize.py``) and leaves
what it has seen in a folder. Nothing of this is in use while anything else is measured.
"""

from __future__ import annotations

import cProfile
import functools
import json
import os
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["ROUND_TRIPS", "Observed", "begin", "leave", "observe_workers", "profiled", "read_observed", "round_trips"]

ROOT = Path(__file__).resolve().parents[2]
WRITE_EVERY = 0.5  # seconds: a process that runs tasks is killed in the end, so it leaves what it has seen as it goes along

# What one operation takes over NFS with nothing cached, in requests that have to be waited for (version 3; 4 sends some of
# them together). Reading a folder takes one for every hundred names on top.
ROUND_TRIPS = {
    "create": 3,  # CREATE, WRITE, and COMMIT or GETATTR when it is closed
    "append": 1,  # WRITE
    "read": 3,  # LOOKUP, GETATTR (close-to-open), READ
    "list": 2,  # GETATTR, READDIR
    "rename": 1,
    "rename lost": 1,
    "remove": 1,
    "make folder": 1,
    "remove folder": 1,
}
NAMES_A_REQUEST = 100


class Observed:
    """How often each operation was done in this process, and for how many seconds."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.tasks = 0
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.at_last_claim: tuple[Counter[str], dict[str, float]] | None = None

    def note(self, what: str, begun: float) -> None:
        self.counts[what] += 1
        self.seconds[what] += time.perf_counter() - begun

    def watch_folders(self) -> None:
        """From now on, count what is done in folders of runs."""
        from nornir_pools.cluster.folder import Folder
        from nornir_pools.cluster.spool import Spool

        self._wrap(Folder, "draft", "create")
        self._wrap(Folder, "read", "read")
        self._wrap(Folder, "open_file", "read")
        self._wrap(Folder, "remove", "remove")
        self._wrap(Folder, "remove_folder", "remove folder")
        self._wrap(Spool, "note_all", "append")
        self._wrap(Folder, "make_folder", "make folder")
        self._wrap(Folder, "names", "list", len)
        rename = os.rename  # by `write`, `move` and `deliver`

        def counted(*args: Any, **kwargs: Any) -> None:
            begun = time.perf_counter()
            try:
                rename(*args, **kwargs)
            except FileNotFoundError:
                self.note("rename lost", begun)
                raise
            self.note("rename", begun)

        os.rename = counted
        claim = Spool.claim

        def noted(*args: Any) -> bool:
            claimed = claim(*args)
            if claimed:
                self.at_last_claim = Counter(self.counts), dict(self.seconds)
            return claimed

        Spool.claim = noted  # type: ignore[method-assign, assignment]

    def _wrap(self, owner: Any, method: str, what: str, size: Callable[[Any], int] | None = None) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            result = original(*args, **kwargs)
            self.note(what, begun)
            if size is not None:
                self.counts["names listed"] += size(result)
            return result

        setattr(owner, method, counted)

    def plain(self) -> dict[str, Any]:
        """For JSON: of a worker, what it had done up to its last claim, without its looking for more after that."""
        counts, seconds = self.at_last_claim or (self.counts, self.seconds)
        return {"tasks": self.tasks, "counts": dict(counts), "seconds": dict(seconds)}


def round_trips(counts: Counter[str]) -> float:
    """How many requests over NFS that would be."""
    return counts["names listed"] / NAMES_A_REQUEST + sum(counts[name] * times for name, times in ROUND_TRIPS.items())


def observe_workers(what: str, folder: Path) -> None:
    """Have the workers of pools that are made from now on observe themselves: "count", "supervisor" or "child"."""
    folder.mkdir()
    path = [str(ROOT / "tests" / "benchmarks" / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    os.environ["BENCHMARK_INSIDE"] = f"{what}:{folder}"


def begin(order: str) -> None:
    """In a worker, before it starts."""
    what, _, folder = order.partition(":")
    from nornir_pools.cluster import child, worker

    if what == "count":
        observed = Observed()
        observed.watch_folders()
        worker.Worker.serve = _then(worker.Worker.serve, lambda: leave(folder, observed))  # type: ignore[method-assign]
        child._Runner.run = _counted_as_it_goes(child._Runner.run, Path(folder), observed)  # type: ignore[method-assign]
    elif what == "supervisor":
        worker.Worker.serve = profiled(worker.Worker.serve, Path(folder))  # type: ignore[method-assign]
    else:
        child._Runner.run = _profiled_as_it_goes(child._Runner.run, Path(folder))  # type: ignore[method-assign]


def _then(function: Callable[..., Any], after: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def both(*args: Any) -> Any:
        try:
            return function(*args)
        finally:
            after()

    return both


def _counted_as_it_goes(function: Callable[..., Any], folder: Path, observed: Observed) -> Callable[..., Any]:
    file = folder / f"{uuid.uuid4().hex}.child"
    written = 0.0

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        nonlocal written
        now = time.monotonic()
        if not written:
            observed.forget()  # what the supervisor had done when it forked this process
            written = now
        elif now - written > WRITE_EVERY:
            file.write_text(json.dumps(observed.plain()), encoding="utf-8")
            written = now
        observed.tasks += 1
        return function(*args)

    return run


def leave(folder: str, observed: Observed) -> None:
    """Write down what this process has seen."""
    Path(folder, f"{uuid.uuid4().hex}.json").write_text(json.dumps(observed.plain()), encoding="utf-8")


def read_observed(folder: Path, tasks: int) -> tuple[Counter[str], dict[str, float]]:
    """The counts and seconds of all workers together, which have run so many tasks."""
    counts: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    children = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.child")]
    share = tasks / max(1, sum(found["tasks"] for found in children))  # of the tasks, some were not written down any more
    for found, times in [
        *((json.loads(path.read_text(encoding="utf-8")), 1.0) for path in folder.glob("*.json")),
        *((found, share) for found in children),
    ]:
        for name, value in found["counts"].items():
            counts[name] += round(value * times)
        for name, value in found["seconds"].items():
            seconds[name] += value * times
    return counts, seconds


def profiled(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """The function, leaving a profile of each call in the folder."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        profile = cProfile.Profile()
        try:
            return profile.runcall(function, *args)
        finally:
            profile.dump_stats(folder / f"{uuid.uuid4().hex}.prof")

    return run


def _profiled_as_it_goes(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    profile = cProfile.Profile()
    file = folder / f"{uuid.uuid4().hex}.prof"
    dumped = time.monotonic()

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        nonlocal dumped
        if time.monotonic() - dumped > WRITE_EVERY:
            profile.dump_stats(file)
            dumped = time.monotonic()
        return profile.runcall(function, *args)

    return run
