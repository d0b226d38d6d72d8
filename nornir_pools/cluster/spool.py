"""The run's folder: the protocol between a pool and its workers. The only module that knows a path in there.

::

    run.json                        what the run is
    journal.jsonl                   what the pool did, one JSON object a line
    shared/DIGEST                   contexts, and values that many tasks use, each once
    todo/GROUP/SHARD/TASK           a waiting call; TASK is number.try, a shard holds 1,000 numbers, a group shares options
    todo/GROUP/WORD                 words to workers: stop, quit.WORKER, longest.SECONDS
    claimed/WORKER/TASK             a call that this worker has taken
    inbox/TASK.WORKER               an outcome
    inbox/+WORKER.N.WORD            a worker's word: up, idle, left
    packs/N                         outcomes that were collected
    jobs/                           sbatch scripts and logs

A task moves by rename: todo → claimed → (outcome) inbox. Two rules hold everywhere. A file is complete or absent: it is
written under a name with a dot, which nobody looks at, and then renamed. And no path is opened before a listing has
shown it: over NFS, a name that was looked for too early stays invisible for up to a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import SpoolError
from ..message import Buffer
from .folder import FLAGS, FULL, Folder, tried_again, write_all

__all__ = ["FORMAT", "Spool", "remove_old_runs", "task_name", "task_number"]

FORMAT = 1
_FOLDERS = ("shared", "todo", "claimed", "inbox", "packs", "jobs")
_PACKED = 1 << 16  # bytes: a larger outcome is a file of its own
_PACK_SIZE = 1 << 26  # bytes
_KEPT_DAYS = 14
_SHARD = 1000  # tasks: no folder may hold many more entries than that


class Spool(Folder):
    """One run's folder, seen from the pool's side and from a worker's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._made: set[str] = set()  # shards
        self._journal = self._pack = -1  # descriptors, opened when first needed
        self._torn = False  # the journal's last line may be a part of one
        self._pack_number = self._pack_size = 0

    @classmethod
    def create(cls, path: Path, facts: dict[str, Any]) -> Spool:
        """Make a run's folder, with its parents. Raises SpoolError that names the folder and what to do."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
            path.chmod(0o700)  # whatever the umask has taken away
            for name in _FOLDERS:
                (path / name).mkdir(mode=0o700)
        except OSError as error:
            raise SpoolError(
                f"the run's folder {path} cannot be made: {error.strerror}; "
                "set another place with the option folder= or NORNIR_POOLS_FOLDER",
                folder=str(path),
            ) from error
        spool = cls(path)
        spool.write("run.json", [json.dumps({"format": FORMAT, **facts}, indent=1).encode()], who="pool")
        return spool

    def close(self) -> None:
        """Let the folder go."""
        for fd in (self._journal, self._pack):
            if fd >= 0:
                os.close(fd)
        self._journal = self._pack = -1
        super().close()

    # --- the pool's side

    def note(self, **entry: Any) -> None:
        """Add a line to the journal: one write, so that it is there whole if this process dies the next moment."""
        self.note_all([entry])

    @tried_again
    def note_all(self, entries: Sequence[dict[str, Any]]) -> None:
        """Add lines to the journal by one write."""
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        try:
            if self._journal < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | FLAGS
                self._journal = os.open("journal.jsonl", flags, 0o600, dir_fd=self._fd)
            write_all(self._journal, [("\n" + text if self._torn else text).encode()])
        except OSError as error:
            self._torn = True  # a full disk takes half a line: the next one must not be lost with it
            raise self.error("cannot be written (journal.jsonl)", error) from error
        self._torn = False

    def log_path(self, name: str) -> str:
        """The path of a job's log."""
        return str(self.path / "jobs" / name)

    def publish(self, group: int, task: str, parts: Sequence[Buffer]) -> None:
        """Let workers of the group see a call. (A task is registered and journalled before it can be claimed.)"""
        folder = self._shard(group, task)
        if folder not in self._made:
            self.make_folder(folder)
            self._made.add(folder)
        try:
            self.write(f"{folder}/{task}", parts, "pool")
        except SpoolError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            self.make_folder(folder)  # it was empty, and `sweep` has removed it
            self.write(f"{folder}/{task}", parts, "pool")

    def withdraw(self, group: int, task: str) -> bool:
        """Take a call back; returns False if a worker has it. It is the claim of a worker, made by the pool."""
        draft = f"todo/{group}/.withdrawn.{task}"
        if not self.move(f"{self._shard(group, task)}/{task}", draft):
            return False
        self.remove(draft)
        return True

    def keep(self, name: str, data: Buffer) -> dict[str, Any]:
        """Move an outcome out of the inbox to where it stays until the run is closed; returns where, for the journal.

        Small ones go into one file together: a run has to leave few files, however many tasks it had.
        """
        if len(data) > _PACKED:
            folder = f"packs/{task_number(name) // _SHARD:04d}"
            self.make_folder(folder)
            self.move(f"inbox/{name}", f"{folder}/{name}")
            return {"file": f"{folder}/{name}"}
        try:
            return self._pack_up(data)
        except OSError as error:  # it may have taken a part, so that the next one would not stand where it is said to
            if self._pack >= 0:
                os.close(self._pack)
            self._pack, self._pack_number = -1, self._pack_number + 1
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

    def sweep(self, group: int) -> None:
        """Remove empty shards: idle workers list each that is there."""
        for shard in self.names(f"todo/{group}"):
            if shard.isdigit():
                self.remove_folder(f"todo/{group}/{shard}")

    def tell_workers(self, group: int, word: str) -> None:
        """Leave a word for workers: "stop", "quit.WORKER" (for when they find nothing to do), or "longest.SECONDS"."""
        self.make_folder(f"todo/{group}")
        self.write(f"todo/{group}/{word}", [b""], who="pool")

    def discard(self, *, keep_logs: Collection[str]) -> None:
        """Remove what a closed run needs no more: all but its description, its journal, and logs that are to be kept."""
        for name in _FOLDERS:
            if name == "jobs" and keep_logs:
                for file in self.names("jobs"):
                    if file not in keep_logs:
                        self.remove(f"jobs/{file}")
                if self.names("jobs"):
                    continue
            shutil.rmtree(self.path / name, ignore_errors=True)

    # --- the worker's side

    def offers(self, group: int) -> tuple[Iterator[tuple[str, list[str]]], set[str]]:
        """What waits, as (shard, tasks) with the oldest first, listed as it is asked for; and the words left for workers."""
        names = self.names(f"todo/{group}")
        shards = sorted(name for name in names if name.isdigit())
        listing = ((shard, sorted(self.names(f"todo/{group}/{shard}"))) for shard in shards)
        return listing, {name for name in names if not name.isdigit()}

    def claim(self, group: int, shard: str, task: str, worker: str) -> bool:
        """Take a call. The rename succeeds for one worker only; the others find it gone."""
        return self.move(f"todo/{group}/{shard}/{task}", f"claimed/{worker}/{task}")

    def claims(self, worker: str) -> list[str]:
        """The calls that a worker has taken and not answered."""
        return sorted(self.names(f"claimed/{worker}"))

    def give_back(self, group: int, task: str, worker: str) -> bool:
        """Let a claimed call wait again."""
        folder = self._shard(group, task)
        self.make_folder(folder)
        return self.move(f"claimed/{worker}/{task}", f"{folder}/{task}")

    def try_again(self, worker: str, claim: str, group: int, task: str) -> bool:
        """Let a call that a dead worker had claimed wait again, under the name of its next try; False if it is not there."""
        folder = self._shard(group, task)
        self.make_folder(folder)
        # Over NFS a rename that is asked for twice, since no answer came, is told the second time that there is no such file.
        return self.move(f"claimed/{worker}/{claim}", f"{folder}/{task}") or task in self.names(folder)

    def seize(self, worker: str, claim: str) -> bool:
        """Take a call away from a dead worker for good; False if it is not there."""
        aside = f".seized.{claim}"
        folder = f"claimed/{worker}"
        if not (self.move(f"{folder}/{claim}", f"{folder}/{aside}") or aside in self.names(folder, drafts=True)):
            return False
        self.forget(f"{folder}/{aside}")
        return True

    def draft_outcome(self, parts: Sequence[Buffer], task: str, worker: str) -> str:
        """Write the outcome of a claimed call, to be delivered. If there is no room for it in the end, it is the call itself
        that is to be delivered: its rename needs no room, and the pool will understand."""
        try:
            return self.draft("inbox", parts, worker)
        except SpoolError as error:
            if error.errno not in FULL:
                raise
            return f"claimed/{worker}/{task}"

    def deliver(self, draft: str, task: str, worker: str) -> None:
        """Publish the outcome of a claimed call; only then is the claim over."""
        self.move(draft, f"inbox/{task}.{worker}")  # the draft is gone if it was moved, and an error said it was not
        self.remove(f"claimed/{worker}/{task}")

    def say(self, worker: str, number: int, word: str, facts: dict[str, Any]) -> None:
        """Tell the pool about this worker; `number` orders its words."""
        self.write(f"inbox/+{worker}.{number}.{word}", [json.dumps(facts).encode()], who=worker)

    def _shard(self, group: int, task: str) -> str:
        return f"todo/{group}/{task_number(task) // _SHARD:04d}"


def remove_old_runs(folder: Path) -> None:
    """Remove runs that were closed more than 14 days ago: what is kept of a run is kept that long."""
    before = time.time() - _KEPT_DAYS * 86400
    for path in folder.iterdir():
        journal = path / "journal.jsonl"
        try:
            status = journal.lstat()
            if status.st_mtime < before and status.st_uid == os.geteuid() and _is_closed(journal):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # no run, or somebody else's
            continue


def _is_closed(journal: Path) -> bool:
    lines = journal.read_bytes().splitlines()
    return bool(lines) and json.loads(lines[-1]).get("t") == "closed"


def task_name(number: int, attempt: int = 0) -> str:
    """The name of a task's file. Number and try are both in it, so that no outcome replaces another."""
    return f"{number:07d}.{attempt}"


def task_number(task: str) -> int:
    """The number in a task's name (number.try)."""
    return int(task.split(".", 1)[0])
