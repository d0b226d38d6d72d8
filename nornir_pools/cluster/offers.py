"""How a worker finds its next task among those that wait, with others doing the same.

While one lists the folder, nobody can publish there or claim. So workers, who know from the pool roughly how many they are,
together look no more often than one of them alone would; and each tries to claim only its share of what it has seen, chosen
at random, so that they seldom meet.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection

from .signals import signals
from .spool import Spool

__all__ = ["Offers"]

_LOOK = 0.001  # seconds between two looks, of all workers together
_MOST = 64  # tasks that a worker tries to claim after one look


class Offers:
    """The waiting tasks of one group, as a worker of that name sees them; `heed` is told of the pool's words at each look."""

    def __init__(self, spool: Spool, group: int, worker: str, heed: Callable[[set[str]], None]) -> None:
        self.words: set[str] = set()
        """What the pool has left for workers."""
        self._spool = spool
        self._group = group
        self._worker = worker
        self._heed = heed
        self._seen: list[tuple[str, str]] = []  # (shard, task), to be claimed in turn
        self._looked = -1.0  # when
        self._lost_race = False

    def number(self, word: str, default: float) -> float:
        """The largest number that stands behind this word of the pool."""
        return max((float(said.partition(".")[2]) for said in self.words if said.startswith(f"{word}.")), default=default)

    def claim(self, standing: Collection[str]) -> str | None:
        """Claim one of the oldest waiting tasks; None if there is none. `standing` are claims of before, which the pool
        decides upon."""
        if (task := self._claim_seen()) is not None:
            return task
        # Over NFS a rename may have succeeded though its repeated request was told "no such file": a task that stands among
        # our claims is ours (we run one at a time).
        if self._lost_race and (owned := set(self._spool.claims(self._worker)).difference(standing)):
            return owned.pop()
        self._lost_race = False
        self._look()
        return self._claim_seen()

    def _claim_seen(self) -> str | None:
        while self._seen:
            shard, task = self._seen.pop()
            if self._spool.claim(self._group, shard, task, self._worker):
                return task
            self._lost_race = True
        return None

    def _look(self) -> None:
        workers = int(self.number("crowd", 1))
        if (pause := self._looked + workers * _LOOK * random.uniform(0.5, 1.5) - time.monotonic()) > 0:
            signals.sleep(pause)
        listing, self.words = self._spool.offers(self._group)
        self._looked = time.monotonic()
        self._heed(self.words)
        waiting: list[tuple[str, str]] = []
        for shard, tasks in listing:
            waiting += ((shard, task) for task in tasks)
            if len(waiting) >= workers * _MOST // 4:  # a longer list would take longer, and a shorter one be gone too soon
                break
        oldest = waiting[: workers * _MOST]
        self._seen = random.sample(oldest, -(-len(oldest) // workers))
