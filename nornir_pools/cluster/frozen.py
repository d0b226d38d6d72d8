"""The user's own modules as they were when a task was added: a worker imports them from the run's folder.

They were stored by `freezing`, in messages whose header lists the modules and whose parts are their files. A module keeps
the path that it came from: what lies next to it is found there, and tracebacks name it, with the lines that have run.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, NamedTuple

from .. import message
from .shared import SharedStore

__all__ = ["FrozenCode", "FrozenLoader", "Stored", "frozen_source", "stored_modules"]

EXTENSION, LINES, NAMESPACE, SOURCE = "extension", "lines", "namespace", "source"


class Stored(NamedTuple):
    """A module in the run's folder."""

    name: str
    path: str
    """Where it came from."""
    kind: str
    """"source", "extension" (its file is a shared value by itself, named by `data`), "namespace", or "lines": the main
    script, whose functions travel with the tasks, and which is there for tracebacks only."""
    mtime: float
    data: Any
    """The content of its file; of a namespace package its folders."""

    @property
    def is_text(self) -> bool:
        """Whether its content is stored with it."""
        return self.kind in (SOURCE, LINES)

    @property
    def folder(self) -> str | None:
        """The folder of the modules in it, if it is a package."""
        folder, file = os.path.split(self.path)
        return folder if file.startswith("__init__.") else None


def stored_modules(store: SharedStore, digest: str) -> list[Stored]:
    """The modules that were stored together under that name."""
    header, parts = message.unpack(store.read(digest))
    modules = [Stored(*facts) for facts in header["modules"]]
    files = iter(parts)
    return [module._replace(data=next(files)) if module.is_text else module for module in modules]


class FrozenCode:
    """A finder of stored modules, asked before all others once it is in use."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._used: list[str] = []
        self._modules: dict[str, Stored] = {}
        self._imported: set[str] = set()

    def use(self, digests: list[str]) -> None:
        """Have the modules stored under these names imported from now on."""
        if digests == self._used[: len(digests)]:  # (a task that was added before some of them were stored)
            return
        if digests[: len(self._used)] != self._used:  # of another script that has gone on with this run
            self._forget()
        for digest in digests[len(self._used) :]:
            for module in stored_modules(self._store, digest):
                if module.kind == LINES:
                    _show_lines(module.path, bytes(module.data))
                else:
                    self._modules[module.name] = module
                    _drop_if_changed(module)
        self._used = digests
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def _forget(self) -> None:
        for name in self._imported:
            sys.modules.pop(name, None)
        self._used, self._modules, self._imported = [], {}, set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As every finder of `sys.meta_path`."""
        module = self._modules.get(name)
        if module is None:
            return None
        if module.kind == NAMESPACE:  # other folders may be parts of it here
            if (found := PathFinder.find_spec(name, path)) is not None:
                return found
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = list(module.data)
            return spec
        self._imported.add(name)
        loader = self._extension(module) if module.kind == EXTENSION else FrozenLoader(module)
        spec = ModuleSpec(name, loader, origin=loader.path, is_package=module.folder is not None)
        spec.has_location = True
        if module.folder is not None:
            spec.submodule_search_locations = [module.folder]
        return spec

    def _extension(self, module: Stored) -> ExtensionFileLoader:
        """From where it came, if it is still the same: there it finds what it is linked with."""
        digest, size = module.data
        same = _status(module.path) == (module.mtime, size)
        return ExtensionFileLoader(module.name, module.path if same else self._store.path(digest))


class FrozenLoader(SourceFileLoader):
    """Loads a stored module; its bytecode, too, is taken from where the module came from if it belongs to this source."""

    def __init__(self, module: Stored) -> None:
        super().__init__(module.name, module.path)
        self._module = module
        self.data = bytes(module.data)

    def get_data(self, path: str) -> bytes:
        return self.data if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> dict[str, Any]:
        return {"mtime": self._module.mtime, "size": len(self.data)}

    def set_data(self, path: str, data: Any, **_: Any) -> None:
        pass  # there may be other source by now

    def exec_module(self, module: ModuleType) -> None:
        _show_lines(self.path, self.data)
        super().exec_module(module)


def frozen_source(name: str) -> Stored | None:
    """In a task: the module of that name that it imports, or would import, from a run's folder."""
    for finder in sys.meta_path:
        if isinstance(finder, FrozenCode) and (stored := finder._modules.get(name)) is not None and stored.kind == SOURCE:
            return stored
    return None


def _show_lines(path: str, data: bytes) -> None:
    """Have tracebacks and debuggers show these lines (without a time of change they are not looked for in the file)."""
    text = data.decode("utf-8", "replace")
    linecache.cache[path] = (len(data), None, text.splitlines(keepends=True), path)


def _drop_if_changed(stored: Stored) -> None:
    """In a process that has the module already (a debugger's): it stays if it is the same."""
    module = sys.modules.get(stored.name)
    if stored.kind != SOURCE or module is None or getattr(module, "__file__", None) != stored.path:
        return
    try:
        with open(stored.path, "rb") as file:
            same = file.read() == stored.data
    except OSError:
        same = False
    if not same:
        del sys.modules[stored.name]


def _status(path: str) -> tuple[float, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime, status.st_size
