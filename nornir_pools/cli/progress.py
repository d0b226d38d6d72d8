"""How far a run has come: a bar on a terminal, a line for each tenth elsewhere. On stderr, so that stdout stays of use."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import Future
from types import TracebackType
from typing import Any

__all__ = ["Progress"]

_TENTHS = 10


class Progress:
    """Counts tasks that are done. As a context: the bar is there for as long."""

    def __init__(self, total: int) -> None:
        self.done = self.failed = 0
        self._total = total
        self._lock = threading.Lock()  # guards the counts: tasks end in the pool's thread
        self._bar: Any = None
        self._begun = time.monotonic()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(file=sys.stderr),
                refresh_per_second=5,
            )
            self._line = self._bar.add_task("waiting for jobs", total=self._total)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, task: Future[Any]) -> None:
        """A task is done: a callback for it."""
        # (Its exception is asked for, so that the pool need not log it.)
        failed = task.cancelled() or task.exception() is not None or getattr(task, "failed", False)
        with self._lock:
            self.done += 1
            self.failed += failed
            done, broken = self.done, self.failed
        words = f"{broken} failed" if broken else "running"
        if self._bar is not None:
            self._bar.update(self._line, completed=done, description=words)
        elif done * _TENTHS // self._total > (done - 1) * _TENTHS // self._total:
            left = f", {broken} failed" if broken else ""
            sys.stderr.write(f"{done}/{self._total} done{left} ({time.monotonic() - self._begun:.0f} s)\n")
