"""Where a pool's jobs run: as jobs of SLURM, or as processes of this machine."""

from __future__ import annotations

import logging
import sys

from ..errors import OptionError
from ..options import Options
from . import slurm

__all__ = ["choose_executor"]

logger = logging.getLogger("nornir_pools")


def choose_executor(options: Options, pool: str) -> str:
    """What the option `executor` of a pool comes to: "slurm", "local" or "debug".

    Raises OptionError where what is wanted is not there.
    """
    wanted, folder = options.executor, options.slurm_bin
    if wanted != "debug" and not sys.platform.startswith("linux"):
        raise OptionError(
            f"pool {pool!r}: a cluster pool needs Linux, and this is {sys.platform}: use GetLocalMachinePool, whose pools take "
            'the same calls and commands, or executor="debug"'
        )
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
