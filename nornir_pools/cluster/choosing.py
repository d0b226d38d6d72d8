"""Where a pool's jobs run, how many at once, and which of its options mean something there."""

from __future__ import annotations

import logging
import os
import sys

from ..errors import OptionError
from ..hosts import default_workers
from ..options import Options
from . import slurm
from .division import in_allocation

__all__ = ["choose_executor", "for_executor", "most_jobs"]

logger = logging.getLogger("nornir_pools")

_VARIABLE = "NORNIR_POOLS_EXECUTOR"
_IN_AN_ALLOCATION = {"cpus_per_task", "gpus_per_node", "mem_gb", "slurm_setup"}
_NO_END = 1 << 40


def choose_executor(options: Options, pool: str) -> str:
    """What the option `executor` of a pool comes to: "slurm", "allocation", "local" or "debug".

    Raises OptionError where what is wanted is not there.
    """
    wanted, folder = options.executor, options.slurm_bin
    if wanted != "debug" and not sys.platform.startswith("linux"):
        raise OptionError(
            f"pool {pool!r}: a cluster pool needs Linux, and this is {sys.platform}: use GetLocalMachinePool, whose pools take "
            'the same calls and commands, or executor="debug"'
        )
    if wanted in ("auto", "slurm") and os.environ.get(_VARIABLE) == "allocation":
        wanted = "allocation"  # so that a script which says how it submits jobs runs as it is under salloc
    if wanted == "allocation":
        _check_allocation(pool, folder)
    if wanted == "slurm" and slurm.program("sbatch", folder) is None:
        raise OptionError(
            f'pool {pool!r}: executor="slurm", but sbatch is not on PATH, nor where the option slurm_bin says; on a machine '
            'without SLURM use "local"'
        )
    if wanted != "auto":
        return wanted
    if slurm.is_available(folder):
        return "slurm"
    if slurm.program("sbatch", folder) is None and slurm.looks_installed():
        raise OptionError(
            f"pool {pool!r}: this machine belongs to a SLURM cluster, but sbatch is not on PATH; add SLURM's commands to PATH, "
            "or name their folder with slurm_bin= (NORNIR_POOLS_SLURM_BIN, or in nornir_pools.toml), or run on this "
            'machine with executor="local" (NORNIR_POOLS_EXECUTOR=local)'
        )
    logger.warning("pool %r: no SLURM here, so its jobs are processes of this machine", pool)
    return "local"


def _check_allocation(pool: str, folder: str) -> None:
    what = f'pool {pool!r}: executor="allocation"'
    if not os.environ.get("SLURM_JOB_ID"):
        raise OptionError(
            f"{what} runs tasks inside a SLURM job, and this process is in none (SLURM_JOB_ID is not set): start the script "
            "under salloc, as in `salloc --nodes=2 --exclusive python script.py`, or from an sbatch script; to have the pool "
            'submit jobs of its own use executor="slurm", and unset NORNIR_POOLS_EXECUTOR if that is set'
        )
    if slurm.program("srun", folder) is None:
        raise OptionError(f"{what}, but srun is not on PATH: add SLURM's commands to it, or name their folder with slurm_bin=")


def for_executor(options: Options, executor: str, pool: str) -> Options:
    """A pool's options as they are where its jobs run."""
    if executor != "allocation":
        return options
    ignored = sorted(options.job.keys() - _IN_AN_ALLOCATION)
    if ignored:
        logger.warning("pool %r: in an allocation these options mean nothing: %s", pool, ", ".join(ignored))
    return in_allocation(options)


def most_jobs(options: Options, executor: str) -> int:
    """How many jobs a pool has at once if it is not said."""
    if not options.max_jobs:
        return _NO_END  # who only prepares a run is not held back until there are workers
    if executor == "local":
        return 1 if options.tasks_at_once == "auto" else max(1, default_workers() // int(options.tasks_at_once or 1))
    return options.max_jobs
