"""What many tasks of a process pool use: stored once, in a file of memory that each worker maps once.

That is done for what the user has wrapped by ``pool.share``, and for read-only arrays that are given again and again.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .. import message
from ..calls import dump_call, load_call
from ..errors import ArgumentError
from .memory import AVAILABLE, LARGE, MemoryFile, Part, into_files

if TYPE_CHECKING:
    from ..task import Task

__all__ = ["Shared", "Store", "keep_parts", "trim"]

_ARRAYS = 32  # how many read-only arrays a pool knows again, the last ones
_VALUES = 16  # how many shared values a worker has ready, the last ones
_SPARE = 4  # how many files are kept to be used again, while there are tasks
_tokens = itertools.count(1)

_parts: OrderedDict[int, Sequence[message.Buffer]] = OrderedDict()  # in a worker, by token: shared values, pickled,
_values: dict[int, Any] = {}  # and those of them that were used


class Shared:
    """Stands for a value in the arguments of a task; the function gets the value itself."""

    def __init__(self, store: Store, file: MemoryFile, kind: str) -> None:
        self.file = file
        self._store = store
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        self._store.note(self.file)
        return _value_of, (self.file.token,)

    def __repr__(self) -> str:
        return f"<shared {self._kind} of pool {self._store.pool!r}>"


class Store:
    """The files that a pool sends more than once."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self._here = threading.local()  # .used: the files of shared values in the call that this thread pickles
        self._shared: weakref.WeakSet[MemoryFile] = weakref.WeakSet()
        self.spare: list[MemoryFile] = []
        """What workers have done with: to write into it again takes a fraction of what fresh memory does."""
        self._arrays: OrderedDict[int, tuple[weakref.ref[Any], MemoryFile]] = OrderedDict()  # by id

    def share(self, value: Any) -> Any:
        """What to pass to tasks in place of a value; the value itself if there is no memory to store it in."""
        if not AVAILABLE:
            return value
        try:
            file = MemoryFile(message.dump(value), next(_tokens), inside=False)
        except OSError:
            return value
        self._shared.add(file)
        return Shared(self, file, type(value).__name__)

    def pack(self, task: Task) -> list[Part]:
        """The task's call, pickled, with the values of this moment. Raises ArgumentError if that cannot be."""
        pickled, used = self._dump(task)
        if len(pickled) == 1 and len(pickled[0]) < LARGE and not used:
            return [pickled[0]]
        parts = into_files(pickled, self._known, self.spare)
        # What was not copied into a file is still the caller's memory, which may change before the task is sent.
        return [*(bytes(part) if isinstance(part, memoryview) else part for part in parts), *used.values()]

    def _dump(self, task: Task) -> tuple[list[message.Buffer], dict[int, MemoryFile]]:
        """The pickle and its buffers, and the files of the shared values in it."""
        before = getattr(self._here, "used", None)
        used: dict[int, MemoryFile] = {}
        self._here.used = used
        try:
            return dump_call(task), used
        finally:
            self._here.used = before

    def freeze(self, task: Task) -> None:
        """Have the task keep its call as it is now, to be packed when the values of its parents are there.

        Raises ArgumentError if it cannot be pickled.
        """
        parts, used = self._dump(task)
        task.func, task.args = _call_frozen, (_Frozen(self, parts, used.values()),)

    def fill(self, task: Task) -> list[Part]:
        """As `pack`, for a call that was frozen, with the values of its parents, which may raise as well."""
        parents, task._parents = task._parents, None
        assert parents is not None
        task.args = (*task.args, [parent.result() for parent in parents.values])
        return self.pack(task)

    def note(self, file: MemoryFile) -> None:
        """A call that is being pickled uses this shared value."""
        used = getattr(self._here, "used", None)
        if used is None:
            raise ArgumentError(f"a value shared by pool {self.pool!r} can be used in the tasks of that pool, and nowhere else")
        used[id(file)] = file

    def reuse(self, parts: Sequence[Part]) -> None:
        """A worker has let go of this call, and nobody else has it."""
        for part in parts:
            if isinstance(part, MemoryFile) and part.token is None and len(self.spare) < _SPARE:
                self.spare.append(part)

    def close(self) -> None:
        """Give the memory back; workers that have it mapped keep it until they end."""
        self._arrays.clear()
        for file in list(self._shared):
            file.close()

    def _known(self, array: memoryview) -> MemoryFile | None:
        """The file of an array that was sent before, or the first one of it; None if it cannot be recognised."""
        owner = array.obj
        _, file = self._arrays.get(id(owner), (None, None))
        if file is not None and file.holds(array):  # (to be read-only for one is not to be left unchanged by its owner)
            return file
        arrays, key = self._arrays, id(owner)
        try:
            # Without a lock: this may be called, by the garbage collector, at any moment.
            ref = weakref.ref(owner, lambda _: arrays.pop(key, None) and None)
            file = MemoryFile([array], next(_tokens))
        except (OSError, TypeError):
            return None
        arrays[key] = ref, file
        if len(arrays) > _ARRAYS:
            arrays.popitem(last=False)
        return file


class _Frozen:
    """A call that is pickled already; unpickled, it is its parts."""

    def __init__(self, store: Store, parts: Iterable[message.Buffer], used: Iterable[MemoryFile]) -> None:
        self._store = store
        self._used = list(used)
        # Copies: the memory is the caller's, and may change.
        self._parts = [bytearray(part) if isinstance(part, memoryview) and not part.readonly else bytes(part) for part in parts]

    def __reduce__(self) -> tuple[Any, ...]:
        for file in self._used:
            self._store.note(file)
        return _parts_of, tuple(map(pickle.PickleBuffer, self._parts))


# --- in a worker


def _parts_of(*parts: message.Buffer) -> Sequence[message.Buffer]:
    return parts


def _call_frozen(parts: Sequence[message.Buffer], values: Sequence[Any]) -> Any:
    func, args, kwargs = load_call(parts, values)
    return func(*args, **kwargs)


def keep_parts(token: int, parts: Sequence[message.Buffer]) -> None:
    """A shared value has come."""
    if token not in _parts:
        _parts[token] = parts
    _parts.move_to_end(token)


def trim() -> None:
    """Once a call is over: forget the values that were used longest ago. They come again if they are needed."""
    while len(_parts) > _VALUES:
        token, _ = _parts.popitem(last=False)
        _values.pop(token, None)


def _value_of(token: int) -> Any:
    if token not in _values:
        _values[token] = message.load(_parts[token])
    return _values[token]
