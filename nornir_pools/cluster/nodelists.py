"""What SLURM says of nodes: on which a job ran, and which could take one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from . import slurm

__all__ = ["first_node", "node_of", "usable_nodes"]

_FLAGS = "~#!%@^+-"  # asleep, waking, about to restart; not "*": does not answer
_USABLE = ("ALLOCATED", "COMPLETING", "IDLE", "MIXED", "PLANNED", "RESERVED")


def first_node(nodes: str) -> str:
    """The first name in a list such as "n[03-05],n9"; empty if there is none."""
    name = re.sub(r"\[(\d+)[^\]]*\]", r"\1", nodes.strip()).split(",")[0]
    return "" if " " in name or name.startswith("(") else name  # "None assigned", "(null)"


def node_of(job: str, environment: Mapping[str, str]) -> str:
    """Where a job runs or ran that the controller still knows; empty if it does not. Raises slurm.SlurmError."""
    return first_node(slurm.node_list(job, environment, seconds=5))


def usable_nodes(partition: str | None, environment: Mapping[str, str]) -> set[str]:
    """The nodes of a partition (of several, "a,b"; of the default one) that take jobs, or will when those they have are done.

    Raises slurm.SlurmError.
    """
    wanted = partition.split(",") if partition else []
    nodes = set()
    for line in slurm.run(["sinfo", "-h", "-N", "-o", "%N|%T|%P"], environment, seconds=20).splitlines():
        name, state, place = [*line.strip().split("|"), "", ""][:3]
        if state.rstrip(_FLAGS).upper() in _USABLE and (place.rstrip("*") in wanted if wanted else place.endswith("*")):
            nodes.add(name)
    return nodes
