"""Jobs that get far more CPUs than they ask for, which their tasks leave idle: whole nodes perhaps, which are billed whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .budget import cpus_of
from .jobs import Group

__all__ = ["IdleCpus"]

logger = logging.getLogger("nornir_pools")

ENOUGH = 60.0  # seconds that tasks of a group have run in all, before they are judged
MORE = 2  # times what was asked for: so much may also come of cores that are given whole, with two CPUs each
IDLE = 4  # of so many CPUs, less than one is used


class IdleCpus:
    """Watches what the tasks of one run use, and tells of idle CPUs once for each group of tasks."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._measured: dict[int, tuple[float, float]] = {}  # by group: seconds that tasks have run, and of CPU time

    def note(self, group: Group, facts: Mapping[str, Any]) -> None:
        """A task of the group has run. (Of one whose process has died nothing was measured.)"""
        asked = cpus_of(group.options)
        if group.set_aside <= MORE * asked or group.seen or "cpu" not in facts:
            return
        before, used = self._measured.get(group.number, (0.0, 0.0))
        seconds, used = before + facts["finished"] - facts["started"], used + facts["cpu"]
        self._measured[group.number] = seconds, used
        if before < ENOUGH <= seconds and used / seconds < group.set_aside / IDLE:
            logger.warning(
                "pool %r: SLURM has set aside %g CPUs for a job that asks for %d, and tasks have used %.1f of them so far; if "
                'that is a whole node, tasks_at_once="auto" has a job run as many tasks side by side as fit',
                *(self._pool, group.set_aside, asked, used / seconds),
            )
