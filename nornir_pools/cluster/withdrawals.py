"""Taking jobs out of the queue that have not started, and no others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from . import clusters, polling, slurm

__all__ = ["cancel_pending"]


def cancel_pending(jobs: Iterable[str], environment: Mapping[str, str]) -> None:
    """Cancel those of these jobs that have not started. Raises slurm.SlurmError if SLURM does not answer.

    That ``scancel --state=PENDING 7_2`` should do; but scancel of 22.05 (tried) cancels all elements of the array 7 that wait.
    So it is used only if none of these is to stay. Else elements are held first: what is held cannot start before it is
    cancelled. If that fails they are let go, so that none waits for ever.
    """
    if not (wanted := set(jobs)):
        return
    waiting = _waiting(environment)
    torn = {clusters.array_of(job) for job in waiting - wanted}
    some = [job for job in wanted & waiting if clusters.array_of(job) in torn]
    if some:
        _control("hold", some, environment)
        try:
            slurm.cancel(sorted(_waiting(environment).intersection(some)), environment)
        except slurm.SlurmError:
            _control("release", some, environment)
            raise
    slurm.cancel(sorted((wanted & waiting).difference(some)), environment, pending_only=True)


def _control(what: str, jobs: Iterable[str], environment: Mapping[str, str]) -> None:
    for there, part in clusters.parts(jobs, environment):
        with contextlib.suppress(slurm.SlurmError):  # one that has just started can be neither held nor released
            slurm.run(["scontrol", what, ",".join(part)], there)


def _waiting(environment: Mapping[str, str]) -> set[str]:
    return {job for job, state in polling.ask(environment).items() if state.partition(" ")[0] == "PENDING"}
