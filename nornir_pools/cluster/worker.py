"""The worker: the program that a job runs, the same under SLURM, as a local fallback, and from a template.

One thread, and a child process forked from it that runs the tasks::

    list todo ─> claim by rename ─> tell the child ─> child: context, call, outcome drafted ─> publish it, drop the claim
                                          └─ child died ─> an outcome that says how; the next task gets a new child

The supervisor publishes, not the child: what a child has drafted counts only if the child lived to report it. After
SIGTERM (the job is being cancelled, preempted, or out of time) nothing is published: the claim stands, the pool is told
that it was interrupted, and learns the cause from the job's state.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..deaths import oom_kills, tell_death
from ..errors import WorkerDiedError
from .child import Child
from .folder import FULL, PASSING
from .signals import Terminated, signals
from .spool import FORMAT, Spool

__all__ = ["Worker", "main"]

_LONGEST_POLL = 0.25  # seconds between two looks at the folder of an idle worker
_WORTH_ASKING = 10.0  # seconds: with shorter tasks a job need not look at its time limit
_PATIENCE = 60.0  # seconds in which the folder may have a bad moment, or be full, before the worker gives up
_IDLE_NOTICE = 1.0  # seconds after which an idle worker says so


class Worker:
    """One worker. `group` names the options its tasks share, `job` the job it runs in."""

    def __init__(self, spool: Spool, group: int, job: str, *, idle_seconds: float, one_task: bool) -> None:
        self.spool = spool
        self.group = group
        self.idle_seconds = idle_seconds
        self.one_task = one_task
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.name = f"{job}-r{restart}"  # a requeued job's worker has a name, and claims, of its own
        self.predecessors = [f"{job}-r{number}" for number in range(restart)]
        self.facts: dict[str, Any] = {"job": job, "worker": self.name, "host": outcomes.host_name(), "group": group}
        with contextlib.suppress(OSError):
            self.facts["log"] = os.readlink("/proc/self/fd/1")
        self._words = 0
        self._child: Child | None = None
        self._fingerprints: dict[str, str] = {}
        self._offered: list[tuple[str, str]] = []  # (shard, task) from the last listing, to be claimed in turn
        self._lost_race = False
        self._notes: set[str] = set()  # words that the pool has left for workers
        self._longest = 0.0  # seconds that the longest task so far has taken, here or elsewhere
        self._end: float | None = None  # of the job, in seconds since the epoch, once it is known

    def serve(self) -> None:
        """Run tasks until there is nothing more to do."""
        run = json.loads(self.spool.read("run.json"))
        self._fingerprints = run["environment"]
        self.spool.make_folder(f"claimed/{self.name}")
        mine = "{}.{}".format(*sys.version_info)
        if run["format"] != FORMAT or run["python"] != mine:
            self._say("left", reason="mismatch", python=mine, format=FORMAT)
            return
        self._say("up", pid=os.getpid(), python=mine)
        for predecessor in self.predecessors:
            for task in self.spool.claims(predecessor):
                self.spool.give_back(self.group, task, predecessor)
        try:
            self._serve_tasks()
        except Terminated:
            self._say("left", reason="interrupted", claims=self.spool.claims(self.name))
        finally:
            if self._child is not None:
                self._child.end()

    def _serve_tasks(self) -> None:
        while True:
            task = self._next_task()
            if task is not None:
                self._run(task)
                if not self.one_task and not self._time_is_short():
                    continue
                self._say("left", reason="done" if self.one_task else "time")
                return
            self._say("left", reason="idle")
            # A task published before the pool could have read this word is ours still: look once more, then go.
            if (task := self._claim_any()) is None:
                return
            self._say("up", pid=os.getpid())
            self._run(task)

    # --- finding work

    def _next_task(self) -> str | None:
        """Claim the next task, waiting for one as long as an idle worker may; None when it is time to go."""
        idle_since = time.monotonic()
        noticed = False
        while (task := self._claim_any()) is None:
            idle = time.monotonic() - idle_since
            if "stop" in self._notes or f"quit.{self.name}" in self._notes or idle >= self.idle_seconds:
                return None
            if idle > _IDLE_NOTICE and not noticed:
                noticed = True
                self._say("idle")
            # Look often at first and ever less often: the wait for a task grows with the time it took to come.
            signals.sleep(min(max(idle * 0.02, 0.001), _LONGEST_POLL, max(self.idle_seconds - idle, 0.001)))
        return task

    def _claim_any(self) -> str | None:
        """Claim one of the oldest waiting tasks; None if there is none."""
        for fresh in (False, True):
            if fresh:
                # Over NFS a rename may have succeeded though its repeated request was told "no such file": a task that
                # stands among our claims is ours (we run one at a time, so there is no other reason for it).
                if self._lost_race and (owned := self.spool.claims(self.name)):
                    return owned[0]
                self._lost_race = False
                self._look()
            while self._offered:
                shard, task = self._offered.pop()
                if self.spool.claim(self.group, shard, task, self.name):
                    return task
                self._lost_race = True
        return None

    def _look(self) -> None:
        """List what waits: up to 64 of the oldest, in an order of our own so that workers seldom meet."""
        listing, self._notes = self.spool.offers(self.group)
        for shard, tasks in listing:
            if tasks:
                self._offered = [(shard, task) for task in tasks[:64]]
                random.shuffle(self._offered)
                return

    def _time_is_short(self) -> bool:
        """Whether another task might be cut short: the job's end is nearer than the longest of its kind has taken.

        The first task of a job is run in any case: it was what the job was sent for.
        """
        for note in self._notes:
            if note.startswith("longest."):
                self._longest = max(self._longest, float(note.removeprefix("longest.")))
        if self._longest < _WORTH_ASKING:
            return False
        if self._end is None:
            from .slurm import job_end  # not at all in a job of short tasks

            self._end = job_end(os.environ)
        return self._end - time.time() <= self._longest

    # --- running a task

    def _run(self, task: str) -> None:
        signals.check()
        if self._child is not None and self._child.is_dead():  # of what the task before it left running
            self._child.end()
            self._child = None
        if self._child is None:
            self._child = Child(self.spool, self.name, self.facts, self._fingerprints)
        child, oom_before, begun = self._child, oom_kills(), time.monotonic()
        draft = child.run(task)
        self._longest = max(self._longest, time.monotonic() - begun)
        if draft is not None:
            self.spool.deliver(draft, task, self.name)
            return
        self._child = None
        exitcode = child.end()
        if exitcode == -signal.SIGTERM:
            raise Terminated  # whoever ends a child that way is ending the job
        name = self._task_name(task)
        error = WorkerDiedError(
            f"task {name!r}: the process {child.pid} that ran it on {self.facts['host']} (job {self.facts['job']}) "
            f"{tell_death(exitcode, oom_before)}; the job's log: {self.facts.get('log', 'none')}",
            exitcode=exitcode,
        )
        outcome = outcomes.Outcome(error=error, facts={**self.facts, "pid": child.pid, "finished": time.time()})
        draft = self.spool.draft_outcome(message.pack(*outcomes.freeze(outcome, name)), task, self.name)
        self.spool.deliver(draft, task, self.name)

    def _task_name(self, task: str) -> str:
        try:
            return str(message.read_header(self.spool.read(f"claimed/{self.name}/{task}"))["name"])
        except (OSError, ValueError):
            return task

    def _say(self, word: str, **facts: Any) -> None:
        self._words += 1
        self.spool.say(self.name, self._words, word, {**self.facts, **facts})


def _job_id(given: str) -> str:
    """The job's id as squeue shows it: ARRAY_INDEX for an array element."""
    if given:
        return given
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID", f"p{os.getpid()}")


def main(arguments: list[str] | None = None) -> None:
    """Serve a run: ``python -m nornir_pools.cluster.worker FOLDER [--group N] …``."""
    parser = argparse.ArgumentParser(prog="python -m nornir_pools.cluster.worker", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--group", type=int, default=0, help="which tasks: those of one set of options")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to stay without work")
    parser.add_argument("--one", action="store_true", help="run one task and end")
    parser.add_argument("--job", default="", help="the job's id, where no scheduler gives it")
    options = parser.parse_args(arguments)
    signals.install()
    os.umask(0o077)  # tasks have that of the script
    job = _job_id(options.job)
    for name in [name for name in os.environ if name.startswith("SUBMITIT_")]:
        del os.environ[name]  # a task may use submitit for itself
    spool = Spool(options.folder)
    spool.patience, spool.passing = _PATIENCE, PASSING | FULL
    if "todo" in spool.names("."):  # else the run was closed before this job started
        Worker(spool, options.group, job, idle_seconds=options.idle, one_task=options.one).serve()


if __name__ == "__main__":
    main()
