"""What a run has seen of its nodes: on which of them tasks fail that run elsewhere, or jobs do not even start.

A failure that may be the node's doing proves nothing: the same module may be missing everywhere. What counts is what becomes
of the same task on another node. Until that is known the node is a suspect, and avoided if there are others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection

__all__ = ["Nodes"]

logger = logging.getLogger("nornir_pools")

STILLBORN = 2  # jobs on a node that ended before they could take a task: the next would end so, too


class Nodes:
    """The nodes of one run, by the scheduler's names. An empty name stands for a node that is not known."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._good: set[str] = set()  # tasks have run there
        self._bad: set[str] = set()  # a task has failed there that ran elsewhere
        self._handed_back: dict[int, dict[str, str]] = {}  # task -> the nodes where it failed, and what is to be told of each
        self._stillborn: Counter[str] = Counter()
        self._told: set[str] = set()
        self._warned = False

    def to_avoid(self) -> frozenset[str]:
        """The nodes that jobs are better kept away from, if there are others."""
        holes = {node for node, count in self._stillborn.items() if count >= STILLBORN}
        # A task that has failed on two nodes is itself to blame, as far as is known.
        suspects = {node for nodes in self._handed_back.values() if len(nodes) == 1 for node in nodes}
        return frozenset(self._bad | holes | suspects)

    def is_good_elsewhere(self, node: str) -> bool:
        """Whether tasks have run on another node."""
        return bool(self._good - {node})

    def note_handed_back(self, node: str, number: int, why: str) -> None:
        """A worker has handed a task back; `why` is told if that turns out to be the node's doing."""
        if not node:
            return
        self._handed_back.setdefault(number, {})[node] = why
        if not self._warned:  # if it is the task's own fault, its error comes only after two more jobs
            self._warned = True
            logger.warning(
                "pool %r: node %s may lack something: %s; such tasks are tried again elsewhere first", self._pool, node, why
            )

    def note_end(self, node: str, number: int, *, ran: bool) -> bool:
        """A task has ended on a node, where nothing was missing if it `ran`; returns whether what to avoid may have changed."""
        failed = self._handed_back.pop(number, {})
        if not ran:
            return bool(failed)
        if node:
            self._good.add(node)
        for other, why in failed.items():
            if other != node:
                self._bad.add(other)
                self.tell(other, f"{why}, but not on {node}")
        return bool(failed) or self._stillborn.pop(node, None) is not None

    def note_stillborn(self, node: str, avoids: Collection[str]) -> bool:
        """A job has ended before it could take a task, on a node, though it was kept away from `avoids`.

        Returns whether that is news: not if it was sent before it was known that the node is to be avoided.
        """
        if not node:
            return True
        known = node in self.to_avoid() and node not in avoids
        self._stillborn[node] += 1
        return not known

    def absolve_stillborn(self) -> None:
        """Jobs do not start on other nodes either."""
        self._stillborn.clear()

    def tell(self, node: str, why: str) -> None:
        """Say once that a node is avoided, if it is."""
        if node not in self._told and node in self.to_avoid():
            self._told.add(node)
            logger.warning("pool %r: jobs are kept away from node %s from now on: %s", self._pool, node, why)
