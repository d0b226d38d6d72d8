"""Memory without a name that several processes map: how large arrays travel between them, copied once.

Who sends writes the large parts of a message into such a file and passes its descriptor along; who gets it maps the file,
and the memory lives as long as what was made from it. As the file has no name, a crash at any moment leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from ..message import ALIGNMENT, Buffer

__all__ = ["AVAILABLE", "LARGE", "MemoryFile", "Part", "into_files", "let_go", "open_file"]

AVAILABLE = hasattr(os, "memfd_create") and hasattr(socket, "SCM_RIGHTS")
LARGE = 1 << 20  # bytes: less goes through the pipe sooner than it is mapped

_MAPPING_OPTIONS: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_held: set[int] = set()  # what holds a descriptor: files by theirs, mappings (until Python 3.13) by minus their id
_mappings: weakref.WeakValueDictionary[int, _Mapping] = weakref.WeakValueDictionary()  # by token: those with one


class MemoryFile:
    """Parts of messages in memory that another process can map.

    A file with a `token` may be sent any number of times: it is mapped read-only, and only once in a process. The parts of
    a file that is not `inside` of the messages it goes with are kept by the receiver, under the token.
    """

    __slots__ = ("__weakref__", "capacity", "fd", "inside", "sizes", "token")

    def __init__(self, parts: Sequence[Buffer], token: int | None = None, *, inside: bool = True) -> None:
        """Copy the parts. Raises OSError where no more memory or descriptors are to be had."""
        self.fd = -1
        self.token = token
        self.inside = inside
        _check_room()
        self.fd = os.memfd_create("nornir_pools")
        _held.add(self.fd)
        self.fill(parts)
        self.capacity = _length(parts)

    def fill(self, parts: Sequence[Buffer]) -> None:
        """Copy the parts in place of what is there."""
        self.sizes = [len(part) for part in parts]
        for start, part in zip(_starts(self.sizes), parts, strict=False):
            view = memoryview(part)
            while len(view):
                count = os.pwrite(self.fd, view, start)
                start, view = start + count, view[count:]

    @property
    def entry(self) -> tuple[list[int], int | None, bool]:
        """What `open_file` has to be told."""
        return self.sizes, self.token, self.inside

    def holds(self, part: memoryview) -> bool:
        """Whether the first part is equal to these bytes: exactly, and as fast as memory can be read."""
        if self.sizes[0] != len(part):
            return False
        piece = bytearray(min(1 << 18, len(part)))  # fits into the processor's cache
        for start in range(0, len(part), len(piece)):
            wanted = part[start : start + len(piece)]
            del piece[len(wanted) :]
            if os.preadv(self.fd, [piece], start) != len(piece) or piece != wanted:
                return False
        return True

    def close(self) -> None:
        """Let the file go; what is mapped stays."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _held.discard(fd)
            os.close(fd)

    __del__ = close


Part: TypeAlias = "Buffer | MemoryFile"


class _Mapping(mmap.mmap):
    """Counted, as it has a descriptor of its own where that cannot be turned off."""

    forks = 0  # of this process before it was made

    def __del__(self) -> None:
        _held.discard(-id(self))


def into_files(
    parts: Sequence[Buffer],
    known: Callable[[memoryview], MemoryFile | None] | None = None,
    spare: list[MemoryFile] | None = None,
) -> list[Part]:
    """The parts of a message, the large ones in files of memory as far as such are to be had.

    `known` may know a file for a large buffer that is read-only; `spare` are files to be used again.
    """
    if not AVAILABLE or sum(map(len, parts)) < LARGE:
        return list(parts)
    result: list[Part] = []
    run: list[Buffer] = []  # what comes next, and goes into one file
    for part in parts:
        readonly = isinstance(part, memoryview) and part.readonly and len(part) >= LARGE
        file = known(part) if known is not None and readonly and isinstance(part, memoryview) else None
        if file is None:
            run.append(part)
        else:
            result += [*_one_file(run, spare), file]
            run = []
    return [*result, *_one_file(run, spare)]


def _one_file(parts: Sequence[Buffer], spare: list[MemoryFile] | None) -> Sequence[Part]:
    if sum(map(len, parts)) >= LARGE:
        with contextlib.suppress(OSError):
            file = None
            with contextlib.suppress(IndexError):  # another thread was faster
                file = spare.pop() if spare else None
            if file is None or not file.capacity // 2 <= _length(parts) <= file.capacity:
                file = MemoryFile(parts)
            else:
                file.fill(parts)
            return [file]
    return parts


def let_go(parts: Sequence[Buffer]) -> bool:
    """Unmap what was received; whether it is certain that nobody will ever look at it again, so that it may be written over."""
    views = [part for part in parts if isinstance(part, memoryview)]
    mappings = {id(view.obj): view.obj for view in views}.values()
    if not views or any(view.readonly for view in views):
        return False
    if not all(isinstance(mapping, _Mapping) and mapping.forks == _Mapping.forks for mapping in mappings):
        return False  # a copy, or a process that was forked meanwhile may use it
    try:
        for view in views:
            view.release()
        for mapping in mappings:
            mapping.close()  # type: ignore[attr-defined]  # a _Mapping, as was checked
    except BufferError:  # an array that was made from it lives
        return False
    return True


def open_file(fd: int, sizes: Sequence[int], token: int | None) -> list[memoryview]:
    """The parts in a file that somebody has sent. Takes the descriptor over. Raises OSError if memory is short.

    Without a token they may be written to and, as any memory of a process, are seen by it alone: not by what it forks.
    """
    starts = [*_starts(sizes)]
    try:
        mapping = _mappings.get(token) if token is not None else None
        view = memoryview(_map(fd, starts[-1], token) if mapping is None else mapping)
    finally:
        os.close(fd)
    return [view[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def _map(fd: int, length: int, token: int | None) -> Buffer | _Mapping:
    try:
        _check_room()
        access = mmap.ACCESS_COPY if token is None else mmap.ACCESS_READ
        mapping = _Mapping(fd, length, access=access, **_MAPPING_OPTIONS)
    except OSError:  # no room for more mappings: a copy has no descriptor
        copy = bytearray(length)
        with memoryview(copy) as view:
            position = 0
            while position < length and (count := os.preadv(fd, [view[position:]], position)):
                position += count
        return copy if token is None else memoryview(copy).toreadonly()
    mapping.forks = _Mapping.forks
    if not _MAPPING_OPTIONS:
        _held.add(-id(mapping))
    if token is not None:
        _mappings[token] = mapping
    return mapping


def _starts(sizes: Sequence[int]) -> Iterator[int]:
    """Where each part starts, and where the last one ends."""
    position = 0
    for size in sizes:
        position += -position % ALIGNMENT
        yield position
        position += size
    yield position


def _length(parts: Sequence[Buffer]) -> int:
    return [*_starts([len(part) for part in parts])][-1]


def _count_fork() -> None:
    _Mapping.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_count_fork)


def _check_room() -> None:
    """At most a quarter of the descriptors this process may have: the rest is the user's."""
    import resource  # not on Windows

    if len(_held) >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
