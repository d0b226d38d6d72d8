"""How far a pool is, shown while the main thread waits for it: a bar on a terminal or in a notebook, else a line in the log.

The waiting thread itself looks at the pool's counts a few times a second, so that a task costs nothing more for it. rich is
imported when a bar is first shown, and whatever goes wrong with a bar ends the bar only.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import threading
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple

from . import settings
from .here import here, is_child

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from .base import PoolBase

__all__ = ["Counts", "Watch", "count"]

logger = logging.getLogger("nornir_pools")

DELAY = 1.0  # seconds that a wait takes before anything is shown
NEARLY_DONE = 0.5  # seconds: with less to go than that, by the rate so far, a bar may come so much later
PAUSE = 0.25  # seconds from one look to the next while there is a bar
LOG_PAUSE = 60.0  # seconds from one line in the log to the next


class Counts(NamedTuple):
    """How many tasks a pool has had, and how they are doing. Those that failed are done as well."""

    added: int
    done: int
    running: int
    waiting: int
    failed: int
    reason: str
    """What the scheduler says that jobs wait for; empty if it does not say, or if there is none."""


def count(pool: PoolBase) -> Counts:
    """The pool's counts of this moment."""
    unfinished, added = len(pool._unfinished), pool._added
    waiting = min(pool._count_waiting(), unfinished)
    reason = pool._waiting_for() if waiting else ""
    return Counts(added, max(0, added - unfinished), unfinished - waiting, waiting, pool._unasked.failed, reason)


class Watch:
    """What one wait for a pool shows. ``look`` is to be called when `pause` seconds have passed (None: never)."""

    def __init__(self, pool: PoolBase) -> None:
        self._pool = pool
        self._since = self._logged = time.monotonic()  # from when on the rate is counted; when something was logged
        self._before = pool._added - len(pool._unfinished)  # how many tasks were done then
        self._put_off = False
        self._bar: _Bar | None = None
        self._plain = False  # there is no bar, and will be none
        self.pause = DELAY if _may_show() else None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._draw(count(self._pool))
        if self._bar is not None:
            self._bar.close()

    def look(self) -> None:
        """Show how far the pool is, and set `pause`."""
        counts = count(self._pool)
        if counts.done == self._before and not counts.running:
            self._since = time.monotonic()  # time spent in a queue says nothing about tasks
        if self._bar is None and not self._plain:
            left = self._seconds_left(counts)
            if not self._put_off and left is not None and left < NEARLY_DONE:
                self._put_off, self.pause = True, NEARLY_DONE
                return
            self._begin()
        if self._bar is not None:
            self._draw(counts)
        elif time.monotonic() - self._logged >= LOG_PAUSE:
            self._logged = time.monotonic()
            words = ", ".join(self._words(counts))
            logger.info("pool %r: %d of %d tasks done, %s", self._pool.name, counts.done, counts.added, words)

    def _begin(self) -> None:
        if _can_show_bar():
            try:
                self._bar, self.pause = _Bar(self._pool.name), PAUSE
                return
            except Exception as error:  # rich is not installed, or cannot cope with this terminal
                logger.debug("no progress bar: %s", error)
        self._plain, self.pause = True, max(LOG_PAUSE - DELAY, 0.0)

    def _draw(self, counts: Counts) -> None:
        assert self._bar is not None
        try:
            self._bar.draw(counts, self._words(counts))
        except Exception as error:  # the terminal is gone, say
            logger.debug("no more progress bar: %s", error)
            self._bar.close()
            self._bar, self._plain, self.pause = None, True, LOG_PAUSE

    def _words(self, counts: Counts) -> list[str]:
        from datetime import timedelta  # in a process that shows progress

        rate, left = self._rate(counts), self._seconds_left(counts)
        return [
            *([f"{counts.running} running"] if counts.running else []),
            *([f"{counts.waiting} waiting" + (f" ({counts.reason})" if counts.reason else "")] if counts.waiting else []),
            *([f"{counts.failed} failed"] if counts.failed else []),
            *([_per_time(rate)] if rate else []),
            *([f"{timedelta(seconds=round(left))} left"] if left else []),
        ]

    def _rate(self, counts: Counts) -> float:
        """Tasks a second."""
        return max(0, counts.done - self._before) / max(time.monotonic() - self._since, 0.001)

    def _seconds_left(self, counts: Counts) -> float | None:
        rate = self._rate(counts)
        return (counts.added - counts.done) / rate if rate else None


class _Bar:
    """One line at the bottom of the terminal, or the output of a notebook's cell."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.live import Live

        class Steady(Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False  # it stays in sight: whatever ends this program leaves the terminal whole

        self._name = name
        # What is printed meanwhile goes above the bar, but if it goes to a file, it still does.
        self._live = Live(
            console=Steady(stderr=True), auto_refresh=False, redirect_stdout=_is_terminal(sys.stdout), redirect_stderr=True
        )
        self._live.start()

    def draw(self, counts: Counts, words: list[str]) -> None:
        """Show these counts."""
        self._live.update(self._line(counts, words), refresh=True)

    def _line(self, counts: Counts, words: list[str]) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(max_width=20)
        line.add_column(ratio=1, min_width=4)
        line.add_column(no_wrap=True)  # is what a narrow terminal must show
        line.add_column()
        bar = ProgressBar(total=max(counts.added, 1), completed=counts.done)
        line.add_row(self._text(self._name), bar, f"{counts.done}/{counts.added}", self._text(", ".join(words)))
        return line

    def _text(self, words: str) -> Text:
        from rich.text import Text

        text = Text(words, no_wrap=True, overflow="ellipsis")  # (a name with brackets is no markup)
        text.highlight_regex(r"\d+ failed", "red")
        return text

    def close(self) -> None:
        """Leave the line as it is, and go on below it."""
        try:
            self._live.stop()
        except Exception as error:
            logger.debug("a progress bar could not be ended: %s", error)


def _may_show() -> bool:
    """Whether this is the main thread of a program, and of none that runs tasks for another."""
    at_work = here.pools or here.callbacks or here.job or is_child()
    return not at_work and threading.current_thread() is threading.main_thread()


def _can_show_bar() -> bool:
    wanted = settings.wants_progress() and not _is_other_display()
    return wanted and (_is_notebook() or (_is_terminal(sys.stderr) and os.environ.get("TERM") not in ("dumb", "unknown")))


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):  # it was closed
        return False


def _is_notebook() -> bool:
    """Whether this is a notebook that can show what changes (rich needs ipywidgets for that, and would say so)."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" and importlib.util.find_spec("ipywidgets") is not None


def _is_other_display() -> bool:
    """Whether the program shows something of rich's or tqdm's already: two displays would overwrite each other."""
    proxy = getattr(sys.modules.get("rich.file_proxy"), "FileProxy", None)
    if proxy is not None and (isinstance(sys.stdout, proxy) or isinstance(sys.stderr, proxy)):
        return True
    return bool(getattr(getattr(sys.modules.get("tqdm.std"), "tqdm", None), "_instances", ()))


def _per_time(rate: float) -> str:
    for seconds, unit in ((1, "s"), (60, "min")):
        if rate * seconds >= 1:
            return f"{rate * seconds:.1f}/{unit}"
    return f"{rate * 3600:.1f}/h"
