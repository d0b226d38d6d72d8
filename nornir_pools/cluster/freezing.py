"""Storing the user's own modules in a run, so that its workers import what was there when a task was added.

His own are those that were imported from below the script's folder, the working folder, or a checkout that one of them is
in, and are neither installed (``site-packages``) nor of the standard library. Of a package all modules are stored, since a
task may import one that the script has not.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import Any

from .. import message
from .frozen import EXTENSION, LINES, NAMESPACE, SOURCE, Stored, frozen_source, stored_modules
from .shared import SharedStore

__all__ = ["Freezer", "with_todays_code"]

logger = logging.getLogger("nornir_pools")

_MOST_FILES, _MOST_BYTES = 4000, 64_000_000
_INSTALLED = {"site-packages", "dist-packages"}
_HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # this package
_PYTHONS_OWN = tuple({os.path.realpath(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib")})


class _TooLargeError(Exception):
    pass


class Freezer:
    """Stores the modules of one run. What was stored once is not stored again, whatever becomes of its file."""

    def __init__(self, store: SharedStore, run: str) -> None:
        self._store = store
        self._run = run
        self._seen: set[str] = set()  # names of modules that were looked at
        self._stored: set[str] = set()
        self._digests: list[str] = []
        self._room = [_MOST_FILES, _MOST_BYTES]
        self._lock = threading.Lock()  # guards all of it: tasks are added from any thread

    def into(self, context: bytes) -> bytes:
        """A task's context with where the code is stored. Raises SpoolError."""
        with self._lock:
            self._store_new()
            return json.dumps({**json.loads(context), "code": self._digests}, sort_keys=True).encode()

    def _store_new(self) -> None:
        new = {name: module for name, module in list(sys.modules.items()) if name not in self._seen}
        if not new or self._room[0] <= 0:
            return
        roots = _roots()
        own = {name: path for name, module in sorted(new.items()) if (path := _own_path(name, module, roots)) is not None}
        if own:
            self._store_own(own, roots)
        self._seen.update(new)  # (only now: what could not be stored is new the next time)

    def _store_own(self, own: dict[str, str], roots: set[str]) -> None:
        try:
            try:
                self._put(self._collect(own, whole=True))
            except _TooLargeError:
                self._put(self._collect(own, whole=False))
        except _TooLargeError:
            self._room[0] = 0
            logger.warning(
                "run %s: its script has imported more than %d modules, or %d MB of them, from below %s: they are not stored, "
                "and jobs import what is there when they start; frozen_code=False says that this is meant",
                self._run,
                _MOST_FILES,
                _MOST_BYTES // 1_000_000,
                ", ".join(sorted(roots)),
            )

    def _collect(self, own: dict[str, str], *, whole: bool) -> dict[str, Stored]:
        """The modules to store; of packages, if they are to be stored whole, all there are."""
        found: dict[str, Stored] = {}
        room = list(self._room)
        for name, path in own.items():
            files = {name: path}
            if whole and os.path.basename(path) == "__init__.py":
                files.update(_modules_of(name, os.path.dirname(path), set()))
            for each, file in files.items():
                if each not in self._stored and each not in found and (module := self._read(each, file)) is not None:
                    found[each] = module
                    room[0] -= 1
                    room[1] -= module.data[1] if module.kind == EXTENSION else len(module.data)
                    if min(room) < 0:
                        raise _TooLargeError
            for parent in _namespaces_above(name):
                found[parent.name] = parent
        return found

    def _read(self, name: str, path: str) -> Stored | None:
        """A module as it is now; None if it cannot be read: then it is imported as ever."""
        if (frozen := frozen_source(name)) is not None:
            return frozen  # this process runs a task: its own tasks run the same code
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if path.endswith(tuple(EXTENSION_SUFFIXES)):
                    if status.st_size > _MOST_BYTES:
                        raise _TooLargeError
                    return Stored(name, path, EXTENSION, status.st_mtime, (self._store.put(file.read()), status.st_size))
                return Stored(name, path, LINES if name == "__main__" else SOURCE, status.st_mtime, file.read())
        except OSError:
            return None

    def _put(self, modules: dict[str, Stored]) -> None:
        if modules:
            self._digests = [*self._digests, _put(self._store, list(modules.values()))]
            self._stored.update(modules)
            self._room[0] -= len(modules)
            self._room[1] -= sum(len(module.data) for module in modules.values() if module.kind != EXTENSION)


