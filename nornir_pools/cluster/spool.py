"""The run's folder: the protocol between a pool and its workers. The only module that knows a path in there.

::

    run.json                        what the run is
    initializer                     a call: what each process makes before its first task, if run.json tells of it
    journal.jsonl, holder, lock     what the pool did, an object a line; which process holds the run (lease.py)
    shared/DIGEST                   contexts, and values that many tasks use, each once
    held/SHARD/TASK                 a call that waits for the values of others
    todo/GROUP/SHARD/TASK           a waiting call; TASK is number.try, a shard holds 1,000 numbers, a group shares options
    todo/GROUP/WORD                 words to workers: stop, quit.WORKER, end.WORKER, longest.SECONDS, avoid.NODE, crowd.WORKERS
    claimed/WORKER/TASK             a call that this worker has taken
    inbox/TASK.WORKER               an outcome
    inbox/TASK.WORKER~              a failure that may be the node's: the call stays claimed, until the pool decides
    inbox/TASK.WORKER?              so may this, and the worker had no second task to compare it with
    inbox/+WORKER.N.WORD            a worker's word: up, idle, left
    packs/N                         outcomes that were collected
    failed/SHARD/TASK               calls that have failed, to be run again if somebody asks for it
    jobs/                           sbatch scripts and logs

A task moves by rename: todo → claimed → (outcome) inbox. One that is held back is written anew into todo, with the places of
the values it gets. Two rules hold everywhere. A file is complete or absent: it is written under a name with a dot, which nobody
looks at, and renamed. And no path is opened before a listing has shown it (over NFS it might stay invisible for a minute).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import SpoolError
from ..message import Buffer
from .folder import FULL
from .names import SHARD, log_name, task_attempt, task_name, task_number
from .packs import Packs

__all__ = ["FORMAT", "HANDED_BACK", "IN_DOUBT", "Spool", "task_attempt", "task_name", "task_number"]

FORMAT = 2
HANDED_BACK, IN_DOUBT = "~", "?"  # at the end of an outcome's name
_FOLDERS = ("shared", "todo", "claimed", "inbox", "packs", "jobs")
_CALL, _DELIVERED = re.compile(r"\d+\.\d+$"), re.compile(r"\+.+\.\d+\.[a-z]+$|\d+\.\d+\..")  # and nothing of others
_ASIDE, _SEIZED = ".withdrawn.", ".seized."


class Spool(Packs):
    """One run's folder, seen from the pool's side and from a worker's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.keep_results = False  # when the run is closed, for a script that resumes it
        self._made: set[str] = set()  # shards

    @classmethod
    def create(cls, path: Path) -> Spool:
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
        return cls(path)

    def resume(self) -> None:
        """Go on where another process has stopped, or has closed the run."""
        for name in _FOLDERS:
            self.make_folder(name)
        for group in self.names("todo"):
            for word in self.offers(int(group))[1]:  # what the process before has told its workers need not hold any more
                self.remove(f"todo/{group}/{word}")
        super().resume()

    def describe(self, facts: dict[str, Any]) -> None:
        """Write down what the run is: plain data, for its workers and for whoever finds it."""
        self.write("run.json", [json.dumps({"format": FORMAT, **facts}, indent=1, default=str).encode()], who="pool")

    # --- the pool's side

    def log_path(self, name: str) -> str:
        """The path of a job's log. (It is opened by a scheduler that does not know how its cluster is called here.)"""
        return str(self.path / "jobs" / re.sub("@[^+.]*", "", name))

    def log_path_of(self, facts: dict[str, Any]) -> str:
        """Where this process finds the log that a worker has named; "" if it named none."""
        log = facts.get("log")
        return self.log_path(log_name(log, self.path.name)) if log else ""  # (a path stays what it is)

    def publish(self, group: int, task: str, parts: Sequence[Buffer]) -> None:
        """Let workers of the group see a call. (A task is registered and journalled before it can be claimed.)"""
        folder = self._shard(group, task)
        while True:
            if folder not in self._made:
                self.make_folder(folder)
                self._made.add(folder)
            try:
                return self.write(f"{folder}/{task}", parts, "pool")
            except SpoolError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                self._made.discard(folder)  # it was empty, so it was removed, and may be again before the call is in it

    def withdraw(self, group: int, task: str) -> bool:
        """Take a call back; returns False if a worker has it. It is the claim of a worker, made by the pool.

        True as well if it lies aside already: whoever takes its task out of the ledger owns it.
        It lies aside until `drop` removes it: if this process dies before it has journalled why, the task waits again.
        """
        aside = f"{_ASIDE}{task}"
        moved = self.move(f"{self._shard(group, task)}/{task}", f"todo/{group}/{aside}")
        return moved or aside in self.names(f"todo/{group}", drafts=True)  # (see try_again)

    def waits(self, group: int, task: str) -> bool:
        """Whether a call stands where workers look for calls."""
        return task in self.names(self._shard(group, task))

    def drop(self, group: int, task: str, *, failed: bool = False) -> None:
        """Remove a call that was withdrawn; one that has `failed` can be run again."""
        if failed:
            self.keep_failed(f"todo/{group}/{_ASIDE}{task}", task)
        self.remove(f"todo/{group}/{_ASIDE}{task}")

    def request(self, word: str, facts: dict[str, Any]) -> None:
        """Ask the holder of the run for something, among what workers tell it."""
        self.say(f"request-{os.urandom(16).hex()}", 1, word, facts)

    def withdrawn(self, group: int) -> list[str]:
        """The calls that lie aside."""
        names = self.names(f"todo/{group}", drafts=True)
        return [name.removeprefix(_ASIDE) for name in names if name.startswith(_ASIDE)]

    def restore(self, group: int, task: str) -> None:
        """Let a withdrawn call wait again."""
        self._put(f"todo/{group}/{_ASIDE}{task}", group, task)

    def inbox(self) -> list[str]:
        """What workers have delivered: outcomes and words, and nothing that somebody else has put there. Raises SpoolError."""
        return [name for name in self.names("inbox", optional=False) if _DELIVERED.match(name)]

    def unanswered(self) -> dict[str, str]:
        """Every call of the run whose outcome was not collected: its name -> the folder it is in (held/…, todo/… and so on).

        Listed in the order in which calls move, so that none is missed unless it is given back just then.
        """
        found: dict[str, str] = {}
        for shard in self.names("held"):
            found.update(dict.fromkeys(self.names(f"held/{shard}"), f"held/{shard}"))
        for group in self.names("todo"):
            for shard, tasks in self.offers(int(group))[0]:
                found.update(dict.fromkeys(tasks, f"todo/{group}/{shard}"))
        for worker in self.names("claimed"):
            found.update(dict.fromkeys(self.claims(worker), f"claimed/{worker}"))
        found.update(dict.fromkeys((".".join(name.split(".")[:2]) for name in self.answers()), "inbox"))
        return {name: folder for name, folder in found.items() if _CALL.match(name)}

    def drop_claim(self, worker: str, task: str) -> None:
        """A claimed call is over."""
        self.remove(f"claimed/{worker}/{task}")

    def sweep(self, group: int) -> None:
        """Remove empty shards: idle workers list each that is there."""
        for shard in self.names(f"todo/{group}"):
            if shard.isdigit():
                self.remove_folder(f"todo/{group}/{shard}")

    def tell_workers(self, group: int, word: str) -> None:
        """Leave a word for workers: "stop", "quit.WORKER" (both for when they find nothing to do), "longest.SECONDS", "crowd.N"
        (how many they are, roughly), "avoid.NODE" (for workers that have done nothing yet), or "end.WORKER" (for its crew)."""
        self.make_folder(f"todo/{group}")
        self.write(f"todo/{group}/{word}", [b""], who="pool")

    def discard(self, *, keep_logs: Collection[str], keep_values: Collection[str] = ()) -> None:
        """Remove what a closed run needs no more: all but its description, its journal, the calls that have failed with what
        they need, logs that are to be kept, and values, or if a script may resume it all outcomes."""
        import shutil  # no worker needs it

        failed = bool(self.failed_calls())
        for name in (*_FOLDERS, "held"):
            if (name == "shared" and failed) or (name == "packs" and self.keep_results):
                continue
            if name == "packs" and keep_values:
                for file in (*self.moved_outcomes(), *(f"packs/{pack}" for pack in self.names("packs"))):
                    if file not in keep_values and not file.removeprefix("packs/").isdigit():
                        self.remove(file)
                continue
            if name == "jobs" and keep_logs:
                for file in self.names("jobs"):
                    if file not in keep_logs:
                        self.remove(f"jobs/{file}")
                if self.names("jobs"):
                    continue
            shutil.rmtree(self.path / name, ignore_errors=True)
        if not failed:
            shutil.rmtree(self.path / "failed", ignore_errors=True)
            self.remove("initializer")

    # --- the worker's side

    def offers(self, group: int) -> tuple[Iterator[tuple[str, list[str]]], set[str]]:
        """What waits, as (shard, tasks) with the oldest first, listed as it is asked for; and the words left for workers."""
        names = self.names(f"todo/{group}")
        shards = sorted(name for name in names if name.isdigit())
        return self._list(group, shards), {name for name in names if not name.isdigit()}

    def _list(self, group: int, shards: list[str]) -> Iterator[tuple[str, list[str]]]:
        for shard in shards:
            tasks = sorted(self.names(f"todo/{group}/{shard}"))
            if tasks or shard == shards[-1]:
                yield shard, tasks
            else:  # new tasks come into the last one, and who looks for them need not list the others
                self.remove_folder(f"todo/{group}/{shard}")

    def claim(self, group: int, shard: str, task: str, worker: str) -> bool:
        """Take a call. The rename succeeds for one worker only; the others find it gone."""
        return self.move(f"todo/{group}/{shard}/{task}", f"claimed/{worker}/{task}")

    def claims(self, worker: str) -> list[str]:
        """The calls that a worker has taken and not answered."""
        return sorted(filter(_CALL.match, self.names(f"claimed/{worker}")))

    def give_back(self, group: int, task: str, worker: str) -> bool:
        """Let a claimed call wait again."""
        return self._put(f"claimed/{worker}/{task}", group, task)

    def try_again(self, worker: str, claim: str, group: int, task: str) -> bool:
        """Let a call that a dead worker had claimed wait again, under the name of its next try; False if it is not there."""
        # Over NFS a rename that is asked for twice, since no answer came, is told the second time that there is no such file.
        return self._put(f"claimed/{worker}/{claim}", group, task) or task in self.names(self._shard(group, task))

    def seize(self, worker: str, claim: str) -> bool:
        """Take a call away from a dead worker for good; False if it is not there."""
        folder, aside = f"claimed/{worker}", f"{_SEIZED}{claim}"
        return self.move(f"{folder}/{claim}", f"{folder}/{aside}") or aside in self.names(folder, drafts=True)

    def drop_seized(self, worker: str, claim: str) -> None:
        """Put a call that was seized away: the journal has its end."""
        self.keep_failed(f"claimed/{worker}/{_SEIZED}{claim}", claim)
        self.forget(f"claimed/{worker}/{_SEIZED}{claim}")

    def restore_seized(self) -> None:
        """Let calls that were seized be claims of their dead workers again: why they were is not in the journal."""
        for worker in self.names("claimed"):
            for name in self.names(f"claimed/{worker}", drafts=True):
                if name.startswith(_SEIZED):
                    self.move(f"claimed/{worker}/{name}", f"claimed/{worker}/{name.removeprefix(_SEIZED)}")

    def answers(self) -> set[str]:
        """The outcomes (TASK.WORKER) that the pool has not taken in, handed back or not."""
        return {name.rstrip(HANDED_BACK + IN_DOUBT) for name in filter(_DELIVERED.match, self.names("inbox")) if name[0] != "+"}

    def keep_failed_call(self, worker: str, task: str) -> None:
        """A claimed call has failed: it stays, beside its outcome, for whoever wants to run it again."""
        self.keep_failed(f"claimed/{worker}/{task}", task)

    def draft_outcome(self, parts: Sequence[Buffer], task: str, worker: str) -> str:
        """Write the outcome of a claimed call, to be delivered. If there is no room for it in the end, it is the call itself
        that is to be delivered: its rename needs no room, and the pool will understand."""
        try:
            return self.draft("inbox", parts, worker)
        except SpoolError as error:
            if error.errno not in FULL:
                raise
            return f"claimed/{worker}/{task}"

    def deliver(self, draft: str, task: str, worker: str, *, keep_claim: bool = False) -> None:
        """Publish the outcome of a claimed call; only then is the claim over (with `keep_claim`, the pool decides)."""
        self.move(draft, f"inbox/{task}.{worker}")  # the draft is gone if it was moved, and an error said it was not
        if not keep_claim:
            self.drop_claim(worker, task)

    def hand_back(self, draft: str, task: str, worker: str, mark: str) -> None:
        """Publish an outcome that may be the node's doing: the pool decides whether it counts or the call is tried again."""
        self.move(draft, f"inbox/{task}.{worker}{mark}")

    def say(self, worker: str, number: int, word: str, facts: dict[str, Any]) -> None:
        """Tell the pool about this worker; `number` orders its words."""
        self.write(f"inbox/+{worker}.{number}.{word}", [json.dumps(facts).encode()], who=worker)

    def _put(self, source: str, group: int, task: str) -> bool:
        """Move a call to where calls wait; False if it is not there."""
        folder = self._shard(group, task)
        while True:
            self.make_folder(folder)
            if self.move(source, f"{folder}/{task}"):
                return True
            if folder.rpartition("/")[2] in self.names(f"todo/{group}"):
                return False  # else a worker has found the folder empty, and removed it just then

    def _shard(self, group: int, task: str) -> str:
        return f"todo/{group}/{task_number(task) // SHARD:04d}"
