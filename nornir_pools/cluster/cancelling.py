"""Cancelling tasks of a run from outside: its holder is asked to; where there is none, it is done here."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..errors import RunNotFoundError, SpoolError
from . import slurm
from .lease import Lease
from .reading import view_run
from .spool import Spool, task_number

if TYPE_CHECKING:
    from .ledger import Ledger
    from .supply import Supply
    from .views import RunView

__all__ = ["cancel_run", "carry_out"]


def carry_out(numbers: Collection[int] | None, spool: Spool, ledger: Ledger, supply: Supply) -> None:
    """In the holder: cancel these tasks (None: all), and the jobs that run them.

    A task that runs is ended with its job, whose worker reports nothing then; other waiting tasks get another job. (Its
    claim stays, and means nothing any more: who takes a task out of the ledger completes it.)
    """
    running = _running(spool)
    doomed = []
    for number in ledger.numbers() if numbers is None else numbers:
        entry = ledger.find(number)
        if entry is None:
            continue
        if entry.held:
            if ledger.call_off(number):
                spool.drop_held(entry.file)
            continue
        withdrawn = spool.withdraw(entry.group.number, entry.file)
        if not withdrawn and number not in running:
            continue  # its outcome is on its way
        if ledger.call_off(number) and not withdrawn:
            doomed += [job for job in supply.jobs.values() if job.id == running[number]]
        spool.drop(entry.group.number, entry.file)
    for job in doomed:
        job.unneeded = True
    if ids := [job.id for job in doomed]:
        supply.hand_over(lambda: supply.cancel(ids, pending_only=False))


def _running(spool: Spool) -> dict[int, str]:
    """The job of each task that a worker has."""
    return {
        task_number(claim): worker.rpartition("-r")[0] for worker in spool.names("claimed") for claim in spool.claims(worker)
    }


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
                jobs.add(running[number])
        _end_jobs(view, jobs)
    finally:
        lease.release()


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
        words = f"the jobs of run {view.info.name} could not be cancelled ({error}); run: scancel {' '.join(sorted(jobs))}"
        raise SpoolError(words) from error
