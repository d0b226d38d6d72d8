"""Settings: every environment variable and configuration file that the package reads, each read when it is used.

========================= ==========================================================================================
MAX_PYTHON_THREADS        most workers of a pool of this machine (`ApplyOSThreadLimit`)
NORNIR_KEEP_PROCESS_POOLS 1: `CloseProcessPools` waits for pools and leaves them open
NORNIR_POOL_DIAG          1: a line in the log, at level INFO, for each call of a lifecycle function
NORNIR_PROFILE            a folder: each worker process is profiled, and a job's too (`profiling.py`)
NORNIR_POOLS_*            a default for the option of that name, e.g. NORNIR_POOLS_EXECUTOR, NORNIR_POOLS_SLURM_PARTITION
NORNIR_POOLS_PROGRESS     0: no progress bar while a terminal waits for a pool
NO_COLOR                  the command line's: set to anything, there are no colours; so where TERM is dumb
nornir_pools.toml         the same in the working folder, else in the user's configuration folder
SBATCH_ACCOUNT            and its like for partition, QOS, reservation, constraint and wckey: outside of jobs, what jobs ask for
                          where no option says it
SCRATCH                   where runs live if no folder is set
TMPDIR                    inside a job: where the folder is made that its tasks have as their own TMPDIR
SLURM_CLUSTERS            the clusters that jobs are sent to, where the option `slurm_clusters` does not say it
SLURM_CPUS_PER_TASK       inside a job: how many CPUs it has; and SLURM_CPUS_ON_NODE
OMP_NUM_THREADS           and its like for MKL, OpenBLAS, numexpr and ITK: where they are not set, a task in another
                          process gets them, with the CPUs that are its own (`cpus.py`)
========================= ==========================================================================================
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cpus import usable_cpus
from .errors import OptionError

__all__ = ["environment_options", "file_options", "is_on", "limit_threads", "slurm_bin", "usable_cpus", "wants_progress"]

PREFIX = "NORNIR_POOLS_"
PROGRESS = "NORNIR_POOLS_PROGRESS"  # is no option of a pool
SLURM_BIN = "NORNIR_POOLS_SLURM_BIN"
FILE_NAME = "nornir_pools.toml"
MOST_ON_WINDOWS = 1024  # workers of a pool


def limit_threads(number: int | None) -> int | None:
    """`number`, or MAX_PYTHON_THREADS if that is set and smaller; None stays None."""
    text = os.environ.get("MAX_PYTHON_THREADS")
    limit = None
    if text is not None:
        try:
            limit = int(text)
        except ValueError:
            limit = 0
        if limit < 1:
            raise OptionError(f"the environment variable MAX_PYTHON_THREADS must be a whole number of at least 1, not {text!r}")
    if os.name == "nt":  # pragma: no cover - Windows
        limit = MOST_ON_WINDOWS if limit is None else min(limit, MOST_ON_WINDOWS)
    if number is None or limit is None:
        return number
    return min(number, limit)


def is_on(name: str) -> bool:
    """Whether a variable of the environment says yes."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def environment_options() -> dict[str, tuple[Any, str]]:
    """Options from NORNIR_POOLS_* variables: name -> (value, where it stands)."""
    return {
        name[len(PREFIX) :].lower(): (_parse(text), f"the environment variable {name}")
        for name, text in os.environ.items()
        if name.startswith(PREFIX) and name != PROGRESS
    }


def wants_progress() -> bool:
    """Whether the user has not said, with NORNIR_POOLS_PROGRESS, that waits are to show nothing."""
    return os.environ.get(PROGRESS, "").lower() not in ("0", "false", "no", "off")


def slurm_bin(environment: Mapping[str, str]) -> str:
    """The option `slurm_bin` of that environment, else of the configuration file. Raises OptionError if that is broken."""
    folder = environment.get(SLURM_BIN)
    if folder is None:
        folder, place = file_options().get("slurm_bin", ("", ""))
        if not isinstance(folder, str):
            raise OptionError(f"the option 'slurm_bin' in {place} must be a text, not {folder!r}")
    return folder


def _parse(text: str) -> Any:
    """Numbers, true/false, lists and mappings are written as in JSON; anything else is a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def file_options() -> dict[str, tuple[Any, str]]:
    """Options from the configuration file: name -> (value, where it stands). Raises OptionError with file and line."""
    import platformdirs

    for folder in (Path.cwd(), Path(platformdirs.user_config_dir("nornir_pools"))):
        path = folder / FILE_NAME
        try:
            with path.open("rb") as file:
                _check_owner(path, os.fstat(file.fileno()))
                content = file.read()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except IsADirectoryError:
            raise OptionError(f"{path} is a folder, not a file of options") from None
        return {name: (value, str(path)) for name, value in _load(path, content).items()}
    return {}


def _check_owner(path: Path, status: os.stat_result) -> None:
    """The file holds lines that a shell will run, so nobody else may be able to write it."""
    if not hasattr(os, "geteuid"):  # pragma: no cover - Windows
        return
    if status.st_uid not in (0, os.geteuid()):
        raise OptionError(f"{path} belongs to another user (uid {status.st_uid}) and is not read; make a copy of your own")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OptionError(f"{path} can be written by others and is not read; run: chmod go-w {path}")


def _load(path: Path, content: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # pragma: no cover
        import tomli as tomllib
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OptionError(f"{path} is not valid TOML: no UTF-8 (at line {line})") from None
    except tomllib.TOMLDecodeError as error:  # its text names line and column
        raise OptionError(f"{path} is not valid TOML: {error}") from None
