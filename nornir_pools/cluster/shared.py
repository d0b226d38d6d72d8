"""Values that many tasks use: written once into the run's folder, mapped by every worker that needs them."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from .. import message
from ..errors import ResultError
from .spool import Spool

__all__ = ["Shared", "SharedStore", "use_store", "values_of"]

_HUGE = 500_000_000  # bytes: writing it takes seconds that somebody will wonder about
_LARGE = 1 << 16  # bytes: an argument of type bytes is shared from this size on

_store: SharedStore | None = None  # in a worker: where `Shared` values are read from


class Shared:
    """Stands for a value in the arguments of a task; the function gets the value itself."""

    def __init__(self, digest: str, value: Any) -> None:
        self.digest = digest
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _fetch, (self.digest,)

    def __repr__(self) -> str:
        return f"<shared {type(self.value).__name__} {self.digest[:8]}>"


def _same(one: memoryview, other: memoryview) -> bool:
    words = len(one) // 8 * 8  # compared eight bytes at a time
    return len(one) == len(other) and one[:words].cast("Q") == other[:words].cast("Q") and one[words:] == other[words:]


def _fetch(digest: str) -> Any:
    if _store is None:
        raise RuntimeError("a shared value can be used in the tasks of the cluster pool that made it, and nowhere else")
    return _store.value(digest)


def use_store(store: SharedStore) -> None:
    """In a worker: where shared values come from."""
    global _store
    _store = store


def values_of(spool: Spool, places: Sequence[dict[str, Any]]) -> list[Any]:
    """The values of a task's parents, from where they are kept. Raises ResultError that names the parent."""
    values = []
    for place, data in zip(places, spool.kept_all(places), strict=True):
        try:
            value = message.load(message.unpack(data)[1])
        except Exception as error:
            what = f"the value of task {place['task']!r}, which this task was given, cannot be read here"
            raise ResultError(f"{what}: {type(error).__name__}: {error}", task=place["task"]) from error
        values.append(value[1] if place.get("command") else value)  # of (status, stdout, stderr) a command's value is stdout
    return values


class SharedStore:
    """The folder ``shared`` of a run. Equal bytes have one name, their hash, so they are written once."""

    def __init__(self, spool: Spool, who: str) -> None:
        self._spool = spool
        self._who = who
        self._lock = threading.Lock()  # guards _known, so that one value is not written twice at once
        self._known: set[str] = set()
        self._owners: dict[int, tuple[weakref.ref[Any], str]] = {}  # by id: objects whose memory was stored, under which name
        self._values: dict[str, Any] = {}

    def put(self, *parts: message.Buffer) -> str:
        """Store bytes and return their name."""
        import hashlib  # no worker needs it

        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            digest.update(part)
        name = digest.hexdigest()
        with self._lock:
            if name not in self._known:
                self._warn_of_size(sum(map(len, parts)))
                self._spool.write(f"shared/{name}", parts, self._who)
                self._known.add(name)
        return name

    def put_memory(self, memory: memoryview) -> str:
        """As `put`, for the memory of an object that many tasks may be given.

        To compare it with what was stored takes a tenth of the time that it takes to hash it again. (It may have changed
        though it is read-only: its owner can make it writable for a while.)
        """
        owner, key = memory.obj, id(memory.obj)
        stored, name = self._owners.get(key, (None, ""))
        if stored is not None and stored() is owner and _same(memory, self.read(name)):
            return name
        name = self.put(memory)
        with contextlib.suppress(TypeError):  # bytes, for one, cannot be referred to weakly
            self._owners[key] = weakref.ref(owner, lambda _: self._owners.pop(key, None)), name
        return name

    def _warn_of_size(self, size: int) -> None:
        if size >= _HUGE:
            import logging  # no worker needs it

            logging.getLogger("nornir_pools").warning(
                "run %s: a value of %.1f GB is written to the run's folder, once for all tasks that use it",
                self._spool.path.name,
                size / 1e9,
            )

    def share(self, value: Any) -> Shared:
        """Store a value as it is now."""
        return Shared(self.put(*message.pack({}, message.dump(value))), value)

    def argument(self, value: Any) -> Any:
        """What to pickle in place of an argument: large bytes are shared without being asked for."""
        return self.share(value) if type(value) is bytes and len(value) >= _LARGE else value

    def adopt(self, other: Spool) -> None:
        """Have all that tasks of another run use: by links, or where there are none by copies."""
        for name in other.names("shared"):
            place = f"shared/{name}"
            try:
                os.link(place, place, src_dir_fd=other.fd, dst_dir_fd=self._spool.fd, follow_symlinks=False)
            except FileExistsError:
                continue
            except OSError:
                self._spool.write(place, [other.read(place)], self._who)

    def read(self, name: str) -> memoryview:
        """The bytes of that name, mapped, not copied."""
        fd = self._spool.open_file(f"shared/{name}")
        with open(fd, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def path(self, name: str) -> str:
        """Where the bytes of that name are, for who needs a file."""
        return str(self._spool.path / "shared" / name)

    def value(self, name: str) -> Any:
        """The value of that name, read once in this process; its arrays are read-only views of the mapped file."""
        if name not in self._values:
            _, parts = message.unpack(self.read(name))
            self._values[name] = message.load(parts)
        return self._values[name]
