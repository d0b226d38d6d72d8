"""The workers of a job that runs several tasks at once. Each is a worker like any other; all that it knows of its mates is
whether they have work: as long as one has, none leaves for want of it, and of those without work one looks for it."""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Sequence
from typing import Any

from .signals import signals
from .spool import Spool
from .worker import Worker

__all__ = ["Company", "Mate"]

_SELDOM = 4.0  # seconds between two looks of an idle worker while another one looks for it
_GLANCE = 0.25  # seconds between two glances at what the others have found
_IDLE_NOTICE = 1.0  # seconds after which an idle worker says so


class Company:
    """What the workers of a job tell each other, in memory that they share."""

    def __init__(self, count: int) -> None:
        # By place: until when it had work (infinite: it has, negative: nobody is there), when it called the others.
        self._until = memoryview(mmap.mmap(-1, 8 * count)).cast("d")
        self._called = memoryview(mmap.mmap(-1, 8 * count)).cast("d")

    def take(self, place: int) -> None:
        """The worker at this place has taken a task; there may be more."""
        self._until[place] = math.inf
        self.call(place)

    def call(self, place: int) -> None:
        """The others are to look, too."""
        self._called[place] = time.monotonic()

    def rest(self, place: int) -> None:
        """It has no work."""
        self._until[place] = time.monotonic()

    def leave(self, place: int) -> None:
        """There is none at this place any more."""
        self._until[place] = -1.0

    @property
    def busy_until(self) -> float:
        """Until when one of them had work; infinite if one has."""
        return max(self._until)

    @property
    def called(self) -> float:
        """When one of them has called the others last."""
        return max(self._called)

    def looks(self, place: int) -> bool:
        """Whether it is for this one to look for tasks: the first of those that have none."""
        return not any(0 <= until < math.inf for until in self._until[:place])


class Mate(Worker):
    """One of `at_once` workers. They are numbered in the order in which they are started: the number is the place, but for
    those that follow another in its place."""

    def __init__(
        self,
        spool: Spool,
        group: int,
        job: str,
        *,
        company: Company,
        at_once: int,
        number: int,
        place: int,
        predecessors: Sequence[str],
        node: str,
        idle_seconds: float,
    ) -> None:
        post = f"{job}+{number}" if number else job
        super().__init__(spool, group, post, node=node, idle_seconds=idle_seconds, one_task=False)
        self.facts["job"] = job
        self._me["at_once"] = self._mates = at_once  # (the process it tells of is that of the crew, which ends them all)
        self.predecessors = list(predecessors)
        self.number = number
        self.place = place
        self.interrupted = False
        self._company = company

    @property
    def known(self) -> dict[str, Any]:
        """What each word of it tells."""
        return {**self.facts, **self._me}

    def _say(self, word: str, **facts: Any) -> None:
        self.interrupted |= facts.get("reason") == "interrupted"
        super()._say(word, **facts)

    def _claim_any(self) -> str | None:
        task = super()._claim_any()
        if task is not None:
            self._company.take(self.place)
        return task

    def _next_task(self) -> str | None:
        self._company.rest(self.place)
        since, noticed = time.monotonic(), False
        while (task := self._claim_any()) is None:
            now = time.monotonic()
            if not self._offers.words.isdisjoint(("stop", f"quit.{self.name}")):
                self._company.call(self.place)  # it may be for them as well
                return None
            if now - max(since, self._company.busy_until) >= self.idle_seconds:
                return None
            if now - since > _IDLE_NOTICE and not noticed:
                noticed = True
                self._say("idle")
            self._wait(now, min(max((now - since) * 0.02, 0.001), _GLANCE))
        return task

    def _wait(self, looked: float, pause: float) -> None:
        """Wait for the next look: while another one looks, until that has found something, or for long."""
        signals.sleep(pause)
        while not self._company.looks(self.place) and self._company.called < looked and time.monotonic() - looked < _SELDOM:
            signals.sleep(_GLANCE)
