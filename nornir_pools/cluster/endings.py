"""What becomes of the tasks that a job or a node has failed: another try, or an error that says why."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import JobError, JobTimeoutError, PoolError, TaskTimeoutError, WorkerDiedError, WorkerOutOfMemoryError
from ..options import Options
from ..outcome import Outcome
from . import slurm
from .jobs import FRUITLESS, Group, Job
from .ledger import Entry, Ledger
from .names import post_of
from .nodelists import first_node
from .nodes import Nodes
from .obituary import initializer_error, job_error, mismatch, too_old, unseen
from .retries import cause_of, next_options
from .spool import IN_DOUBT, Spool, task_name, task_number

__all__ = ["Endings"]

logger = logging.getLogger("nornir_pools")

_NODES_DOING = ("worker_died", "node_failed", "lost")  # causes for which a job that does not start speaks against its node
HAND_BACKS = 2  # times that a task is tried again because its node may be to blame, uncharged
REMEMBERED = 10_000  # jobs


class Endings:
    """The ends of one run's jobs; `jobs` are those that have not ended."""

    def __init__(self, pool: str, spool: Spool, ledger: Ledger, jobs: Mapping[str, Job]) -> None:
        self._pool = pool
        self._spool = spool
        self._ledger = ledger
        self._jobs = jobs
        self._nodes = Nodes(pool)
        self._ended: dict[str, tuple[Job, slurm.Ending]] = {}  # the last of them: more of them may yet come to light

    def of(self, job: str) -> tuple[Job, slurm.Ending] | None:
        """A job that has ended not long ago, and how."""
        return self._ended.get(job)

    def job_of_late(self, worker: str) -> Job | None:
        """The job that has ended of a worker whose word is here only now; None if the worker may be alive."""
        job, _ = self._ended.get(post_of(worker), (None, None))
        return job if job is not None and (worker in job.workers or worker == f"{job.id}-r0") else None

    def see_to(self, job: Job, ending: slurm.Ending) -> None:
        """A job has ended, not by its own will. It may be seen to again when more of its claims come to light."""
        job.node = job.node or first_node(ending.nodes)
        claims = [
            (worker, claim)
            for worker in self._spool.names("claimed")
            if worker.startswith(f"{job.id}-r")
            for claim in self._spool.claims(worker)
        ]
        if job.interrupted_at is not None and ending.state == "COMPLETED":
            ending = slurm.Ending("FAILED", "0:15")  # its worker was told to end, though not by the scheduler
        if job.died and (not slurm.is_over(ending.state) or ending.state == "FAILED"):
            ending = slurm.Ending("FAILED", job.died)  # its job may go on
        self._spool.note(t="ended", job=job.id, state=ending.state, claims=[claim for _, claim in claims])
        for worker, claim in claims:
            entry = self._ledger.find(task_number(claim))
            if entry is not None and entry.file == claim:
                self._judge(job, ending, entry, worker)
        again = self._ended.pop(job.id, None)
        self._ended[job.id] = job, ending
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]
        # (Its worker's folder was never looked for before, so that it is seen if it is there.)
        heard = job.up or not self._spool.has(f"claimed/{job.id}-r0")
        if heard and job.speaks and not claims and not job.finished and not job.called_off and again is None:
            self._note_fruitless(job, ending, stillborn=not job.up)

    def note_leave(self, job: Job, facts: dict[str, Any]) -> None:
        """A worker has left by its own will."""
        group = self._ledger.groups[job.group]
        if facts["reason"] == "mismatch":
            self._ledger.fail_waiting(group, mismatch(self._pool, facts))
        elif facts["reason"] == "initializer":
            error = initializer_error(self._pool, facts)
            if any(group.finished for group in self._ledger.groups):  # elsewhere it has not failed: a node may be to blame
                self._note_fruitless(job, slurm.Ending("FAILED"), stillborn=True, why=error)
            else:
                self._ledger.stop(error)
        elif facts["reason"] == "bad_node" and not facts["handed_back"] and job.speaks:  # no process of it could take a task
            self._note_fruitless(job, slurm.Ending("FAILED"), stillborn=True)
        elif facts["reason"] == "avoided" and job.node in job.avoids:
            group.unavoidable = job.avoids  # there was no other node
            self.avoid(group)

    # --- nodes

    def avoid(self, group: Group) -> frozenset[str]:
        """The nodes that the group's jobs are to be kept away from; workers that come up there in spite of it are told."""
        nodes = self._nodes.to_avoid()
        if group.unavoidable and nodes >= group.unavoidable:
            nodes = frozenset()
        for node in nodes - group.avoided:
            self._spool.tell_workers(group.number, f"avoid.{node}")
        for node in group.avoided - nodes:
            self._spool.remove(f"todo/{group.number}/avoid.{node}")
        group.avoided = nodes
        return nodes

    def note_end(self, number: int, facts: dict[str, Any]) -> None:
        """A task has ended by itself."""
        if self._nodes.note_end(facts["node"], number, ran=not facts.get("environment")):
            self._tell_workers()

    def take_back(self, name: str, facts: dict[str, Any]) -> bool:
        """A worker doubts its node, and has handed this outcome's task back: returns whether the outcome does not count."""
        number, attempt, worker = name[:-1].split(".", 2)
        claim = f"{number}.{attempt}"
        entry = self._ledger.find(int(number))
        if entry is None or entry.file != claim:  # the task is over, or another try of it is on its way
            self._spool.drop_claim(worker, claim)
            return True
        enough = entry.retried["bad_node"] >= HAND_BACKS or self._ledger.failures.error is not None
        if enough or (name.endswith(IN_DOUBT) and not self._can_be_judged_elsewhere(facts["node"])):
            self._spool.drop_claim(worker, claim)
            self._spool.withdraw(entry.group.number, claim)  # if its worker was started once more and has given it back
            return False
        what = facts.get("error", "a command that cannot be run").partition("\n")[0]
        why = f"task {entry.task.name!r} has failed there ({what}; log: {facts['log']})"
        self._nodes.note_handed_back(facts["node"], entry.number, why)
        self._tell_workers()  # before the task is there for one that comes up on the same node
        entry.history.append(f"try {entry.attempt + 1}, job {facts['job']} on {facts['host']}: {what}")
        self._try_again(entry, worker, entry.group.options, "bad_node", facts["job"])
        return True  # if the claim is gone, its worker was started once more and has given it back

    def _can_be_judged_elsewhere(self, node: str) -> bool:
        """Whether tasks have run on another node, or do so now: a moment later that may be known."""
        at_work = any(job.serves and not job.idle and job.node not in ("", node) for job in self._jobs.values())
        return at_work or self._nodes.is_good_elsewhere(node)

    def _tell_workers(self) -> None:
        for group in self._ledger.groups:
            self.avoid(group)

    # --- tasks

    def _judge(self, job: Job, ending: slurm.Ending, entry: Entry, worker: str) -> None:
        """Try the task again or give it up: by moving its claim away, which only one can do.

        If the claim is gone though a listing has shown it, the listing was old, and the outcome is on its way. Or its worker
        was started once more by the scheduler and has given it back.
        """
        if job.called_off:  # it was ended for another task that it had just finished, or it had handed this one back
            entry.history.append(f"try {entry.attempt + 1}, job {job.scheduled}: ended with another task, which was cancelled")
            self._try_again(entry, worker, entry.group.options, "called_off", job.scheduled)
            return
        error = job_error(self._pool, entry.task.name, job, ending)
        cause = cause_of(error)
        entry.history.append(
            f"try {entry.attempt + 1}, job {job.scheduled} on {job.host or job.node or 'an unknown node'}: "
            f"{ending.state or cause}"
        )
        if isinstance(error, JobTimeoutError) and job.finished:
            # It was taken over by a job that had less time left than it needs: not its fault, so it gets one of its own.
            options, cause = replace(entry.group.options, tasks_per_job=1, tasks_at_once=None), "cut_short"
        else:
            again = next_options(entry.group.options, cause, entry.retried[cause])
            if again is None:
                if self._spool.seize(worker, entry.file):
                    _add_history(error, entry)
                    self._ledger.give_up(entry.number, error)
                    self._spool.drop_seized(worker, entry.file)
                else:
                    entry.history.pop()
                return
            options = again
        self._try_again(entry, worker, options, cause, job.scheduled)

    def see_to_death(self, entry: Entry, outcome: Outcome) -> bool:
        """A task's process was killed, for want of memory by the kernel, or at the task's limit by its worker; returns whether
        the task is tried again.

        If it is not, this outcome is the task's, and its error tells what was tried.
        """
        facts, error = outcome.facts, outcome.error
        cause = facts["cause"]
        known: object = slurm.Ending("OUT_OF_MEMORY")
        if isinstance(error, WorkerOutOfMemoryError):
            known = slurm.Ending("OUT_OF_MEMORY", memory=error.memory, memory_asked=error.memory_asked)
        elif isinstance(error, TaskTimeoutError):
            known = f"longer than {error.seconds:g} s"
        entry.history.append(f"try {entry.attempt + 1}, job {facts['job']} on {facts['host']}: {known}")
        options = next_options(entry.group.options, cause, entry.retried[cause])
        if options is not None and self._try_again(entry, facts["worker"], options, cause, facts["job"]):
            return True
        self._spool.drop_claim(facts["worker"], entry.file)
        if isinstance(error, (TaskTimeoutError, WorkerDiedError)):
            _add_history(error, entry)
        return False

    def _try_again(self, entry: Entry, worker: str, options: Options, cause: str, job: str) -> bool:
        """Let a call that was claimed wait again, for a job with these options; False if its claim is not there."""
        group = self._ledger.group_for(options)
        if not self._spool.try_again(worker, entry.file, group.number, task_name(entry.number, entry.attempt + 1)):
            entry.history.pop()
            return False
        before = entry.group.options.job
        changed = {name: value for name, value in options.job.items() if before.get(name) != value}
        if changed:
            entry.history[-1] += "; then with " + ", ".join(f"{name}={value}" for name, value in changed.items())
        entry.retried[cause] += 1
        self._ledger.again(entry, group)
        self._spool.note(
            t="again",
            n=entry.number,
            file=entry.file,
            cause=cause,
            job=job,
            group=group.number,
            options=changed,
            history=entry.history[-1],
        )
        logger.info("pool %r: task %r is tried again: %s", self._pool, entry.task.name, entry.history[-1])
        return True

    def _note_fruitless(self, job: Job, ending: slurm.Ending, *, stillborn: bool, why: PoolError | None = None) -> None:
        """A job has ended and no task was ever done in it; `stillborn`: it was never able to do one; `why`: if it is known."""
        group = self._ledger.groups[job.group]
        error: PoolError = job_error(self._pool, "", job, ending)
        cause = cause_of(error)
        if cause == "cancelled":  # somebody has cancelled a job that waited: so ends one of those that wait for it
            self._ledger.fail_waiting(group, error, most=1)
            return
        if stillborn and (mismatched := too_old(self._pool, job)) is not None:
            self._ledger.fail_waiting(group, mismatched)
            return
        if stillborn and cause in _NODES_DOING and not self._nodes.note_stillborn(job.node, job.avoids):
            return
        if why is not None:
            error = why
        elif not isinstance(error, JobTimeoutError) and not self._spool.has(f"jobs/{job.log.rpartition('/')[2]}"):
            error = unseen(self._pool, job, self._spool.path)
        group.fruitless += 1
        if group.fruitless >= FRUITLESS and not any(other.live for other in self._jobs.values() if other.group == job.group):
            self._nodes.absolve_stillborn()
            self._ledger.fail_waiting(group, error)
            group.fruitless = 0  # tasks that are added from now on have a chance of their own
        if stillborn:
            self._tell_workers()
            what = f"jobs end there before they take a task, the last one, {job.id}, with {ending}; its log: {job.log}"
            self._nodes.tell(job.node, what)


def _add_history(error: JobError | TaskTimeoutError | WorkerDiedError, entry: Entry) -> None:
    """Let the error tell what was tried."""
    if len(entry.history) > 1:
        tries = "\n  ".join(entry.history)
        error.args = (f"{error.args[0]}\nit was tried {len(entry.history)} times:\n  {tries}",)
    error.tries = tuple(entry.history)
