"""The worker's signals: SIGTERM (the job is to end) and SIGCHLD (its child has ended)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import Any

__all__ = ["Signals", "Terminated", "signals"]


class Terminated(BaseException):
    """SIGTERM has come."""


class Signals:
    """Signals as something to wait for: they make a pipe readable, and are acted upon only where that is safe."""

    def __init__(self) -> None:
        self._reader = -1
        self._terminated = False

    def install(self) -> None:
        """From now on, note SIGTERM and SIGCHLD."""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._note_termination)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the script, not for its jobs

    def _note_termination(self, number: int, frame: Any) -> None:
        self._terminated = True

    def check(self) -> None:
        """Raise Terminated if SIGTERM has come."""
        if self._terminated:
            raise Terminated

    def sleep(self, seconds: float) -> None:
        """Sleep, but not through a SIGTERM."""
        select.select([self._reader], [], [], seconds)
        self._drain()
        self.check()

    def wait(self, fd: int, seconds: float | None = None) -> bool:
        """Wait until `fd` can be read (True) or a signal comes, or so many seconds are over (False)."""
        ready = select.select([fd, self._reader], [], [], seconds)[0]
        if self._reader in ready:
            self._drain()
        return fd in ready

    @staticmethod
    def readable(fd: int) -> bool:
        """Whether `fd` can be read now."""
        return bool(select.select([fd], [], [], 0)[0])

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 512):
                pass


signals = Signals()
