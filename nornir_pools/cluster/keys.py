"""What a call is known by, in another process as well: whoever runs the same script again finds what it has done before.

A key has five parts, so that it can be told in which of them two calls differ: the code of the function, the file of its
module, the arguments, the state of files among them, and `version=`.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import stat
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from ..calls import Stand
from ..parents import Parents
from ..task import Task
from .frozen import frozen_source

__all__ = ["Key", "Keys"]

_PACKAGE = __name__.partition(".")[0]


class Key(NamedTuple):
    """What a call is known by."""

    code: str
    modules: str
    arguments: str
    files: str
    version: str

    def __str__(self) -> str:
        return ".".join(self)

    @classmethod
    def read(cls, text: str) -> Key | None:
        """The key that was written so; None if this is none."""
        parts = text.split(".")
        return cls(*parts) if len(parts) == len(cls._fields) else None

    def difference(self, other: Key) -> str:
        """In what a call differs from an earlier one with the key `other`, in words."""
        words = {
            "code": "its function has changed",
            "modules": "a file that its function is in has changed",
            "arguments": "its arguments have changed",
            "files": "a file among its arguments has changed",
            "version": "its version= has changed",
        }
        return ", ".join(words[name] for name in self._fields if getattr(self, name) != getattr(other, name))


class Keys:
    """Makes keys. The file of a module counts as it was when it was first looked at: that is what was imported."""

    def __init__(self) -> None:
        self._of_modules: dict[str, str] = {}
        self._of_functions: weakref.WeakKeyDictionary[Any, tuple[str, str]] = weakref.WeakKeyDictionary()

    def key_of(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        version: Any,
        parents: Parents | None = None,
    ) -> Key:
        """The key of a call, in which a parent counts by its own key, as what it gives is not known yet.

        Raises what pickling raises, if something in it cannot be, and TypeError if a parent has no key.
        """
        reader = _Reader(parents.values if parents is not None else ())
        code, modules = self._of_function(func, reader)
        after = sorted(map(_key_of, parents.after)) if parents is not None else []
        arguments = reader.digest((args, sorted(kwargs.items()), *after))
        return Key(code, modules, arguments, _short(reader.files), _short(str(version)))

    def _of_function(self, func: Callable[..., Any], reader: _Reader) -> tuple[str, str]:
        """The code of a function, and the files that it is in."""
        fixed = isinstance(func, FunctionType) and not _holds_values(func)
        if fixed and (known := self._of_functions.get(func)) is not None:
            return known
        code = reader.digest(func)
        found = code, _short([(name, self._file_of(name)) for name in sorted(reader.modules)])
        if fixed:
            self._of_functions[func] = found
        return found

    def _file_of(self, module: str) -> str:
        if module not in self._of_modules:
            self._of_modules[module] = _digest_of_file(module)
        return self._of_modules[module]


def _digest_of_file(name: str) -> str:
    """That of a module's file; "" if it has none (a notebook), or belongs to this package."""
    if name.partition(".")[0] == _PACKAGE:
        return ""
    if (stored := frozen_source(name)) is not None:
        return _short(bytes(stored.data))
    path = getattr(sys.modules.get(name), "__file__", None)
    try:
        with open(path or "", "rb") as file:
            return _short(file.read())
    except OSError:
        return ""


def _short(value: Any) -> str:
    data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _key_of(parent: Future[Any]) -> str:
    noted: Mapping[str, Any] = getattr(parent, "_noted", {})
    if "key" not in noted:
        name = getattr(parent, "name", parent)
        raise TypeError(f"task {name!r} among them cannot be compared either, or is of a pool without resume=True")
    return str(noted["key"])


class _Reader:
    """Reads values for their digests, and collects the modules of functions, and the files, that it comes by."""

    def __init__(self, parents: Sequence[Task]) -> None:
        self.parents = parents
        self.modules: set[str] = set()
        self.files: list[tuple[str, int, int]] = []
        self.inside: set[int] = set()  # functions that are being read: one may refer to itself

    def digest(self, value: Any) -> str:
        """Equal for values that are equal, in any process of the same Python."""
        found = hashlib.blake2b(digest_size=16)

        def take(buffer: pickle.PickleBuffer) -> None:
            found.update(buffer.raw())

        try:
            stream = _dump(self, value, take, fast=True)
        except (ValueError, RecursionError):  # it contains itself
            found = hashlib.blake2b(digest_size=16)
            stream = _dump(self, value, take, fast=False)
        found.update(stream)
        return found.hexdigest()


def _dump(reader: _Reader, value: Any, take: Callable[[pickle.PickleBuffer], None], *, fast: bool) -> bytes:
    stream = io.BytesIO()
    pickler = _Pickler(reader, stream, take)
    pickler.fast = fast  # without it, it counts whether equal values in it are the same object
    pickler.dump(value)
    return stream.getvalue()


class _Pickler(pickle.Pickler):
    """Its pickles are never loaded: they only have to be the same for the same values."""

    def __init__(self, reader: _Reader, stream: io.BytesIO, take: Callable[[pickle.PickleBuffer], None]) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=take)
        self._reader = reader

    def persistent_id(self, value: Any) -> Any:
        """Sets have no order that would be the same in another process."""
        if type(value) is set or type(value) is frozenset:
            return type(value).__name__, sorted(map(self._reader.digest, value))
        return None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType):
            return tuple, (self._function(value),)
        if isinstance(value, PurePath):
            self._note_file(value)
            return str, (str(value),)
        if isinstance(value, type) and value.__module__ != "builtins":
            self._reader.modules.add(value.__module__)
            return tuple, ((value.__module__, value.__qualname__),)
        if isinstance(value, CodeType):
            return tuple, (_code(value),)
        if isinstance(value, ModuleType):
            return str, (value.__name__,)
        if isinstance(value, Stand):
            return str, (_key_of(self._reader.parents[value.index]),)
        return NotImplemented

    def _function(self, function: FunctionType) -> tuple[Any, ...]:
        place = function.__module__, function.__qualname__
        if id(function) in self._reader.inside:
            return place
        self._reader.inside.add(id(function))
        try:
            self._reader.modules.add(function.__module__)
            cells = [_content(cell) for cell in function.__closure__ or ()]
            inner = [function.__code__, function.__defaults__, function.__kwdefaults__, cells, _without_a_file(function)]
            return *place, self._reader.digest(inner)
        finally:
            self._reader.inside.discard(id(function))

    def _note_file(self, path: PurePath) -> None:
        try:
            status = os.stat(path)
        except OSError:
            return
        if stat.S_ISREG(status.st_mode):
            self._reader.files.append((str(path), status.st_size, status.st_mtime_ns))


def _holds_values(function: FunctionType) -> bool:
    """Whether a function holds what may be another value the next time."""
    values = function.__closure__, function.__defaults__, function.__kwdefaults__
    return values != (None, None, None) or "__file__" not in function.__globals__


def _without_a_file(function: FunctionType) -> dict[str, Any]:
    """What a function of a notebook uses of it; of others their module's file counts."""
    if "__file__" in function.__globals__:
        return {}
    names = sorted(set(_names(function.__code__)) & function.__globals__.keys())
    return {name: function.__globals__[name] for name in names}


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty: the function was not made to its end
        return None


def _code(code: CodeType) -> tuple[Any, ...]:
    """What a function does, without where it stands."""
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return *shape, code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
