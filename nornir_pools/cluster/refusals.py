"""What becomes of tasks whose jobs SLURM does not take, or takes and will never start."""

from __future__ import annotations

import logging
import time

from . import answers
from .jobs import Group
from .ledger import Ledger
from .obituary import refusal
from .slurm import SlurmError

__all__ = ["Refusals"]

logger = logging.getLogger("nornir_pools")

GIVE_UP_SUBMITTING = 240.0  # seconds of refusals because the scheduler is busy or away
_NO_NODE = "PartitionConfig"  # a reason to wait that SLURM 22.05 has for what later versions refuse; but it may pass


class Refusals:
    """The refusals of one run."""

    def __init__(self, pool: str, ledger: Ledger) -> None:
        self._pool = pool
        self._ledger = ledger
        self._told: set[int] = set()  # of which groups it was said that their jobs may wait for ever

    def note(self, group: Group, count: int, error: Exception, *, served: bool) -> None:
        """sbatch has said no: try again later, perhaps with fewer, or fail the tasks. `served`: other jobs will take them."""
        now = time.monotonic()
        kind = answers.is_transient(str(error))
        group.refused_since = group.refused_since or now
        if kind == "limit" or (kind == "array" and count > 1):
            group.smaller = max(1, count // 2)
            group.not_before = now + (1.0 if count > 1 else 10.0)
        elif kind == "busy" and now - group.refused_since < GIVE_UP_SUBMITTING:
            group.not_before = now + 5.0
        elif served:
            group.not_before = now + 60.0  # the jobs there are will do
        else:
            self._ledger.fail_waiting(group, refusal(self._pool, error))
        if not group.said:
            group.said = True
            logger.warning("pool %r: SLURM did not take %d jobs: %s", self._pool, count, error)

    def note_reason(self, group: Group, reason: str) -> None:
        """A job of the group waits for this, says the scheduler."""
        if reason == _NO_NODE and group.number not in self._told:
            self._told.add(group.number)
            asked = ", ".join(f"{name}={value}" for name, value in group.options.job.items()) or "no options"
            logger.warning(
                "pool %r: SLURM lets jobs with %s wait (%s): none of the partition's nodes may have what they ask for; if that "
                "stays so they never start: cancel their tasks, and ask for less, or for another partition",
                self._pool,
                asked,
                reason,
            )

    def note_hopeless(self, group: Group, reason: str) -> None:
        """Jobs of the group wait for what will not come: so would the next."""
        self._ledger.fail_waiting(
            group,
            refusal(
                self._pool, SlurmError(f"it took it, but will never start it ({reason}); ask for what the partition allows")
            ),
        )
