"""What a run's journal tells: its tasks and jobs as the last process that held the run knew them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import errors
from ..errors import PoolError
from .names import log_name, post_of
from .spool import Spool, task_attempt, task_number

__all__ = ["History", "PastJob", "PastTask", "Sending", "error_of", "latest", "read_history", "told", "values_of_failures"]

# What the journal tells of a task that is done, beside where its outcome is kept: that goes when the run is closed.
_TOLD = ("ok", "job", "host", "started", "finished", "log_start", "log_end", "cpu", "memory", "status", "last", "error")
_LONGEST_ERROR = 2000  # characters


@dataclass
class PastTask:
    """A task of the run. At most one of `outcome`, `error` and `cancelled` says how it ended."""

    number: int
    name: str
    group: int
    command: Any = None
    """The command of a command task."""
    attempt: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    tries: list[str] = field(default_factory=list)
    outcome: dict[str, Any] | None = None
    """Where its outcome is kept."""
    error: dict[str, Any] | None = None
    """With what it was given up."""
    cancelled: bool = False
    cut: bool = False
    """Its script died while it was being added."""
    parents: tuple[Sequence[int | str], Sequence[int | str]] = ((), ())
    """What it was given the values of, and what it came after: numbers, or names of what was not this run's."""
    added: float = 0.0
    """In seconds since the epoch."""
    ended: float = 0.0
    """When it was given up or cancelled."""
    key: str = ""
    """What a script that is run again knows it by."""
    place: int = 0
    """The number of the first task that this one was run instead of, if it has the same key: its own, else."""
    superseded: bool = False
    """Another was run instead."""
    why: str = ""
    """Why it was run though there was an earlier one."""
    reused: float = 0.0
    """When a script that was run again has last taken its outcome."""

    @property
    def over(self) -> bool:
        return self.outcome is not None or self.error is not None or self.cancelled


@dataclass
class PastJob:
    """A job that had not ended, as far as the journal goes; or one worker of a job that has several."""

    id: str
    group: int
    since: float
    """When it was sent, in seconds since the epoch."""
    workers: list[str] = field(default_factory=list)
    up_since: float = 0.0
    """When its worker was up; 0 if it is not, or not any more."""
    word: str = ""
    """What its worker said last: up, idle, left."""
    reason: str = ""
    host: str = ""
    node: str = ""
    log: str = ""
    pid: int = 0
    born: str = ""
    at_once: int = 0
    """How many workers its job has, if they are known one by one."""
    cpus: float = 0.0
    """That the scheduler has set aside for its worker, if it has told."""


@dataclass
class Sending:
    """A submission; `answered`: its jobs are known, or it was refused."""

    name: str
    group: int
    count: int
    answered: bool = False


