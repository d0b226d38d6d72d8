"""What an examination runs in its small job, and here: a program of its own, so that whatever Python is there can run it.

It is copied into the folder that is tried out, and imports nothing but the standard library before it has said what that
Python is. In a job it talks with the examining process through that folder::

    hello ──>        here am I, and this is the time by my clock
          <── ping   seen? then how late did it appear?
    pong  ──>        that late; my Python, packages and CPUs
    import-N ──>     seconds to import the Nth package

Every file is written elsewhere and renamed, and none is looked for by name before a listing has shown it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any

__all__ = ["ahead_of_us", "main", "wait_for"]

_PATIENCE = 40.0  # seconds to wait for an answer
_LONGEST_IMPORT = 15.0  # seconds
_PACKAGES = ("submitit", "cloudpickle", "numpy")


class _TooLongError(BaseException):
    pass


def main(words: list[str]) -> None:
    """`words`: "here" or "job", the folder that has nornir_pools, and the names of packages to import."""
    how, root, names = words[0], words[1], words[2:]
    sys.path[:1] = []  # the folder of this file
    sys.path.append(root)  # the last place, as for a worker
    if how == "job":
        _talk(names)
        return
    sys.stdout.flush()
    facts = {**_facts(), "imports": [_import(name) for name in names]}
    sys.stdout.write("\n" + json.dumps(facts) + "\n")  # on a line of its own: a package may print when it is imported


def _talk(names: list[str]) -> None:
    ahead = ahead_of_us(".", "clock-there")
    _publish("hello", {"host": socket.gethostname(), "ahead": ahead})
    if wait_for(".", "ping", _PATIENCE):
        late = time.time() + ahead - os.stat("ping").st_ctime
        _publish("pong", {"late": max(0.0, late), **_facts()})
        for number, name in enumerate(names):
            _publish("import-%d" % number, _import(name))  # noqa: UP031 - an old Python is to get so far


def _publish(name: str, facts: dict[str, Any]) -> None:
    with open("." + name, "w") as file:
        json.dump(facts, file)
    os.rename("." + name, name)


def ahead_of_us(folder: str, name: str) -> float:
    """Seconds by which the file server's clock is ahead of this machine's. `name` is of a file for that."""
    path = os.path.join(folder, name)
    before = time.time()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    after = time.time()
    try:
        return os.stat(path).st_ctime - (before + after) / 2
    finally:
        os.unlink(path)


def wait_for(folder: str, name: str, seconds: float) -> bool:
    """Wait until a listing of the folder shows that name."""
    until = time.monotonic() + seconds
    while name not in os.listdir(folder):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "version": list(sys.version_info[:3]),
        "executable": sys.executable,
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpus": None,
    }
    try:
        from nornir_pools._version import __version__
        from nornir_pools.cpus import usable_cpus

        facts["packages"]["nornir_pools"] = __version__
        facts["cpus"] = usable_cpus()
    except Exception as error:  # it is not there, or this Python is too old for it
        facts["packages"]["nornir_pools"] = ""
        facts["error"] = f"{type(error).__name__}: {error}"
    return facts


def _version(package: str) -> str:
    """A package's version; "" if it is not installed."""
    try:
        from importlib import metadata

        return metadata.version(package)
    except Exception:
        return ""


def _import(name: str) -> dict[str, Any]:
    """Seconds that the import of a package takes, or what becomes of it instead."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_IMPORT)
    begun = time.monotonic()
    error = ""
    try:
        importlib.import_module(name)
    except _TooLongError:
        error = "given up"
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"name": name, "seconds": time.monotonic() - begun, "error": error}


def _give_up(number: int, frame: Any) -> None:
    raise _TooLongError


if __name__ == "__main__":
    main(sys.argv[1:])
