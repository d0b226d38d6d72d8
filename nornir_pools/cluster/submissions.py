"""Sending jobs: what is sent is journalled first, and what the scheduler says to it decides what is done next."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence

from .answers import is_doubtful
from .endings import Endings
from .history import History
from .jobs import Group, Job
from .launching import Launcher
from .refusals import Refusals
from .spool import Spool
from .talker import Answer, Talker

__all__ = ["Submissions"]

logger = logging.getLogger("nornir_pools")

BETWEEN = 1.0  # seconds from one submission for a group to the next, at least


class Submissions:
    """The submissions of one run; the jobs they lead to come into `jobs`."""

    def __init__(
        self,
        spool: Spool,
        launcher: Launcher,
        talker: Talker,
        endings: Endings,
        refusals: Refusals,
        jobs: dict[str, Job],
    ) -> None:
        self._spool = spool
        self._launcher = launcher
        self._talker = talker
        self._endings = endings
        self._refusals = refusals
        self._jobs = jobs
        self._count = 0
        self._on_their_way: dict[str, int] = {}  # submissions without an answer: how many jobs of their groups' `launching`

    def restore(self, history: History, groups: Sequence[Group]) -> None:
        """Go on where another process has stopped; it may have died while sbatch's answer was on its way."""
        self._count = len(history.sendings)
        for sending in history.sendings.values():
            if not sending.answered:
                self._note_order(sending.name, groups[sending.group], sending.count)
                self._talker.ask(functools.partial(self._find, sending.name, groups[sending.group]))

    def _find(self, name: str, group: Group) -> Answer:
        try:
            ids = self._launcher.find(name)
        except Exception as error:
            logger.info("whether SLURM has taken the jobs %s is not known: %s", name, error)
            # In the journal it stays without an answer: whoever takes the run over next asks again.
            return functools.partial(self._note_answer, name, group)
        return lambda: self._started(group, name, ids, frozenset())

    def send(self, group: Group, count: int) -> None:
        """Have so many jobs sent for a group."""
        avoid = self._endings.avoid(group)
        self._count += 1
        name = f"{self._spool.path.name}-{self._count}"
        # Journalled first: if this process dies before it has sbatch's answer, the jobs can be found by their name.
        self._spool.note(t="sending", name=name, group=group.number, count=count)
        group.not_before = time.monotonic() + BETWEEN

        def order() -> Answer:
            try:
                ids = self._launcher.start(group.options, group.number, count, name, avoid)
            except Exception as error:
                return functools.partial(self._refused, group, name, count, error)
            return lambda: self._started(group, name, ids, avoid)

        self._note_order(name, group, count)
        self._talker.ask(order)

    def _note_order(self, name: str, group: Group, count: int) -> None:
        self._on_their_way[name] = count
        group.launching += count

    def _note_answer(self, name: str, group: Group) -> None:
        """(An answer is taken in once more if the run's folder had a bad moment.)"""
        group.launching -= self._on_their_way.pop(name, 0)

    def _started(self, group: Group, name: str, ids: list[str], avoid: frozenset[str]) -> None:
        self._note_answer(name, group)
        group.refused_since = None
        for job in ids:
            self._jobs.setdefault(job, Job(job, group.number, log=self._spool.log_path(f"{job}.log"))).avoids = avoid
        self._spool.note(t="jobs", name=name, group=group.number, ids=ids)
        group.smaller *= 2  # where there was a limit, there may be more room by now

    def _refused(self, group: Group, name: str, count: int, error: Exception) -> None:
        self._note_answer(name, group)
        if not is_doubtful(str(error)):
            self._spool.note(t="refused", name=name, text=str(error))
        served = any(job.live for job in self._jobs.values() if job.group == group.number)
        self._refusals.note(group, count, error, served=served)
