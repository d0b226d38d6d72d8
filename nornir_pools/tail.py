"""The end of what a command writes to a descriptor that it was given: noted on its way."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Tail", "noting", "take_end"]

_LONGEST = 2000  # bytes that are kept
_WAIT = 0.5  # seconds: who still holds the pipe when the command's group was ended is a process that has left it
_last = b""  # see `take_end`


class Tail:
    """A pipe whose other end is copied to a descriptor by a thread, which keeps the end of it.

    A process that has left the command's group may go on to write: it is copied as long as this process lives.
    """

    def __init__(self, target: int) -> None:
        self._end = b""
        self._target = target
        self._source, self.fd = os.pipe()
        self._thread = threading.Thread(target=self._copy, name="stderr of a command", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with contextlib.closing(os.fdopen(self._source, "rb", buffering=0)) as source:
            while data := source.read(1 << 16):
                self._end = (self._end + data)[-_LONGEST:]
                view = memoryview(data)
                with contextlib.suppress(OSError):  # the disk is full: the command need not wait for that
                    while view:
                        view = view[os.write(self._target, view) :]

    def started(self) -> None:
        """The command has its end of the pipe."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self) -> bytes:
        """The end of what was written, once the command is over."""
        self._thread.join(_WAIT)
        return self._end


def take_end() -> str:
    """The end of what the last such command has written; "" if that was asked for already."""
    global _last
    end, _last = _last, b""
    return end.decode("utf-8", "replace")


@contextlib.contextmanager
def noting(options: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """Where a command is to write its stderr to a descriptor, a Tail takes that descriptor's place in `options`.

    Gives what to call once the command has started; left when it has ended.
    """
    global _last
    target = options.get("stderr")
    if os.name != "posix" or type(target) is not int or target < 0:  # (negative numbers are subprocess's PIPE and the like)
        yield _nothing
        return
    tail = Tail(target)
    options["stderr"] = tail.fd
    try:
        yield tail.started
    finally:
        tail.started()
        _last = tail.read()


def _nothing() -> None:
    pass
