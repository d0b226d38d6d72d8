"""Listings that are old: a folder as the client of a shared filesystem may see it, in this process only."""

from __future__ import annotations

import time
from typing import Any

from nornir_pools.cluster.folder import Folder

__all__ = ["StaleListings"]


class StaleListings:
    """From now on, this object for a folder lists what stood there up to `seconds` ago.

    What is changed through the same object shows at once, as on a client of NFS, and files are opened as they are: only
    what others have done is late.
    """

    def __init__(self, folder: Folder, seconds: float) -> None:
        self.seconds = seconds
        self._seen: dict[str, tuple[float, set[str]]] = {}
        self._names, self._rename, self._remove = folder.names, folder._rename, folder.remove
        folder.names = self.names  # type: ignore[method-assign]
        folder._rename = self.rename  # type: ignore[method-assign]
        folder.remove = self.remove  # type: ignore[method-assign]

    def names(self, folder: str, **how: Any) -> list[str]:
        if how.get("drafts"):
            return self._names(folder, **how)
        seen, names = self._seen.get(folder, (0.0, set()))
        if time.monotonic() - seen >= self.seconds:
            seen, names = self._seen[folder] = time.monotonic(), set(self._names(folder, **how))
        return [*names]

    def rename(self, source: str, target: str) -> None:
        self._rename(source, target)
        self._forget(source)
        folder, _, name = target.rpartition("/")
        if folder in self._seen and not name.startswith("."):
            self._seen[folder][1].add(name)

    def remove(self, name: str) -> None:
        self._remove(name)
        self._forget(name)

    def _forget(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if folder in self._seen:
            self._seen[folder][1].discard(name)
