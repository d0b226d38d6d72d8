"""How workers with short tasks keep step with the script: outcomes that it has not read yet stand in one folder, which is
listed at each look, and must not grow large while the script has other things to do."""

from __future__ import annotations

import math
import time

from .signals import signals
from .spool import Spool

__all__ = ["Pace"]

_MANY = 500  # outcomes that wait to be read: so many, and workers wait as well
_BETWEEN = 256  # outcomes of all workers together from one look at them to the next
_FAST = 500.0  # outcomes a second of all workers together: with less there is no need to look
_UNREAD = 5.0  # seconds in which none was read: the script is gone, or stopped, and nobody is to wait for it …
_PATIENCE = 60.0  # … for so long


class Pace:
    """The pace of one worker."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._delivered = 0  # since it has looked
        self._looked = time.monotonic()
        self._alone_until = -math.inf  # until when it does not wait for the script

    def keep(self, workers: int) -> None:
        """An outcome was delivered, by one of so many workers: wait while the script is far behind."""
        self._delivered += 1
        if self._delivered * workers < _BETWEEN:
            return
        now = time.monotonic()
        fast = self._delivered * workers > _FAST * (now - self._looked)
        self._delivered, self._looked = 0, now
        if fast and now >= self._alone_until:
            self._wait()

    def _wait(self) -> None:
        waiting, read = self._count(), time.monotonic()
        while waiting > _MANY:
            if time.monotonic() - read > _UNREAD:
                self._alone_until = time.monotonic() + _PATIENCE
                return
            signals.sleep(0.02)
            before, waiting = waiting, self._count()
            if waiting < before:
                read = time.monotonic()

    def _count(self) -> int:
        return len(self._spool.names("inbox"))
