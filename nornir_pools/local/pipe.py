"""Messages through the pipe between a thread and its worker process: a label (plain data) and pickled parts.

Messages that are sent at once have one head. On the wire::

    8 bytes: length of the head │ head: pickle of [(label, what the parts are), …] │ part │ part …

One read may bring several small messages; a large part is read, without being copied, into memory of its own. The parts in
files of memory are only told in the head: the descriptors of all files of a message come with its first byte, so that they
are there, in the order of the messages, when its head is read. Where the pipe is not a file descriptor (Windows) the same
bytes travel as messages of `multiprocessing.connection`.
"""

from __future__ import annotations

import array
import errno
import os
import pickle
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from .. import message
from ..message import Buffer
from .memory import MemoryFile, Part, open_file
from .shared import keep_parts

__all__ = ["Channel"]

_LENGTH = struct.Struct("!Q")
_SMALL = 1 << 16  # bytes: what is sent, and read, in one piece
_MOST_FILES = 250  # descriptors: what the system takes with one message


class Channel:
    """One end of a pipe, which it takes over."""

    def __init__(self, pipe: Connection) -> None:
        self._data = b""  # what was read, of which
        self._position = 0  # so much is dealt with
        self._coming: deque[tuple[Any, list[Any]]] = deque()  # labels and kinds of parts of messages whose head was read
        self._open(pipe)

    def send(self, messages: Iterable[tuple[Any, Sequence[Part]]]) -> None:
        """Send messages (label, parts). Raises OSError when the other side is gone."""
        head: list[tuple[Any, list[Any]]] = []
        pieces: list[Buffer] = []
        size = 0
        for label, parts in messages:
            files = [part for part in parts if isinstance(part, MemoryFile)]
            inside = [part for part in parts if not isinstance(part, MemoryFile)]
            kinds = [part.entry if isinstance(part, MemoryFile) else len(part) for part in parts]
            if files or size > _SMALL:
                self._send_together(head, pieces)
                head, pieces, size = [], [], 0
            if files:  # a head of its own, with which they come
                self._send_together([(label, kinds)], inside, files)
                continue
            head.append((label, kinds))
            pieces += inside
            size += sum(map(len, inside))
        self._send_together(head, pieces)

    def _send_together(
        self, head: list[tuple[Any, list[Any]]], pieces: Sequence[Buffer], files: Sequence[MemoryFile] = ()
    ) -> None:
        if not head:
            return
        pickled = pickle.dumps(head, pickle.HIGHEST_PROTOCOL)
        start = _LENGTH.pack(len(pickled)) + pickled
        if files:
            start = self._write_rights(start, files)
        if sum(map(len, pieces)) <= _SMALL:
            self._write(b"".join([start, *pieces]))
            return
        for piece in (start, *pieces):
            self._write(piece)

    def receive(self) -> tuple[Any, list[Buffer]]:
        """Wait for a message. Raises EOFError or OSError when the other side is gone."""
        if not self._coming:
            self._need(_LENGTH.size)
            length = _LENGTH.unpack_from(self._data, self._position)[0]
            self._position += _LENGTH.size
            self._need(length)
            start, self._position = self._position, self._position + length
            self._coming.extend(pickle.loads(memoryview(self._data)[start : self._position]))
        label, kinds = self._coming.popleft()
        files = self._open_files([kind for kind in kinds if not isinstance(kind, int)])
        parts: list[Buffer] = []
        for kind in kinds:
            if not isinstance(kind, int):
                parts += files.popleft() if files else []
                continue
            part = bytearray(memoryview(self._data)[self._position : self._position + kind])
            self._position += len(part)
            parts.append(part if len(part) == kind else self._read_rest(part, kind))
        return label, parts if files is not None else message.dump(_Lost())

    def _need(self, count: int) -> None:
        """Read until so many bytes are there."""
        while len(self._data) - self._position < count:
            self._data, self._position = self._data[self._position :] + self._read(), 0

    if os.name == "posix":

        def _open(self, pipe: Connection) -> None:
            # A socket of our own, that nobody else closes; it waits, whatever default the user has set.
            self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
            self._socket.settimeout(None)
            pipe.close()
            self._descriptors: deque[list[int]] = deque()  # that have come, as they were sent: for messages not read so far

        def close(self) -> None:
            self._socket.close()
            while self._descriptors:
                _close_all(self._descriptors.popleft())

        def __del__(self) -> None:
            if hasattr(self, "_socket"):  # (a socket that is not closed would warn)
                self.close()

        def _write(self, piece: Buffer) -> None:
            self._socket.sendall(piece)

        def _write_rights(self, head: bytes, files: Sequence[MemoryFile]) -> bytes:
            """Write the first bytes, with the descriptors of the files, and return the others."""
            for first in range(0, len(files), _MOST_FILES):
                rights = array.array("i", [file.fd for file in files[first : first + _MOST_FILES]])
                while True:
                    try:
                        self._socket.sendmsg([head[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                        break
                    except OSError as error:
                        if error.errno != errno.ETOOMANYREFS:  # this user has too many on their way, which others will read
                            raise
                        time.sleep(0.01)
                head = head[1:]
            return head

        def _read(self) -> bytes:
            data, ancillary, flags, _ = self._socket.recvmsg(_SMALL, _ANCILLARY, _CLOSE_ON_EXEC)
            for _, kind, content in ancillary:
                if kind == socket.SCM_RIGHTS:
                    self._descriptors.append([*array.array("i", content[: len(content) // 4 * 4])])
            if flags & _TRUNCATED and not ancillary:  # this process can have no more descriptors
                self._descriptors.append([])
            if not data:
                raise EOFError
            return data

        def _open_files(self, entries: Sequence[tuple[list[int], int | None, bool]]) -> deque[list[memoryview]] | None:
            """What is in the files of the message that comes next; None if one of them cannot be had."""
            if not entries:
                return deque()
            fds: list[int] = []
            for _ in range(0, len(entries), _MOST_FILES):
                fds += self._descriptors.popleft()
            opened: deque[list[memoryview]] = deque()
            try:
                if len(fds) < len(entries):
                    return None
                for sizes, token, inside in entries:
                    parts = open_file(fds.pop(0), sizes, token)
                    if not inside and token is not None:
                        keep_parts(token, parts)
                    opened.append(parts if inside else [])
            except OSError:
                return None
            finally:
                _close_all(fds)
            return opened

        def _read_rest(self, part: bytearray, size: int) -> bytearray:
            position = len(part)
            part.extend(bytes(size - position))
            with memoryview(part) as view:
                while position < size:
                    count = self._socket.recv_into(view[position:])
                    if not count:
                        raise EOFError
                    position += count
            return part

    else:  # pragma: no cover - Windows

        def _open(self, pipe: Connection) -> None:
            self._pipe = pipe

        def close(self) -> None:
            self._pipe.close()

        def _write(self, piece: Buffer) -> None:
            if len(piece):
                self._pipe.send_bytes(piece)

        def _write_rights(self, head: bytes, files: Sequence[MemoryFile]) -> bytes:
            raise NotImplementedError

        def _read(self) -> bytes:
            return self._pipe.recv_bytes()

        def _open_files(self, entries: Sequence[tuple[list[int], int | None, bool]]) -> deque[list[memoryview]] | None:
            return deque()

        def _read_rest(self, part: bytearray, size: int) -> bytearray:
            while len(part) < size:
                part += self._pipe.recv_bytes()
            self._data, self._position = bytes(part[size:]), 0
            del part[size:]
            return part


_ANCILLARY = socket.CMSG_SPACE(4 * _MOST_FILES) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))  # (to look at a flag of `enum` takes longer than the read)
_TRUNCATED = int(getattr(socket, "MSG_CTRUNC", 0))


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


class _Lost:
    """In place of a message whose files could not be had: whoever loads it gets the error."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise_lost, ()


def _raise_lost() -> NoReturn:
    raise OSError(errno.EMFILE, "this process has no descriptor or no memory left for a large array that came for it")
