"""Who holds a run: the one process that completes its tasks, sends its jobs, and writes its journal.

The file ``holder`` says which process that is, and its time of last change, which the file server sets, that it is alive:
the holder renews it every few seconds. Whether a process of this machine is alive is looked up instead. Beside it the
holder has a lock on the file ``lock``, where the filesystem has working locks: it keeps a run from being taken over from a
holder that only cannot write.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

from ..deaths import is_alive, process_born
from ..errors import RunBusyError, SpoolError
from .folder import FLAGS, Folder

__all__ = ["Holder", "Lease", "holder_of"]

RENEWED = 10.0  # seconds between two renewals
# Seconds after which a holder on another machine, not having renewed it, counts as dead. By then this machine sees all that
# the dead process wrote: NFS caches live for up to a minute.
STALE = 75.0
TAKING = 0.3  # seconds in which another process takes a run


class Lease:
    """This process's hold on one run."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._token = uuid.uuid4().hex
        self._lock: Any = None
        self._renewed = 0.0
        self._held = False

    def take(self) -> None:
        """Become the holder. Raises RunBusyError if another process is, naming it."""
        holder = holder_of(self._folder)
        if holder is not None:
            if holder.live:
                raise holder.busy()
            self._take_lock(holder)
            self._remove_stale(holder)
        else:
            self._take_lock(None)
        try:
            self._publish()
        except FileExistsError:
            self.release()
            raise _changing(self._folder) from None
        self._held = True
        self._renewed = time.monotonic()

    def _take_lock(self, holder: Holder | None) -> None:
        import filelock  # 20 ms, for cluster pools only

        lock = filelock.FileLock(self._folder.path / "lock", timeout=0, mode=0o600, thread_local=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is no flock here: then the lease alone has to do
                lock.acquire()
        except (filelock.Timeout, NotImplementedError, OSError):
            # Where nobody holds a run and the lock cannot be had, locks do not work.
            if holder is not None:
                self._ask_who_has_the_lock(holder)
            return
        if isinstance(lock, filelock.SoftFileLock):  # a file that would outlive us: worth no more than the lease
            lock.release()
            return
        self._lock = lock

    def _ask_who_has_the_lock(self, holder: Holder) -> None:
        """The holder is dead, but not its lock. On this machine a child of it may have the open file, which means nothing."""
        if not holder.here:
            raise holder.busy()
        time.sleep(TAKING)  # or another process is taking the run at this moment: then it has by now
        now = holder_of(self._folder)
        if now is None or now.text != holder.text:
            raise _changing(self._folder)

    def _remove_stale(self, holder: Holder) -> None:
        """Take the dead holder's lease away: by rename, which succeeds for one process only."""
        aside = f".holder.{self._token}"
        if not self._folder.move("holder", aside):
            self.release()
            raise _changing(self._folder)
        if self._folder.read(aside) != holder.text:
            self._folder.move(aside, "holder")  # another process was faster, and this is its own
            self.release()
            raise _changing(self._folder)
        self._folder.remove(aside)

    def _publish(self) -> None:
        facts = {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "born": process_born(os.getpid()),
            "place": _place(),
            "since": time.time(),
            "token": self._token,
        }
        fd = os.open("holder", os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o600, dir_fd=self._folder.fd)
        try:
            os.write(fd, json.dumps(facts).encode())
        finally:
            os.close(fd)

    def renew(self) -> None:
        """Show that the holder is alive, if it is time. Raises RunBusyError if another process has taken the run over."""
        now = time.monotonic()
        if now - self._renewed < RENEWED:
            return
        try:
            fd = self._folder.open_file("holder")
        except OSError:  # that the folder is gone, or cannot be read for the moment, others will find out
            self._renewed = now
            return
        try:
            if self._token.encode() not in os.read(fd, 4096):
                self._held = False
                holder = holder_of(self._folder)
                raise holder.busy() if holder else _changing(self._folder)  # and so the next time
            os.utime(fd)  # to the file server's time; needs no room on the disk
            self._renewed = now
        finally:
            os.close(fd)

    def release(self) -> None:
        """Let the run go."""
        if self._held:
            self._held = False
            self._folder.remove("holder")
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            self._folder.remove("lock")


class Holder:
    """What a lease says about the process that holds, or held, a run. `age` is in seconds since it was renewed."""

    def __init__(self, run: Path, text: bytes, age: float) -> None:
        self.text = text
        try:
            self.facts: dict[str, Any] = json.loads(text)
        except ValueError:  # it is being written, or was when the machine went down
            self.facts = {}
        self._run = run
        self._age = age
        self.here = self.facts.get("place") == _place()

    @property
    def live(self) -> bool:
        """Whether it has to be taken for alive."""
        if self.here:
            return is_alive(self.facts["pid"], self.facts["born"])
        return self._age < STALE

    def __str__(self) -> str:
        return f"process {self.facts.get('pid')} on {self.facts.get('host')}"

    def busy(self) -> RunBusyError:
        """The error for whoever wants the run as well."""
        advice = (
            "wait for it, or end it first"
            if self.here
            else f"it gave a sign of life {self._age:.0f} s ago; if it is dead, try again in two minutes"
        )
        return RunBusyError(
            f"the run {self._run.name} is held by {self}: {advice}",
            run=str(self._run),
            host=self.facts.get("host", ""),
            pid=self.facts.get("pid", 0),
        )


def holder_of(folder: Folder) -> Holder | None:
    """Who holds the run in this folder, or held it last without letting it go; None if nobody does."""
    if "holder" not in folder.names("."):
        return None
    try:
        fd = folder.open_file("holder")
    except FileNotFoundError:  # it has just been let go
        return None
    try:
        text, changed = os.read(fd, 4096), os.fstat(fd).st_mtime
    finally:
        os.close(fd)
    return Holder(folder.path, text, _server_time(folder) - changed)


def _server_time(folder: Folder) -> float:
    """The time by the clock of the file server, which sets times of change."""
    try:
        return folder.clock()
    except SpoolError:  # no room, or a disk that can only be read: then by our own
        return time.time()


def _changing(folder: Folder) -> RunBusyError:
    return RunBusyError(f"the run {folder.path.name} is being taken by another process; look again", run=str(folder.path))


def _place() -> str:
    """Names the set of processes among which a process id means something: a boot of a machine, and a namespace in it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + "/" + os.readlink("/proc/self/ns/pid")
    except OSError:
        return os.uname().nodename
