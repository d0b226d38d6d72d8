"""What kind of machine this is: whether it belongs to a SLURM cluster, and how many workers a pool here has by default."""

from __future__ import annotations

import os
from pathlib import Path

from .cpus import usable_cpus

__all__ = ["default_workers", "looks_installed"]

MODEST = 4  # workers of a pool, where many users share a machine

_told = False


def looks_installed() -> bool:
    """Whether this machine evidently belongs to a SLURM cluster, although ``sbatch`` may not be on PATH."""
    files = [
        os.environ.get("SLURM_CONF") or "/etc/slurm/slurm.conf",
        "/etc/slurm-llnl/slurm.conf",
        "/run/slurm/conf/slurm.conf",
    ]
    return any(Path(file).is_file() for file in files)


def default_workers() -> int:
    """How many workers a pool of this machine has if nobody has said it: as many as this process may use CPUs.

    Outside of jobs, on a machine from which jobs are sent, at most 4: it is shared. That is logged once.
    """
    global _told
    count = usable_cpus()
    if count <= MODEST or "SLURM_JOB_ID" in os.environ or not _sends_jobs():
        return count
    if not _told:
        import logging

        _told = True
        logging.getLogger("nornir_pools").warning(
            "jobs of a SLURM cluster are sent from this machine, which is shared: pools of worker processes or threads have %d "
            "workers here, for %d CPUs, unless num_threads= says otherwise",
            MODEST,
            count,
        )
    return MODEST


def _sends_jobs() -> bool:
    """As `IsClusterAvailable`, but without asking a controller, which takes time."""
    from shutil import which

    return looks_installed() and which("sbatch") is not None
