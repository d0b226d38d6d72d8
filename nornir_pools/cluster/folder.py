"""A private folder on a shared filesystem: opened once, checked, and reached through that descriptor from then on."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from ..errors import SpoolError
from ..message import Buffer

__all__ = ["FLAGS", "FULL", "PASSING", "Folder", "read_part", "tried_again", "write_all"]

FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW if hasattr(os, "O_NOFOLLOW") else 0
PASSING = frozenset({errno.ESTALE, errno.EIO, errno.ETIMEDOUT})  # what a shared filesystem says in a bad moment
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_Where = TypeVar("_Where", bound="Folder")
_Given = ParamSpec("_Given")
_Gives = TypeVar("_Gives")


def tried_again(
    operation: Callable[Concatenate[_Where, _Given], _Gives],
) -> Callable[Concatenate[_Where, _Given], _Gives]:
    """Have an operation of a folder tried again for a while if it fails in a way that may pass."""

    @functools.wraps(operation)
    def persist(self: _Where, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Gives:
        until, pause = None, 0.01
        while True:
            try:
                return operation(self, *args, **kwargs)
            except OSError as error:
                until = until or time.monotonic() + self.patience
                if error.errno not in self.passing or time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    return persist


class Folder:
    """A folder of this user's that nobody else can reach. Paths in its methods are relative to it."""

    passing = PASSING
    """The errors after which an operation is tried again."""
    patience = 5.0
    """For how many seconds."""

    def __init__(self, path: Path) -> None:
        """Open a run's folder. Raises SpoolError if it is missing, not this user's, or open to others."""
        self.path = path
        try:
            self._fd = self._open()
        except OSError as error:
            raise self.error("cannot be opened", error) from error
        status = os.fstat(self._fd)
        # What lies in here is unpickled, so nobody else may have been able to write it.
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            os.close(self._fd)
            self._fd = -1
            raise SpoolError(
                f"the run's folder {path} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}; "
                f"it must be this user's ({os.geteuid()}) with mode 700, since what it holds will be run",
                folder=str(path),
            )
        self._counter = itertools.count()

    @tried_again
    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | FLAGS)

    def close(self) -> None:
        """Let the folder go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, name: str, parts: Sequence[Buffer], who: str) -> None:
        """Write a file so that it is complete or absent. Raises SpoolError (disk full, quota, folder gone)."""
        folder = name.rpartition("/")[0]
        draft = self.draft(folder, parts, who)
        try:
            self._rename(draft, name)
        except OSError as error:
            # Over NFS a rename that is asked for twice, since no answer came, is told the second time that there is no such
            # file. (A folder that holds a draft is not removed for being empty.)
            if isinstance(error, FileNotFoundError) and self.has(folder or "."):
                return
            self.forget(draft)
            raise self.error(f"cannot be written ({name})", error) from error

    @tried_again
    def draft(self, folder: str, parts: Sequence[Buffer], who: str) -> str:
        """Write a file whose name begins with a dot, which nobody looks at; returns its path for a rename.

        It stands in the folder where it will be renamed: a rename from one folder to another would wait for all others
        of the whole filesystem.
        """
        draft = os.path.join(folder, f".{who}.{os.getpid()}.{next(self._counter)}")
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o600, dir_fd=self._fd)
            try:
                write_all(fd, parts)
            finally:
                os.close(fd)  # a full quota may show only here
        except OSError as error:
            self.forget(draft)
            raise self.error("cannot be written", error) from error
        return draft

    def forget(self, draft: str) -> None:
        """Remove a file that nobody looks at, if that can be done."""
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=self._fd)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytearray:
        """The content, or a part of it, of a file that a listing has shown."""
        return self.read_dated(name, start, size)[0]

    @tried_again
    def read_dated(
        self, name: str, start: int = 0, size: int | None = None, most: int | None = None
    ) -> tuple[bytearray, float]:
        """The content of a file (at `most` so much), and when it got its name, in seconds since the epoch by the file
        server's clock.

        (That is when its inode was changed last, since nothing happens to a file of the protocol after its rename.)
        """
        fd = os.open(name, os.O_RDONLY | FLAGS, dir_fd=self._fd)
        try:
            return read_part(fd, start, size, most), os.fstat(fd).st_ctime
        finally:
            os.close(fd)

    def size(self, name: str) -> int:
        """How many bytes a file has that a listing has shown."""
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_size

    @property
    def fd(self) -> int:
        """The descriptor that paths are relative to."""
        return self._fd

    def clock(self) -> float:
        """The file server's clock, in seconds since the epoch."""
        draft = self.draft("", [], f"clock.{os.urandom(4).hex()}")
        try:
            return os.stat(draft, dir_fd=self._fd, follow_symlinks=False).st_mtime
        finally:
            self.forget(draft)

    @tried_again
    def open_file(self, name: str) -> int:
        """A descriptor for reading a file."""
        return os.open(name, os.O_RDONLY | FLAGS, dir_fd=self._fd)

    @tried_again
    def names(self, folder: str, *, optional: bool = True, drafts: bool = False) -> list[str]:
        """The names in a folder, asked anew (over NFS, opening a folder is what has its content checked).

        None in a folder that is not there, unless it has to be: then that is a SpoolError. With `drafts` only the names that
        begin with a dot, which are else nobody's business.
        """
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | FLAGS, dir_fd=self._fd)
        except FileNotFoundError as error:
            if optional:
                return []
            raise self.error(f"has lost its folder {folder}: was it removed?", error) from error
        try:
            return [name for name in os.listdir(fd) if (name[0] == ".") is drafts]
        finally:
            os.close(fd)

    @tried_again
    def make_folder(self, name: str) -> None:
        """Make a folder, with its parents, if it is not there."""
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            try:
                os.mkdir("/".join(parts[:depth]), 0o700, dir_fd=self._fd)
            except FileExistsError:
                continue
            except OSError as error:
                raise self.error("cannot be written", error) from error

    def move(self, source: str, target: str) -> bool:
        """Rename; returns whether the source was there."""
        try:
            self._rename(source, target)
        except FileNotFoundError:
            return False
        return True

    @tried_again
    def _rename(self, source: str, target: str) -> None:
        os.rename(source, target, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def has(self, name: str) -> bool:
        """Whether there is a file or folder of that name. To be asked only about what will not be made any more: over NFS a
        name that was looked for too early stays invisible for up to a minute."""
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    @tried_again
    def remove_folder(self, name: str) -> bool:
        """Remove a folder if it is empty; returns whether it is gone."""
        try:
            os.rmdir(name, dir_fd=self._fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    @tried_again
    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def error(self, what: str, error: OSError) -> SpoolError:
        """What to raise for an error of the system."""
        words = f"the run's folder {self.path} {what}: {error.strerror}"
        if error.errno in FULL and self._has_only_room_for_data():
            words += " for another file: all inodes are used (df -i), though there is room for data"
        return SpoolError(words, folder=str(self.path), errno=error.errno)

    def _has_only_room_for_data(self) -> bool:
        with contextlib.suppress(OSError):
            disk = os.fstatvfs(self._fd)
            return disk.f_files > 0 and disk.f_favail == 0 and disk.f_bavail > 0
        return False


def read_part(fd: int, start: int, size: int | None, most: int | None = None) -> bytearray:
    """So many bytes of a file from there on, all of them if no size is given, or as many as there are."""
    size = os.fstat(fd).st_size - start if size is None else size
    data = bytearray(size if most is None else min(size, most))
    with memoryview(data) as view:
        position = 0
        while position < len(data) and (count := os.preadv(fd, [view[position:]], start + position)):
            position += count
    del data[position:]
    return data


def write_all(fd: int, parts: Sequence[Buffer]) -> None:
    """Write all parts, by one system call if the system takes them."""
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    while views:
        written = os.writev(fd, views[:512])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
