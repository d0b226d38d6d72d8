"""Messages through the pipe between a thread and its worker process: a label (plain data) and pickled parts.

One message on the wire::

    8 bytes: length of the head │ head: pickle of (label, sizes of the parts) │ part │ part …

Strictly one question, one answer: so a single read usually brings a whole small message, and only large parts are read,
without copying, into memory of their own. Where the pipe is not a file descriptor (Windows) the same bytes travel as
messages of `multiprocessing.connection`.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from ..message import Buffer

__all__ = ["receive", "send"]

_LENGTH = struct.Struct("!Q")
_SMALL = 1 << 16  # bytes: parts up to this size in all are sent, and read, in one piece


def send(pipe: Connection, label: Any, parts: Sequence[Buffer]) -> None:
    """Send a message. Raises OSError when the other side is gone."""
    sizes = [len(part) for part in parts]
    head = pickle.dumps((label, sizes), pickle.HIGHEST_PROTOCOL)
    first = _LENGTH.pack(len(head)) + head
    if sum(sizes) <= _SMALL:
        pieces: list[Buffer] = [b"".join([first, *parts])]
    else:
        pieces = [first, *parts]
    for piece in pieces:
        _write(pipe, piece)


def receive(pipe: Connection) -> tuple[Any, list[Buffer]]:
    """Wait for a message. Raises EOFError or OSError when the other side is gone."""
    data = _read(pipe)
    while len(data) < _LENGTH.size or len(data) < (start := _LENGTH.size + _LENGTH.unpack_from(data)[0]):
        data += _read(pipe)
    label, sizes = pickle.loads(data[_LENGTH.size : start])
    parts: list[Buffer] = []
    for size in sizes:
        part = bytearray(data[start : start + size])
        start += size
        if len(part) < size:
            part = _read_rest(pipe, part, size)
        parts.append(part)
    return label, parts


if os.name == "posix":

    def _write(pipe: Connection, piece: Buffer) -> None:
        fd, view = pipe.fileno(), memoryview(piece)
        while len(view):
            view = view[os.write(fd, view) :]

    def _read(pipe: Connection) -> bytes:
        data = os.read(pipe.fileno(), _SMALL)
        if not data:
            raise EOFError
        return data

    def _read_rest(pipe: Connection, part: bytearray, size: int) -> bytearray:
        position = len(part)
        part.extend(bytes(size - position))
        with memoryview(part) as view:
            while position < size:
                count = os.readv(pipe.fileno(), [view[position:]])
                if not count:
                    raise EOFError
                position += count
        return part

else:  # pragma: no cover - Windows

    def _write(pipe: Connection, piece: Buffer) -> None:
        if len(piece):
            pipe.send_bytes(piece)

    def _read(pipe: Connection) -> bytes:
        return pipe.recv_bytes()

    def _read_rest(pipe: Connection, part: bytearray, size: int) -> bytearray:
        while len(part) < size:
            part += pipe.recv_bytes()
        return part
