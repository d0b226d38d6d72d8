"""What a run has seen of its nodes: on which of them tasks fail that run elsewhere, or jobs do not even start.

A failure that may be the node's doing proves nothing: the same module may be missing everywhere. What counts is what becomes
of the same task on another node. Until that is known the node is a suspect, and avoided as long as there are others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection

__all__ = ["Nodes"]

logger = logging.getLogger("nornir_pools")

STILLBORN = 2  # jobs that ended on a node before their workers were up, and none that came up since: the next would end so, too


class Nodes:
    """The nodes of one run, by the scheduler's names. An empty name, of a node that is not known, is nobody's."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._known: set[str] = set()  # workers have been up there
        self._good: set[str] = set()  # tasks have run there
        self._bad: set[str] = set()  # a task has failed there that ran elsewhere
        self._handed_back: dict[int, dict[str, str]] = {}  # task -> the nodes where it failed, and what is to be told of each
        self._stillborn: Counter[str] = Counter()
        self._told: set[str] = set()

    def to_avoid(self) -> frozenset[str]:
        """The nodes that jobs are better kept away from; never all of those where workers have been up."""
        bad = self._bad | {node for node, count in self._stillborn.items() if count >= STILLBORN}
        # Who has failed on two nodes is to blame himself, as far as is known.
        suspects = {node for nodes in self._handed_back.values() if len(nodes) == 1 for node in nodes}
        for avoided in (bad | suspects, bad):
            if self._known - avoided:
                return frozenset(avoided)
        return frozenset(bad - self._known)

    def is_good_elsewhere(self, node: str) -> bool:
        """Whether tasks have run on another node."""
        return bool(self._good - {node})

    def note_up(self, node: str) -> None:
        """A worker is up."""
        if node:
            self._known.add(node)
            del self._stillborn[node]

    def note_handed_back(self, node: str, number: int, why: str) -> None:
        """A worker has handed a task back; `why` is told if that turns out to be the node's doing."""
        if node:
            self._handed_back.setdefault(number, {})[node] = why

    def note_end(self, node: str, number: int, *, ran: bool) -> bool:
        """A task has ended on a node, where nothing was missing if it `ran`; returns whether that tells about other nodes."""
        if ran and node:
            self._good.add(node)
        failed = self._handed_back.pop(number, None)
        if failed is None:
            return False
        if ran:
            for other, why in failed.items():
                if other != node:
                    self._bad.add(other)
                    self._tell(other, f"{why}, but not on {node}")
        return True

    def note_stillborn(self, node: str, why: str, avoids: Collection[str]) -> bool:
        """A job has ended before its worker was up, though it was kept away from `avoids`.

        Returns whether that is news: not if such a job was sent before it was known that the node is to be avoided.
        """
        if not node:
            return True
        known = node in self.to_avoid() and node not in avoids
        self._stillborn[node] += 1
        if self._stillborn[node] >= STILLBORN:
            self._tell(node, why)
        return not known

    def absolve_stillborn(self) -> None:
        """Jobs do not start on other nodes either."""
        self._stillborn.clear()

    def _tell(self, node: str, why: str) -> None:
        if node not in self._told:
            self._told.add(node)
            logger.warning("pool %r: jobs are kept away from node %s from now on: %s", self._pool, node, why)
