"""The one manager of shared memory blocks of a script and its worker processes.

Its address and key stand in the environment, so that worker processes find it. Tasks of a cluster pool do not get them: the
blocks are memory of one machine. The manager is a process that ends when the script does, however that comes, and takes its
blocks along.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from multiprocessing import ProcessError, parent_process
from multiprocessing.managers import SharedMemoryManager, SharedMemoryServer
from typing import Any

from . import registry
from .here import MANAGER_ADDRESS, MANAGER_KEY
from .starting import context, without_main_script

__all__ = ["get_or_create", "stop"]

_lock = threading.RLock()  # guards _manager: two threads that ask get one manager
_manager: tuple[int, SharedMemoryManager] | None = None  # with the id of the process that has started it


class _Server(SharedMemoryServer):
    """Does not outlive the process that has started it."""

    def serve_forever(self) -> None:
        threading.Thread(target=self._end_with_parent, daemon=True).start()
        super().serve_forever()

    def _end_with_parent(self) -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            shutdown: Any = self.shutdown
            shutdown(_Nobody())


class _Nobody:
    """The connection that the shutdown is answered through."""

    def send(self, answer: Any) -> None:
        pass


class _Manager(SharedMemoryManager):
    _Server = _Server


def get_or_create(authkey: bytes | None = None) -> SharedMemoryManager:
    """The manager of this script and its worker processes: the one that runs, or a new one, with the key `authkey` if given.

    It, and every block made through it, is gone when the script has ended.
    """
    global _manager
    with _lock:
        if _manager is not None and _manager[0] == os.getpid() and _answers(_manager[1]):
            return _manager[1]
        found = _connect(authkey)
        if found is not None:
            return found
        registry.hook_into_exit()
        manager = _Manager(authkey=authkey or secrets.token_bytes(32), ctx=context)
        with without_main_script():
            manager.start()
        _manager = os.getpid(), manager
        os.environ[MANAGER_ADDRESS] = str(manager.address)
        os.environ[MANAGER_KEY] = bytes(manager._authkey).hex()  # type: ignore[attr-defined]  # which has no public name
        return manager


def _connect(authkey: bytes | None) -> SharedMemoryManager | None:
    """The manager that the environment names; None, and no trace of it there, if it is gone."""
    address, key = os.environ.get(MANAGER_ADDRESS), os.environ.get(MANAGER_KEY, "")
    if not address:
        return None
    with contextlib.suppress(OSError, EOFError, ProcessError, ValueError):
        manager = SharedMemoryManager(address=address, authkey=authkey or bytes.fromhex(key))
        manager.connect()
        return manager
    _forget()
    return None


def _answers(manager: SharedMemoryManager) -> bool:
    try:
        manager.connect()
    except (OSError, EOFError, ProcessError):
        return False
    return True


def _forget() -> None:
    for name in (MANAGER_ADDRESS, MANAGER_KEY):
        os.environ.pop(name, None)


def stop() -> None:
    """End the manager that this process has started, if any, and with it its blocks."""
    global _manager
    with _lock:
        if _manager is not None and _manager[0] == os.getpid():
            _manager[1].shutdown()
            _forget()
        _manager = None


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
