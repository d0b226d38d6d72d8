"""The worker: the program that a job runs, the same under SLURM, as a local fallback, and from a template.

One thread, and a child process forked from it that runs the tasks::

    list todo ─> claim by rename ─> tell the child ─> child: context, call, outcome drafted ─> publish it, drop the claim
                                          └─ child died ─> an outcome that says how; the next task gets a new child

The supervisor publishes, not the child: what a child has drafted counts only if the child lived to report it. After
SIGTERM (the job is being cancelled, preempted, or out of time) nothing is published: the claim stands, the pool is told
that it was interrupted, and learns the cause from the job's state.

A worker whose first tasks fail as they do where something is missing (a module, a program, a disk, a GPU) hands them back
and ends: on another node they may succeed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..cpus import cpus_set_aside, usable_cpus
from ..deaths import death_error, oom_kills, process_born
from ..errors import TaskTimeoutError, WorkerDiedError, WorkerOutOfMemoryError
from ..limits import Limits
from .beginning import arguments_of_jobs, prepare
from .child import Child, Report
from .clusters import cluster_of
from .doubt import BadNodeError, Doubt
from .limiting import end_in_time, initializer_failed, limits_of
from .offers import Offers
from .pace import Pace
from .signals import Terminated, signals
from .spool import FORMAT, Spool, task_number

__all__ = ["Worker", "main"]

_LONGEST_POLL = 0.25  # seconds between two looks at the folder of an idle worker
_WORTH_ASKING = 10.0  # seconds: with shorter tasks a job need not look at its time limit
_IDLE_NOTICE = 1.0  # seconds after which an idle worker says so


class Worker:
    """One worker. `group` names the options its tasks share, `job` the job it runs in, `node` where, for the scheduler;
    without a scheduler that could choose another node, it is empty."""

    task_timeout: float | None = None
    """Of the group's tasks, in seconds (0: no limit); None: the run's."""

    def __init__(self, spool: Spool, group: int, job: str, *, node: str = "", idle_seconds: float, one_task: bool) -> None:
        self.spool = spool
        self.group = group
        self.idle_seconds = idle_seconds
        self.one_task = one_task
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.name = f"{job}-r{restart}"  # a requeued job's worker has a name, and claims, of its own
        self.predecessors = [f"{job}-r{number}" for number in range(restart)]
        host = outcomes.host_name()
        self.facts: dict[str, Any] = {"job": job, "worker": self.name, "host": host, "node": node, "group": group}
        self._me = {"pid": os.getpid(), "born": process_born(os.getpid())}
        with contextlib.suppress(OSError):
            self.facts["log"] = os.readlink("/proc/self/fd/1")
        self._words = 0
        self._child: Child | None = None
        self._limits = Limits()
        self._pool = self._initializer = ""  # their names
        self._fingerprints: dict[str, str] = {}
        self._threads = 1  # that a task may have
        self._mates = 1  # how many workers share what this job has of a machine without a scheduler
        self._answered: set[str] = set()  # claims that were left standing, for the pool to decide upon
        self._longest = 0.0  # seconds that the longest task so far has taken, here or elsewhere
        self._end: float | None = None  # of the job, in seconds since the epoch, once it is known
        self._doubt = Doubt(spool, self.name, node, one_task=one_task)
        self._offers = Offers(spool, group, self.name, self._doubt.heed)
        self._pace = Pace(spool)

    def serve(self) -> None:
        """Run tasks until there is nothing more to do."""
        run = json.loads(self.spool.read("run.json"))
        self._fingerprints = run["environment"]
        self._pool, self._initializer = run.get("pool", ""), run.get("initializer") or ""
        self._limits = limits_of(run, self.task_timeout)
        # Where there is no scheduler to divide it, the machine is shared by as many workers as there may be.
        self._threads = max(1, usable_cpus() // (run["num_threads"] * self._mates if run.get("executor") == "local" else 1))
        self.spool.make_folder(f"claimed/{self.name}")
        mine = "{}.{}".format(*sys.version_info)
        if run["format"] != FORMAT or run["python"] != mine:
            self._say("left", reason="mismatch", python=mine, format=FORMAT)
            return
        missing = sum(name not in os.environ for name in self._fingerprints)
        self._me["cpus"] = cpus_set_aside(os.environ, run.get("executor", "")) / self._mates
        self._say("up", python=mine, bare=2 * missing > len(self._fingerprints))
        self._give_back_claims_of_predecessors()
        try:
            self._serve_tasks()
        except Terminated:
            self._doubt.hand_back(sure=False)
            self._say("left", reason="interrupted", claims=self.spool.claims(self.name))
            if self._child is not None:
                self._child.stop()
        except BadNodeError as bad:
            self._doubt.hand_back(sure=True)
            self._say("left", reason=str(bad), handed_back=sorted(self._doubt.kept), **bad.facts)
        finally:
            if self._child is not None:
                self._child.end()

    def _give_back_claims_of_predecessors(self) -> None:
        """This job was requeued: what it had claimed before waits again, but for what it had answered just before its end."""
        claims = [(worker, task) for worker in self.predecessors for task in self.spool.claims(worker)]
        if not claims:
            return
        answers, over = self.spool.answers(), self.spool.over()
        for worker, task in claims:
            if task_number(task) in over:
                self.spool.drop_claim(worker, task)
            elif f"{task}.{worker}" not in answers:  # else the pool decides
                self.spool.give_back(self.group, task, worker)

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
            self._say("up")
            self._run(task)

    # --- finding work

    def _next_task(self) -> str | None:
        """Claim the next task, waiting for one as long as an idle worker may; None when it is time to go."""
        idle_since = time.monotonic()
        noticed = False
        while (task := self._claim_any()) is None:
            idle = time.monotonic() - idle_since
            if not self._offers.words.isdisjoint(("stop", f"quit.{self.name}")) or idle >= self.idle_seconds:
                return None
            if idle > _IDLE_NOTICE and not noticed:
                noticed = True
                self._say("idle")
            # Look often at first and ever less often: the wait for a task grows with the time it took to come.
            signals.sleep(min(max(idle * 0.02, 0.001), _LONGEST_POLL, max(self.idle_seconds - idle, 0.001)))
        return task

    def _claim_any(self) -> str | None:
        """Claim one of the oldest waiting tasks; None if there is none."""
        return self._offers.claim(self._answered | self._doubt.kept)

    def _time_is_short(self) -> bool:
        """Whether another task might be cut short: the job's end is nearer than the longest of its kind has taken.

        The first task of a job is run in any case: it was what the job was sent for.
        """
        self._longest = max(self._longest, self._offers.number("longest", 0.0))
        if self._longest < _WORTH_ASKING:
            return False
        if self._end is None:
            from .slurm import job_end  # not at all in a job of short tasks

            self._end = job_end(os.environ)
        return self._end - time.time() <= self._longest

    # --- running a task

    def _run(self, task: str) -> None:
        signals.check()
        self._replace_child()  # it may have died of what the task before left running
        child = self._child or self._start_child(task)
        oom_before, begun = oom_kills(), time.monotonic()
        report = child.run(task, self._limits.task_timeout)
        self._longest = max(self._longest, time.monotonic() - begun)
        if report is not None:
            self._deliver(task, report)
            self._replace_child()
            self._pace.keep(int(self._offers.number("crowd", 1)))
            return
        if child.timed_out:
            self._child, name, seconds = None, self._task_name(task), self._limits.task_timeout or 0.0
            self._tell_death(task, name, child.pid, end_in_time(child, name, self._pool, seconds, self.facts))
            return
        exitcode = self._end_child(child)
        name = self._task_name(task)
        what = f"task {name!r}: the process {child.pid} that ran it on {self.facts['host']} (job {self.facts['job']})"
        after = f"; the job's log: {self.facts.get('log', 'none')}"
        self._tell_death(task, name, child.pid, death_error(what, exitcode, oom_before, after, child.peak))

    def _replace_child(self) -> None:
        """End the child if it is dead, has done its share, or has grown too large: the next task gets another."""
        child = self._child
        if child is not None and (child.is_dead() or self._limits.has_served(child.tasks, child.pid)):
            child.end()
            self._child = None

    def _tell_death(self, task: str, name: str, pid: int, error: WorkerDiedError | TaskTimeoutError) -> None:
        """Publish that the task's process has died. If it wanted more memory or time, another try may be wanted: the call
        stays."""
        facts = {**self.facts, "pid": pid, "finished": time.time()}
        wants_more = isinstance(error, (WorkerOutOfMemoryError, TaskTimeoutError))
        if wants_more:
            facts["cause"] = "task_timeout" if isinstance(error, TaskTimeoutError) else "oom"
            self._answered.add(task)
        self.spool.keep_failed_call(self.name, task)
        frozen = outcomes.freeze(outcomes.Outcome(error=error, facts=facts), name)
        draft = self.spool.draft_outcome(message.pack(*frozen), task, self.name)
        self._doubt.deliver(task, Report(draft, environment=False), keep_claim=wants_more)

    def _start_child(self, task: str) -> Child:
        """A new child, ready for the task; where there can be none, the task is for another node."""
        bad = BadNodeError("bad_node")
        try:
            self._child = child = Child(
                self.spool, self.name, self.facts, self._fingerprints, self._threads, initialize=bool(self._initializer)
            )
        except OSError as error:  # no more processes, no memory
            sys.stderr.write(f"no process can be started for tasks: {error}\n")
        else:
            if child.is_ready():
                return child
            exitcode = self._end_child(child)
            if self._initializer:
                bad = initializer_failed(self._initializer, child, exitcode)
        self.spool.give_back(self.group, task, self.name)
        raise bad

    def _end_child(self, child: Child) -> int:
        """Reap a child that has died; returns its exit status."""
        self._child = None
        exitcode = child.end()
        if exitcode == -signal.SIGTERM:
            raise Terminated  # whoever ends a child that way is ending the job
        return exitcode

    def _deliver(self, task: str, report: Report) -> None:
        """Publish an outcome. If it may be the node's doing, and nothing speaks for the node yet, the next task decides."""
        if self._doubt.deliver(task, report):
            return
        if not self._time_is_short() and (other := self._claim_any()) is not None:
            self._run(other)
        else:
            self._doubt.hand_back(sure=False)

    def _task_name(self, task: str) -> str:
        try:
            return str(message.read_header(self.spool.read(f"claimed/{self.name}/{task}"))["name"])
        except (OSError, ValueError):
            return task

    def _say(self, word: str, **facts: Any) -> None:
        self._words += 1
        self.spool.say(self.name, self._words, word, {**self.facts, **self._me, **facts})


def main(arguments: list[str] | None = None) -> None:
    """Serve a run: ``python -m nornir_pools.cluster.worker FOLDER [--group N] …``."""
    options = arguments_of_jobs("nornir_pools.cluster.worker", __doc__.splitlines()[0]).parse_args(arguments)
    if prepared := prepare(options):
        node = "" if options.job and not cluster_of(options.job) else os.environ.get("SLURMD_NODENAME", "")
        worker = Worker(*prepared, node=node, idle_seconds=options.idle, one_task=options.one)
        worker.task_timeout = options.task_timeout
        worker.serve()


if __name__ == "__main__":
    main()
