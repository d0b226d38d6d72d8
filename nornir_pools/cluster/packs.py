"""What stays of tasks: outcomes that were collected, until the run is closed, so that another process can take it over; calls
that wait for such outcomes; and calls that have failed, so that they can be run again."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..message import Buffer
from .folder import FLAGS, read_part, write_all
from .journal import Journal
from .names import SHARD, task_attempt, task_name, task_number

__all__ = ["PACKED", "Packs"]

PACKED = 1 << 16  # bytes: a larger outcome is a file of its own
_PACK_SIZE = 1 << 26  # bytes


class Packs(Journal):
    """A run's folder, of which this part knows the packs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pack_lock = threading.Lock()  # guards the one that is being filled
        self._pack = -1  # its descriptor
        self._pack_number = self._pack_size = 0

    def close(self) -> None:
        """Let the folder go."""
        if self._pack >= 0:
            os.close(self._pack)
            self._pack = -1
        super().close()

    def resume(self) -> None:
        """Go on where another process has stopped: with a line, and a pack, of our own."""
        self.note(t="resumed")  # a line that was cut off ends with this one, and neither counts
        packs = [int(name.removesuffix(".pack")) for name in self.names("packs") if name.endswith(".pack")]
        self._pack_number = max(packs, default=-1) + 1

    def kept(self, place: dict[str, Any], most: int | None = None) -> bytearray:
        """An outcome that `keep` has put away, or its beginning of `most` bytes."""
        return self.read_dated(place["file"], place.get("at", 0), place.get("size"), most)[0]

    def kept_all(self, places: Sequence[dict[str, Any]], patience: float = 30.0) -> list[bytearray]:
        """In a job: several of them, each file opened once.

        The pool has given them out of its hands before the job could know of them. A node that sees one late waits for it.
        """
        with contextlib.ExitStack() as files:
            opened: dict[str, int] = {}
            found = []
            for place in places:
                until = time.monotonic() + patience
                while (data := self._part_of(place, opened, files)) is None:
                    if time.monotonic() > until:
                        raise FileNotFoundError(f"{self.path}/{place['file']} is not there, or not all of it")
                    self.names(os.path.dirname(place["file"]))  # over NFS, that has the names in the folder checked
                    time.sleep(0.1)
                found.append(data)
            return found

    def _part_of(self, place: dict[str, Any], opened: dict[str, int], files: contextlib.ExitStack) -> bytearray | None:
        name, size = place["file"], place.get("size")
        try:
            if name not in opened:
                opened[name] = self.open_file(name)
                files.callback(os.close, opened[name])
        except FileNotFoundError:
            return None
        data = read_part(opened[name], place.get("at", 0), size)
        if size is None or len(data) == size:
            return data
        del opened[name]  # to open it anew has its size checked
        return None

    def moved_outcomes(self) -> list[str]:
        """The paths of large outcomes that were taken out of the inbox."""
        folders = [name for name in self.names("packs") if name.isdigit()]
        return [f"packs/{folder}/{name}" for folder in folders for name in self.names(f"packs/{folder}")]

    def hold(self, task: str, parts: Sequence[Buffer]) -> None:
        """Write down a call that is not to be seen by workers yet."""
        folder = f"held/{task_number(task) // SHARD:04d}"
        self.make_folder(folder)
        self.write(f"{folder}/{task}", parts, "pool")

    def held(self, task: str) -> bytearray:
        """A call that was held back."""
        return self.read(f"held/{task_number(task) // SHARD:04d}/{task}")

    def drop_held(self, task: str, *, failed: bool = False) -> None:
        """Remove it; one that has `failed` can be run again."""
        path = f"held/{task_number(task) // SHARD:04d}/{task}"
        if failed:
            self.keep_failed(path, task)
        self.remove(path)

    def keep_failed(self, source: str, task: str) -> None:
        """A call that stands there has failed: have it stay, for whoever wants to run it again."""
        folder = f"failed/{task_number(task) // SHARD:04d}"
        with contextlib.suppress(OSError):  # no room, or no links on this filesystem: then it cannot be run again
            self.make_folder(folder)
            os.link(source, f"{folder}/{task}", src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def drop_failed(self, number: int, tries: int) -> None:
        """A task has succeeded after that many tries."""
        folder = f"failed/{number // SHARD:04d}"
        for attempt in range(tries):
            self.remove(f"{folder}/{task_name(number, attempt)}")

    def failed_calls(self) -> dict[int, str]:
        """The calls that have failed and can be run again: the number of each task -> the path of its last try."""
        found: dict[int, str] = {}
        for shard in sorted(self.names("failed")):
            for name in sorted(self.names(f"failed/{shard}"), key=lambda name: (task_number(name), task_attempt(name))):
                found[task_number(name)] = f"failed/{shard}/{name}"
        return found

    def keep(self, name: str, data: Buffer) -> dict[str, Any]:
        """Move an outcome out of the inbox to where it stays until the run is closed; returns where, for the journal.

        Small ones go into one file together: a run has to leave few files, however many tasks it had.
        """
        if len(data) > PACKED:
            folder = f"packs/{task_number(name) // SHARD:04d}"
            self.make_folder(folder)
            self.move(f"inbox/{name}", f"{folder}/{name}")
            return {"file": f"{folder}/{name}"}
        with self._pack_lock:
            try:
                return self._pack_up(data)
            except OSError as error:  # it may have taken a part, so that the next one would not stand where it is said to
                if self._pack >= 0:
                    os.close(self._pack)
                self._pack, self._pack_number = -1, self._pack_number + 1
                raise self.error("cannot be written (packs)", error) from error

    def hand_out(self) -> None:
        """Have other machines see all that was packed: over NFS, what is written is there once the file is closed."""
        with self._pack_lock:
            pack, self._pack = self._pack, -1
            try:
                if pack >= 0:
                    os.close(pack)
            except OSError as error:
                self._pack_number += 1
                raise self.error("cannot be written (packs)", error) from error

    def _pack_up(self, data: Buffer) -> dict[str, Any]:
        if self._pack >= 0 and self._pack_size > _PACK_SIZE:
            os.close(self._pack)
            self._pack, self._pack_number = -1, self._pack_number + 1
        if self._pack < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | FLAGS
            self._pack = os.open(f"packs/{self._pack_number}.pack", flags, 0o600, dir_fd=self._fd)
            self._pack_size = os.fstat(self._pack).st_size
        place = {"file": f"packs/{self._pack_number}.pack", "at": self._pack_size, "size": len(data)}
        write_all(self._pack, [data])
        self._pack_size += len(data)
        return place
