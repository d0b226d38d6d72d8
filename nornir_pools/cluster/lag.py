"""How long what a job has written takes to show in a listing here, and the grace that follows from it."""

from __future__ import annotations

import time
from collections.abc import Collection

__all__ = ["Lag"]

GRACE = 3.0  # seconds from a job being gone to its tasks being given up, where listings are fresh
LONGEST_GRACE = 75.0  # seconds: no filesystem is known to show a listing that is older than a minute


class Lag:
    """The visibility lag of one run, measured on what its jobs deliver.

    A file that a listing shows, and that was there already at the listing before, which did not show it, was late by at least
    the time from its rename to that listing. No clock is compared with another: times are those of the file server.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds; the largest lag that was seen."""
        self._ahead = 0.0  # seconds by which the file server's clock is ahead of ours
        self._listed: float | None = None
        self._shown: Collection[str] = ()
        self._before: float | None = None
        self._shown_before: Collection[str] = ()

    @property
    def grace(self) -> float:
        """Seconds from a job being gone to its tasks being given up: what it has delivered may take that long to show."""
        return min(max(3 * self.longest, GRACE), LONGEST_GRACE)

    def note_clock(self, server: float, here: float) -> None:
        """The file server's clock and ours, read at the same time."""
        self._ahead = server - here

    def here(self, server: float) -> float:
        """A time of the file server's clock, by ours; not later than now."""
        return min(server - self._ahead, time.time())

    def note_listing(self, begun: float, names: Collection[str]) -> None:
        """A listing that was asked for at this time (of our clock) has shown these names."""
        self._before, self._shown_before = self._listed, self._shown
        self._listed, self._shown = begun, frozenset(names)

    def note_file(self, name: str, renamed: float) -> None:
        """A file of the last listing got its name at this time (of the file server's clock)."""
        if self._before is not None and name not in self._shown_before:
            self.longest = max(self.longest, self._before + self._ahead - renamed)
