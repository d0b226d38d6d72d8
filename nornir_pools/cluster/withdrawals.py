"""Taking jobs out of the queue that have not started, and no others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from . import clusters, polling, slurm

__all__ = ["cancel_pending"]

_KNOWN = 10.0  # seconds: so long what SLURM has said will do


def cancel_pending(jobs: Iterable[str], environment: Mapping[str, str]) -> None:
    """Cancel those of these jobs that have not started. Raises slurm.SlurmError if SLURM does not answer.

    That ``scancel --state=PENDING 7_2`` should do; but scancel of 22.05 (tried) cancels all elements of the array 7 that wait.
    So it is used only if none of these is to stay. Else elements are held first: what is held cannot start before it is
    cancelled. If that fails they are let go, so that none waits for ever.
    """
    if not (wanted := set(jobs)):
        return
    states = polling.ask(environment, _KNOWN)  # that one has started since matters to neither of the two ways
    if not wanted <= states.keys():  # some are younger
        states = polling.ask(environment)
    waiting = _waiting(states)
    torn = {clusters.array_of(job) for job in waiting - wanted}
    some = [job for job in wanted & waiting if clusters.array_of(job) in torn]
    if some:
        _control("hold", some, environment)
        try:
            slurm.cancel(sorted(_waiting(polling.ask(environment)).intersection(some)), environment)
        except slurm.SlurmError:
            _control("release", some, environment)
            raise
    slurm.cancel(sorted((wanted & waiting).difference(some)), environment, pending_only=True)


def _control(what: str, jobs: Iterable[str], environment: Mapping[str, str]) -> None:
    for there, part in clusters.parts(jobs, environment):
        with contextlib.suppress(slurm.SlurmError):  # one that has just started can be neither held nor released
            slurm.run(["scontrol", what, ",".join(part)], there)


def _waiting(states: Mapping[str, str]) -> set[str]:
    return {job for job, state in states.items() if state.partition(" ")[0] == "PENDING"}