@dataclass
class History:
    """All of it."""

    groups: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The options of each group of tasks, as `Options.plain` gives them."""
    tasks: dict[int, PastTask] = field(default_factory=dict)
    jobs: dict[str, PastJob] = field(default_factory=dict)
    sendings: dict[str, Sending] = field(default_factory=dict)
    closed: bool = False
    set_aside: dict[int, float] = field(default_factory=dict)
    """CPUs that SLURM has set aside for a worker, by group, as the last one has told."""
    used: dict[tuple[int, float], float] = field(default_factory=lambda: defaultdict(float))
    """Seconds that workers were up which are not any more, by group and the CPUs they had (0: they have not told)."""

    def _note_group(self, entry: dict[str, Any]) -> None:
        self.groups[entry["n"]] = entry["options"]

    def _note_task(self, entry: dict[str, Any]) -> None:
        number, key, instead = entry["n"], entry.get("key", ""), self.tasks.get(entry.get("instead", 0))
        task = PastTask(number, entry["name"], entry["group"], entry.get("command"), added=entry.get("time", 0.0), key=key)
        task.place, task.why = number, entry.get("why", "")
        if "parents" in entry:
            task.parents = (entry["parents"][0], entry["parents"][1])
        if instead is not None:
            instead.superseded = True
            task.place = instead.place if instead.key == key else number
        self.tasks[number] = task

    def _note_reused(self, entry: dict[str, Any]) -> None:
        self.tasks[entry["n"]].reused = entry["time"]

    def _note_again(self, entry: dict[str, Any]) -> None:
        task = self.tasks[entry["n"]]
        task.attempt, task.group = task_attempt(entry["file"]), entry["group"]
        task.retried[entry["cause"]] += 1
        task.tries.append(entry["history"])

    def _note_done(self, entry: dict[str, Any]) -> None:
        self.tasks[entry["n"]].outcome = entry

    def _note_given_up(self, entry: dict[str, Any]) -> None:
        self.tasks[entry["n"]].error = entry
        self.tasks[entry["n"]].ended = entry.get("time", 0.0)

    def _note_cancelled(self, entry: dict[str, Any]) -> None:
        self.tasks[entry["n"]].cancelled = True
        self.tasks[entry["n"]].ended = entry.get("time", 0.0)

    def _note_sending(self, entry: dict[str, Any]) -> None:
        self.sendings[entry["name"]] = Sending(entry["name"], entry["group"], entry["count"])

    def _note_refused(self, entry: dict[str, Any]) -> None:
        self.sendings[entry["name"]].answered = True

    def _note_jobs(self, entry: dict[str, Any]) -> None:
        self.sendings[entry["name"]].answered = True
        for job in entry["ids"]:
            self._job(job, entry)

    def _job(self, job: str, entry: dict[str, Any]) -> PastJob:
        return self.jobs.setdefault(job, PastJob(job, entry["group"], entry["time"]))

    def _note_word(self, entry: dict[str, Any]) -> None:
        job = self._job(post_of(entry["worker"]), entry)
        job.word, job.host, job.node = entry["t"], entry["host"], entry["node"]
        self._note_time(job, entry)
        job.log, job.reason = entry["log"], entry.get("reason") or ""
        if entry["worker"] not in job.workers:
            job.workers.append(entry["worker"])
        if entry.get("cpus"):
            self.set_aside[job.group] = entry["cpus"]
        job.pid, job.born, job.at_once = entry["pid"], entry["born"], entry.get("at_once") or 0

    _note_up = _note_idle = _note_left = _note_word

    def _note_time(self, job: PastJob, entry: dict[str, Any]) -> None:
        if entry["t"] != "idle":
            at = entry.get("at", entry["time"])
            if job.up_since:
                self.used[job.group, job.cpus] += max(0.0, at - job.up_since)
            job.up_since = at if entry["t"] == "up" else 0.0
            job.cpus = entry.get("cpus") or 0.0

    def _note_ended(self, entry: dict[str, Any]) -> None:
        job = self.jobs.pop(entry["job"], None)
        if job is not None:
            self._note_time(job, entry)

    def _note_closed(self, entry: dict[str, Any]) -> None:
        self.closed = True
        self.jobs.clear()
        for sending in self.sendings.values():
            sending.answered = True

    def _note_resumed(self, entry: dict[str, Any]) -> None:
        self.closed = False


def read_history(spool: Spool) -> History:
    """The history of a run, from its journal. Lines that a process had not written whole when it died do not count."""
    history = History()
    for line in spool.journal().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        note = getattr(history, f"_note_{entry['t'].replace(' ', '_')}", None)
        if note is not None:
            note(entry)
    return history


def values_of_failures(spool: Spool) -> set[str]:
    """The files with the values that tasks which have failed, and can be run again, were given as arguments."""
    failed = spool.failed_calls()
    tasks = read_history(spool).tasks if failed else {}
    parents = (tasks[word] for number in failed for word in tasks[number].parents[0] if isinstance(word, int) and word in tasks)
    return {past.outcome["file"] for past in parents if past.outcome is not None and past.outcome["ok"]}


def told(facts: dict[str, Any], spool: Spool) -> dict[str, Any]:
    """What the journal of that run is to tell of an outcome with these facts."""
    known = {name: facts[name] for name in _TOLD if name in facts}
    if "error" in known:
        known["error"] = known["error"][:_LONGEST_ERROR]
    if facts.get("log"):
        known["log"] = log_name(facts["log"], spool.path.name)
    return known


def error_of(entry: dict[str, Any]) -> PoolError:
    """The error that a task was given up with."""
    kind = getattr(errors, entry["kind"])
    error: PoolError = kind(entry["error"], **entry["parts"])
    return error


def latest(found: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """Where each task stands, as (folder, name); of several tries the last. `found` is what `Spool.unanswered` gives."""
    names = sorted(found, key=lambda name: (task_number(name), task_attempt(name)))
    return {task_number(name): (found[name], name) for name in names}
