"""A worker's doubt about its node: failures that may be the node's doing are not published before more is known."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .child import Report
from .spool import HANDED_BACK, IN_DOUBT, Spool

__all__ = ["BadNodeError", "Doubt"]

_PROOF = 2  # tasks, the first of a worker, that have to fail by their environment to speak against the node


class BadNodeError(Exception):
    """The worker is to leave its node to others: "bad_node" by what it has seen itself, "avoided" by what the pool says.

    Or it leaves the run, since the pool's "initializer" has failed. `facts` say more of that.
    """

    facts: Mapping[str, str] = MappingProxyType({})


class Doubt:
    """What becomes of the outcomes of one worker. `node` is empty if tasks could not be tried on another one;
    `one_task`: the worker is there for a single task."""

    def __init__(self, spool: Spool, worker: str, node: str, *, one_task: bool) -> None:
        self.trusts = not node
        """Whether the node is no longer doubted: a task of this worker has shown that it is good."""
        self.kept: set[str] = set()
        """Tasks that have ended, and whose claims stand."""
        self._spool = spool
        self._worker = worker
        self._proof = 1 if one_task else _PROOF
        self._avoid = f"avoid.{node}"
        self._held: list[tuple[str, str]] = []  # those of the kept tasks, with their drafts, that the pool does not know of

    def heed(self, words: set[str]) -> None:
        """Raise BadNodeError if the pool says that the node is bad, unless this worker knows better."""
        if self._avoid in words and not self.trusts:
            raise BadNodeError("avoided")

    def deliver(self, task: str, report: Report, *, keep_claim: bool = False) -> bool:
        """Publish an outcome, or keep it back: then it returns False, and another task has to decide.

        `keep_claim`: an outcome that is published leaves its call to the pool. Raises BadNodeError when enough tasks speak
        against the node.
        """
        if self.trusts or not report.environment:
            self.trusts = True
            for held, draft in self._held:
                self._spool.deliver(draft, held, self._worker)
            self._held.clear()
            self._spool.deliver(report.draft, task, self._worker, keep_claim=keep_claim)
            return True
        self._held.append((task, report.draft))
        self.kept.add(task)
        if len(self.kept) >= self._proof:
            raise BadNodeError("bad_node")
        return False

    def hand_back(self, *, sure: bool) -> None:
        """Let the pool decide about what was kept back; `sure`: the node is bad as far as this worker can tell."""
        while self._held:
            task, draft = self._held.pop(0)
            self._spool.hand_back(draft, task, self._worker, HANDED_BACK if sure else IN_DOUBT)
