"""Cancelling tasks of a run from outside: its holder is asked to; where there is none, it is done here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from ..errors import RunNotFoundError, SpoolError
from . import clusters, slurm
from .lease import Lease
from .names import job_of, post_of
from .reading import view_run
from .spool import Spool, task_number

if TYPE_CHECKING:
    from .ledger import Entry, Ledger
    from .supply import Supply
    from .views import RunView

__all__ = ["Cancelling", "cancel_run"]


class Cancelling:
    """In the holder of a run: taking tasks back, and ending those that have begun."""

    def __init__(self, spool: Spool, ledger: Ledger, supply: Supply, wake: Callable[[], None]) -> None:
        self._spool = spool
        self._ledger = ledger
        self._supply = supply
        self._wake = wake
        self._asked: list[int] = []  # to be cancelled though they may have begun

    def withdraw(self, number: int) -> bool:
        """Claim a waiting task as a worker would, by the same rename: one of the two gets it. Returns whether it is the
        caller's to complete. Any thread may call this, and the next two."""
        entry = self._ledger.find(number)
        if entry is None or not self._spool.withdraw(entry.group.number, entry.file):
            return False
        owned = self._ledger.cancel(number)
        self._spool.drop(entry.group.number, entry.file)
        return owned

    def has_begun(self, number: int) -> bool:
        """Whether a worker has the task; False if it is over."""
        entry = self._ledger.find(number)
        return entry is not None and not entry.held and not self._spool.waits(entry.group.number, entry.file)

    def ask(self, numbers: Collection[int] | None) -> None:
        """Have these tasks be cancelled (None: all), and the jobs that run them."""
        self._asked += self._ledger.numbers() if numbers is None else numbers
        self._wake()

    def carry_out(self) -> None:
        """Do what was asked for. Called by the watcher when it has read its inbox: by then it knows who has what.

        A task that runs is ended with its job, whose worker reports nothing then; other waiting tasks get another job. Of a job
        with several workers only that one is ended, and followed by another. (The claim stays, and means nothing any more: who
        takes a task out of the ledger completes it.)
        """
        if not self._asked:
            return
        asked = self._asked[:]
        begun = [entry for number in asked if (entry := self._ledger.find(number)) and not self._call_off(entry)]
        # Listed only now: what was not there to be withdrawn a moment ago may have been claimed just before.
        running = _running(self._spool) if begun else {}
        doomed, again = [], []
        for entry in begun:
            worker = running.get(entry.number, "")
            job = self._supply.jobs.get(post_of(worker))
            if job is None or not job.up:  # its outcome is on its way, or its worker's first word, or it is given back just now
                again.append(entry.number)
            elif self._ledger.call_off(entry.number):
                job.unneeded = job.called_off = True
                if job.at_once:
                    self._spool.tell_workers(job.group, f"end.{worker}")
                else:
                    doomed.append(job.id)
        if doomed:
            self._supply.hand_over(lambda: self._supply.cancel(doomed, pending_only=False))
        self._asked[: len(asked)] = again

    def _call_off(self, entry: Entry) -> bool:
        if entry.held:
            if self._ledger.call_off(entry.number):
                self._spool.drop_held(entry.file)
            return True
        if not self._spool.withdraw(entry.group.number, entry.file):
            return False
        self._ledger.call_off(entry.number)
        self._spool.drop(entry.group.number, entry.file)
        return True


def _running(spool: Spool) -> dict[int, str]:
    """The worker of each task that one has."""
    return {task_number(claim): worker for worker in spool.names("claimed") for claim in spool.claims(worker)}


def cancel_run(run: str | os.PathLike[str], tasks: Iterable[str | int] | None = None) -> tuple[RunView, bool]:
    """See `nornir_pools.cancel`. Returns the run as it was before, and whether its holder was only asked to."""
    view = view_run(run)
    if view.info.state == "closed":
        raise RunNotFoundError(f"the run {view.info.name} is closed: nothing of it is left to cancel")
    numbers = None if tasks is None else [view.task(task).number for task in tasks]
    spool = Spool(view.info.path)
    try:
        if view.info.state == "held":
            spool.request("cancel", {"tasks": numbers})
            return view, True
        _cancel_here(view, spool, numbers)
        return view, False
    finally:
        spool.close()


def _cancel_here(view: RunView, spool: Spool, numbers: Collection[int] | None) -> None:
    """No process holds the run, so this one does for a moment."""
    lease = Lease(spool)
    lease.take()
    try:
        spool.resume()
        running, waiting = _running(spool), spool.unanswered()
        jobs = set(view.live_jobs()) if numbers is None else set()
        workers: set[str] = set()
        for call, folder in waiting.items():
            number = task_number(call)
            if (numbers is not None and number not in numbers) or folder == "inbox":
                continue
            if folder.startswith("todo/"):
                group = int(folder.split("/")[1])
                if spool.withdraw(group, call):
                    spool.note(t="cancelled", n=number)
                    spool.drop(group, call)
                    continue
            spool.note(t="cancelled", n=number)  # a worker has it: its job is ended
            if folder.startswith("held/"):
                spool.drop_held(call)
            if number in running:
                workers.add(running[number])
        _end_workers(view, spool, jobs, workers)
    finally:
        lease.release()


def _end_workers(view: RunView, spool: Spool, jobs: Collection[str], workers: Collection[str]) -> None:
    """End jobs, and workers: each with its job, but for those that stand beside others in theirs."""
    jobs = {*jobs, *(post_of(worker) for worker in workers if worker not in view.mates)}
    by_word = view.executor == "allocation"  # its jobs are none that the scheduler knows
    for worker, group in view.mates.items():
        whole = job_of(post_of(worker)) in jobs
        if (whole and by_word) or (worker in workers and not whole):
            spool.tell_workers(group, f"end.{worker}")
            if whole:
                spool.tell_workers(group, "stop")  # else another worker takes its place, and waits for tasks
    if not by_word:
        _end_jobs(view, jobs)


def _end_jobs(view: RunView, jobs: Collection[str]) -> None:
    if not jobs:
        return
    if view.executor == "local":
        for job in jobs:
            view.signal(job, signal.SIGTERM)
        return
    try:
        slurm.cancel(sorted(jobs), os.environ)
    except slurm.SlurmError as error:
        words = f"the jobs of run {view.info.name} could not be cancelled ({error}); run: {clusters.by_hand(sorted(jobs))}"
        raise SpoolError(words) from error
