"""Messages through the pipe between a thread and its worker process: a label (plain data) and pickled parts.

One message on the wire::

    8 bytes: length of the head │ head: pickle of (label, sizes of the parts) │ part │ part …

One read may bring several small messages; a large part is read, without being copied, into memory of its own. Where the
pipe is not a file descriptor (Windows) the same bytes travel as messages of `multiprocessing.connection`.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ..message import Buffer

__all__ = ["Channel"]

_LENGTH = struct.Struct("!Q")
_SMALL = 1 << 16  # bytes: what is sent, and read, in one piece


class Channel:
    """One end of a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._read_ahead = b""

    def send(self, messages: Iterable[tuple[Any, Sequence[Buffer]]]) -> None:
        """Send messages (label, parts). Raises OSError when the other side is gone."""
        small: list[Buffer] = []
        waiting = 0
        for label, parts in messages:
            sizes = [len(part) for part in parts]
            head = pickle.dumps((label, sizes), pickle.HIGHEST_PROTOCOL)
            small += [_LENGTH.pack(len(head)), head]
            size = sum(sizes)
            waiting += len(head) + size
            if waiting <= _SMALL:
                small += parts
                continue
            for piece in (b"".join(small), *parts):
                self._write(piece)
            small, waiting = [], 0
        if small:
            self._write(b"".join(small))

    def receive(self) -> tuple[Any, list[Buffer]]:
        """Wait for a message. Raises EOFError or OSError when the other side is gone."""
        data = self._read_ahead
        while len(data) < _LENGTH.size or len(data) < (start := _LENGTH.size + _LENGTH.unpack_from(data)[0]):
            data += self._read()
        label, sizes = pickle.loads(data[_LENGTH.size : start])
        parts: list[Buffer] = []
        for size in sizes:
            part = bytearray(data[start : start + size])
            start += size
            parts.append(part if len(part) == size else self._read_rest(part, size))
        self._read_ahead = data[start:]
        return label, parts

    def close(self) -> None:
        self.pipe.close()

    if os.name == "posix":

        def _write(self, piece: Buffer) -> None:
            fd, view = self.pipe.fileno(), memoryview(piece)
            while len(view):
                view = view[os.write(fd, view) :]

        def _read(self) -> bytes:
            data = os.read(self.pipe.fileno(), _SMALL)
            if not data:
                raise EOFError
            return data

        def _read_rest(self, part: bytearray, size: int) -> bytearray:
            position = len(part)
            part.extend(bytes(size - position))
            with memoryview(part) as view:
                while position < size:
                    count = os.readv(self.pipe.fileno(), [view[position:]])
                    if not count:
                        raise EOFError
                    position += count
            return part

    else:  # pragma: no cover - Windows

        def _write(self, piece: Buffer) -> None:
            if len(piece):
                self.pipe.send_bytes(piece)

        def _read(self) -> bytes:
            return self.pipe.recv_bytes()

        def _read_rest(self, part: bytearray, size: int) -> bytearray:
            while len(part) < size:
                part += self.pipe.recv_bytes()
            self._read_ahead = bytes(part[size:])
            del part[size:]
            return part
