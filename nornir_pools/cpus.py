"""How many CPUs this process may use, and how libraries that start threads of their own are told.

A machine's number of CPUs says little: a job, a container or ``taskset`` may allow fewer. And numpy, ITK or an OpenMP program
takes all that it sees, in each of the tasks that run side by side, unless a variable tells it otherwise.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["THREAD_VARIABLES", "cpus_of_nodes", "cpus_set_aside", "thread_counts", "usable_cpus"]

_LIKE_OMP = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")  # without theirs, these libraries go by OMP's
THREAD_VARIABLES = ("OMP_NUM_THREADS", *_LIKE_OMP, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
_OF_THE_JOB = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")

_own_cgroups = Path("/proc/self/cgroup")
_all_cgroups = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """How many CPUs this process may use, at least 1: those it may run on (as ``os.process_cpu_count`` has it), or fewer if
    its cgroup gets less time than that, or if it belongs to a SLURM job that has less."""
    if hasattr(os, "process_cpu_count"):  # pragma: no cover - from Python 3.13 on
        count = os.process_cpu_count() or 1
    else:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    of_the_job = [int(text) for name in _OF_THE_JOB if (text := os.environ.get(name, "")).isdigit()]
    return max(1, min([count, *filter(None, of_the_job), *_quotas()]))


def cpus_set_aside(environment: Mapping[str, str], executor: str) -> int:
    """How many CPUs the scheduler has set aside for a job with this environment, on all of its nodes, or for a step in an
    allocation, on its node; 0 where it has not said, or where the executor of the job's pool does without a scheduler.

    It may be more than was asked for: a node that is the job's alone, or whole cores where they are shared out by the core.
    """
    if executor == "allocation":
        return sum(cpus_of_nodes(environment.get("SLURM_CPUS_ON_NODE", "")))
    return sum(cpus_of_nodes(environment.get("SLURM_JOB_CPUS_PER_NODE", ""))) if executor == "slurm" else 0


def cpus_of_nodes(counts: str) -> list[int]:
    """The CPUs that a job has on each of its nodes, from SLURM_JOB_CPUS_PER_NODE: "8(x2),4" is [8, 8, 4]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
    return [int(count) for count, times in found for _ in range(int(times or 1))]


def thread_counts(threads: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that let libraries use so many threads, without those that the environment has set already.

    Where OMP_NUM_THREADS is set, the libraries that heed it are left to it.
    """
    set_already = set(environment) | (set(_LIKE_OMP) if "OMP_NUM_THREADS" in environment else set())
    return {name: str(threads) for name in THREAD_VARIABLES if name not in set_already}


def _quotas() -> Iterator[int]:
    """The CPU time that this process's cgroups may have, in CPUs, where it is limited; part of a CPU counts as one."""
    for folder in _cpu_cgroups():
        for place in (folder, *folder.parents):  # the limit may stand at any level; in a container, only the top is to be seen
            if not place.is_relative_to(_all_cgroups):
                break
            quota, period = _limit(place)
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)


def _limit(cgroup: Path) -> tuple[int, int]:
    """Microseconds of CPU time that a cgroup may have in so many microseconds; not above 0 if it has no limit."""
    try:
        words = (cgroup / "cpu.max").read_text().split()
        return (int(words[0]), int(words[1])) if words[0] != "max" else (0, 0)
    except (OSError, ValueError, IndexError):
        pass
    try:  # version 1
        return int((cgroup / "cpu.cfs_quota_us").read_text()), int((cgroup / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return 0, 0


def _cpu_cgroups() -> Iterator[Path]:
    """This process's cgroups that may limit CPU time."""
    try:
        lines = _own_cgroups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield _all_cgroups / path.lstrip("/")
        elif "cpu" in controllers.split(","):
            yield _all_cgroups / controllers / path.lstrip("/")
            yield _all_cgroups / "cpu" / path.lstrip("/")
