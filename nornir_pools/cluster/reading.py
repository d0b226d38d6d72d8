"""Reading a run from its journal and its folder, whoever holds it. Looking changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import message
from .history import History, PastJob, PastTask, read_history, told
from .names import job_of, log_file, log_name, post_of, word_order
from .packs import PACKED
from .places import find_run, look_at
from .spool import HANDED_BACK, IN_DOUBT, Spool, task_number
from .views import JobView, RunView, TaskView

__all__ = ["view_run"]


def view_run(run: str | os.PathLike[str]) -> RunView:
    """What is known of a run. Raises RunNotFoundError if there is none, SpoolError if its folder cannot be read."""
    path = find_run(run)
    info = look_at(path)
    spool = Spool(path)
    try:
        # In the order in which calls move, so that none is missed; what the journal says of a task, read last, counts.
        held = {task_number(name) for shard in spool.names("held") for name in spool.names(f"held/{shard}")}
        claimed = {claim: worker for worker in spool.names("claimed") for claim in spool.claims(worker)}
        started = {claim: _changed(spool, f"claimed/{worker}/{claim}") for claim, worker in claimed.items()}
        inbox = spool.inbox() if "inbox" in spool.names(".") else []
        answers = {task_number(name): facts for name in inbox if name[0] != "+" and (facts := _answer(spool, name))}
        said = sorted((name for name in inbox if name[0] == "+"), key=word_order)
        words = [word for name in said if (word := _word(spool, name))]
        facts = json.loads(spool.read("run.json"))
        history = read_history(spool)
    finally:
        spool.close()
    for word in words:
        if word["t"] in ("up", "idle", "left") and word["group"] in history.groups:
            history._note_word({**word, "time": 0.0})
    waits_for = {number: _parents(history, answers, number) for number in held if number in history.tasks}
    running = {task_number(claim): (worker, started[claim]) for claim, worker in claimed.items()}
    ends: Counter[str] = Counter()
    for past in history.tasks.values():
        for entry in (past.outcome, answers.get(past.number)):
            if entry is not None and "log" in entry:
                ends[entry["log"]] = max(ends[entry["log"]], entry.get("log_end", 0))
    tasks = [
        _task(path, history, past, answers.get(past.number), running.get(past.number), ends, waits_for.get(past.number, ()))
        for past in _in_order(history)
    ]
    live = [] if history.closed else [job for job in history.jobs.values() if job.word != "left"]
    unanswered = [] if history.closed else [name for name, sending in history.sendings.items() if not sending.answered]
    processes = {job_of(job.id): (job.pid, job.born) for job in history.jobs.values() if job.pid and job.word != "left"}
    mates = {job.workers[-1]: job.group for job in live if job.at_once}
    return RunView(
        info,
        tuple(tasks),
        tuple(_jobs(history, live)),
        facts["executor"],
        facts["host"],
        facts.get("array", ""),
        tuple(unanswered),
        mates,
        processes,
    )


def _in_order(history: History) -> Iterable[PastTask]:
    return (history.tasks[number] for number in sorted(history.tasks) if not history.tasks[number].superseded)


def _jobs(history: History, live: Iterable[PastJob]) -> Iterable[JobView]:
    """The jobs that have not ended: one whose workers are known one by one is as the busiest of these."""
    found: dict[str, PastJob] = {}
    for job in live:
        other = found.setdefault(job_of(job.id), job)
        if other.word != "up":
            found[job_of(job.id)] = job
    for name, job in found.items():
        options = history.groups[job.group]["job"]
        yield JobView(name, job.word or "sent", job.since, job.host or job.node, job.log, options)


def _task(
    path: Path,
    history: History,
    past: PastTask,
    answer: dict[str, Any] | None,
    claim: tuple[str, float | None] | None,
    ends: Mapping[str, int],
    waits_for: tuple[int | str, ...],
) -> TaskView:
    known: dict[str, Any] = {
        "number": past.number,
        "name": past.name,
        "command": past.command,
        "added": past.added or None,
        "tries": tuple(past.tries),
        "again": past.why,
        "reused": past.reused or None,
        "options": history.groups[past.group]["job"] if past.group in history.groups else {},
        "set_aside": history.set_aside.get(past.group),
    }
    if past.cancelled or (history.closed and not past.over):  # (closed by Ctrl-C: what was left is cancelled)
        return TaskView(state="cancelled", finished=past.ended or None, **known)
    if past.error is not None:
        return TaskView(state="failed", finished=past.ended, **_of_error(path, past.error), **known)
    done = past.outcome or answer
    if done is not None:
        return TaskView(
            state="succeeded" if done["ok"] and not done.get("status") else "failed", **_of_outcome(path, done), **known
        )
    if claim is not None:
        post = post_of(claim[0])
        there = history.jobs.get(post)
        log = log_name(there.log, path.name) if there and there.log else log_file(post)
        return TaskView(
            state="running",
            job=job_of(post),
            node=there.host if there else "",
            started=claim[1],
            log=str(path / "jobs" / log),
            log_start=ends.get(log, 0),
            **known,
        )
    return TaskView(state="waiting", waits_for=waits_for, **known)


def _parents(history: History, answers: Mapping[int, Any], number: int) -> tuple[int | str, ...]:
    """The parents that a task waits for."""
    parents = dict.fromkeys(word for some in history.tasks[number].parents for word in some)
    over = {past.number for past in history.tasks.values() if past.over or past.superseded}
    return tuple(word for word in parents if word not in over and word not in answers)


def _of_outcome(path: Path, done: Mapping[str, Any]) -> dict[str, Any]:
    log = str(path / "jobs" / done["log"]) if done.get("log") else ""
    same = {name: done[name] for name in ("job", "started", "finished", "status", "cpu", "memory", "log_end") if name in done}
    error = done.get("error", "")
    if not error and done.get("status"):
        error = f"exit status {done['status']}"
    return {
        **same,
        "node": done.get("host", ""),
        "error": error,
        "cause": error.partition(":")[0] if "cpu" not in done and error else "",  # its process has died: nothing was measured
        "last": done.get("last", ""),
        "log": log,
        "log_start": done.get("log_start", 0),
    }


def _of_error(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    parts = entry["parts"]
    log = parts.get("log", "")
    return {
        "error": entry["error"],
        "cause": entry["kind"],
        "job": parts.get("job_id", ""),
        "log": str(path / "jobs" / log_name(log, path.name)) if log else "",
        "memory": parts.get("memory") or None,
    }


def _answer(spool: Spool, name: str) -> dict[str, Any] | None:
    """The facts of an outcome that the holder has not taken in yet; none if it may not count."""
    if name.endswith((HANDED_BACK, IN_DOUBT)):
        return None
    with contextlib.suppress(OSError, ValueError):
        header = _header(spool, f"inbox/{name}")
        if "ok" in header:
            return told(header, spool)
    return None


def _header(spool: Spool, path: str) -> dict[str, Any]:
    """That of an outcome of any size, most of which is not read."""
    try:
        return message.read_header(spool.read_dated(path, most=PACKED)[0])
    except ValueError:  # it is longer
        return message.read_header(spool.read(path))


def _word(spool: Spool, name: str) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(spool.read(f"inbox/{name}"))
        return {"reason": "", "log": "", "node": "", **facts, "t": name.rpartition(".")[2]}
    return None


def _changed(spool: Spool, name: str) -> float | None:
    """When a file got its name."""
    with contextlib.suppress(OSError):
        return os.stat(name, dir_fd=spool.fd, follow_symlinks=False).st_ctime
    return None