def _put(store: SharedStore, modules: list[Stored]) -> str:
    facts = [module._replace(data="") if module.is_text else module for module in modules]
    return store.put(*message.pack({"modules": facts}, [module.data for module in modules if module.is_text]))


def with_todays_code(store: SharedStore, context: bytes) -> bytes:
    """A task's context with the code that is there today in place of the one that it had."""
    facts: dict[str, Any] = json.loads(context)
    modules = []
    for digest in facts.get("code", ()):
        for module in stored_modules(store, digest):
            if module.is_text:
                with contextlib.suppress(OSError), open(module.path, "rb") as file:
                    modules.append(module._replace(mtime=os.fstat(file.fileno()).st_mtime, data=file.read()))
            elif module.kind == NAMESPACE:
                modules.append(module)  # (an extension is imported from where it is)
    return json.dumps({**facts, "code": [_put(store, modules)] if modules else []}, sort_keys=True).encode()


def _roots() -> set[str]:
    """The folders below which modules are the user's own."""
    folders = []
    with contextlib.suppress(OSError):  # it may have been removed
        folders.append(os.getcwd())
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file and not _is_installed(os.path.realpath(file)):
        folder = os.path.dirname(os.path.abspath(file))
        package = getattr(getattr(main, "__spec__", None), "parent", "")  # python -m
        for _ in package.split(".") if package else ():
            folder = os.path.dirname(folder)
        folders.append(folder)
    roots = set(map(os.path.realpath, folders))
    return roots | {checkout for root in roots if (checkout := _checkout(root))}


def _checkout(folder: str) -> str:
    """The root of the checkout that a folder is in; "" if it is in none."""
    while not os.path.exists(os.path.join(folder, ".git")):
        folder, below = os.path.dirname(folder), folder
        if folder == below:
            return ""
    return folder


def _is_installed(path: str) -> bool:
    return path.startswith(tuple(f"{folder}{os.sep}" for folder in (*_PYTHONS_OWN, _HERE))) or not _INSTALLED.isdisjoint(
        path.split(os.sep)
    )


def _own_path(name: str, module: ModuleType, roots: set[str]) -> str | None:
    """The path of a module that is the user's own and has a file, of source or an extension."""
    facts = getattr(module, "__dict__", {})
    path = facts.get("__file__")
    if not isinstance(path, str) or facts.get("__name__") != name or _is_installed(path):
        return None
    if not path.endswith((".py", *EXTENSION_SUFFIXES)) and name != "__main__":
        return None
    real = os.path.realpath(path)
    below = any(real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
    return os.path.abspath(path) if below and not _is_installed(real) else None


def _modules_of(package: str, folder: str, visited: set[str]) -> Iterator[tuple[str, str]]:
    """The modules of source below a package's folder, with their paths."""
    real = os.path.realpath(folder)
    if real in visited:  # a link to a folder above
        return
    visited.add(real)
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        path, stem = os.path.join(folder, name), name.removesuffix(".py")
        if not stem.isidentifier() or stem == "__init__":
            continue
        if stem != name:
            yield f"{package}.{stem}", path
        elif os.path.isfile(inner := os.path.join(path, "__init__.py")):
            yield f"{package}.{name}", inner
            yield from _modules_of(f"{package}.{name}", path, visited)


def _namespaces_above(name: str) -> Iterator[Stored]:
    """The packages without a file that a module is in."""
    while name := name.rpartition(".")[0]:
        facts = getattr(sys.modules.get(name), "__dict__", {})
        if facts.get("__file__") is None and "__path__" in facts:
            yield Stored(name, "", NAMESPACE, 0.0, list(facts["__path__"]))
