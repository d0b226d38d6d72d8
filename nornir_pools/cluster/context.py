"""What travels with a task: working folder, module search path, umask, and what the script changed in its environment.

The environment a pool was made in reaches the jobs by the scheduler's export. A task carries only the differences of the
moment it was added, or where jobs are sent without (--export=NONE) all of it. Of these the job's own word wins where it has
one: for the variables of its scheduler and node, and for whatever a site's setup lines have set.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import sysconfig
import zlib
from collections.abc import Mapping, MutableMapping
from typing import Any

from ..cpus import thread_counts
from ..here import MANAGER_ADDRESS, MANAGER_KEY

__all__ = ["ContextReader", "Surroundings", "beside", "current_umask", "fingerprints", "for_submission", "leave_step"]

# Variables that belong to a job and its node; inside a job they must not come from the script that submitted it.
_OF_THE_JOB = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "PMI", "SUBMITIT_")
_OF_THE_NODE = ("TMPDIR", "HOSTNAME", "_")
# Of these, what srun has set for the processes of one step, and would take for its own options in another.
_OF_THE_STEP = (
    *("SLURM_STEP", "SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_ACCEL_BIND", "SLURM_SRUN_", "SLURM_PTY_", "SLURM_PMI"),
    *("SLURM_LAUNCH_NODE", "SLURM_DISTRIBUTION", "SLURM_GTIDS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_PROCID"),
    *("SLURM_TASK_PID", "SLURM_UMASK", "SRUN_", "PMI", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_TASKS_PER_NODE"),
    *("SLURM_OVERLAP", "SLURM_MPI_TYPE"),
)
# What a user or a site has set for every job: who pays, and where jobs go. (What else sbatch reads is the pool's to say.)
_ASKED_OF_ALL = frozenset(
    {"SBATCH_ACCOUNT", "SBATCH_CONSTRAINT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_WCKEY"}
)
# What holds for one machine, and is a secret: it must not be in a job's environment, where others may read it.
_OF_THIS_MACHINE = (MANAGER_ADDRESS, MANAGER_KEY)
_PYTHONS_OWN = frozenset(
    [*sysconfig.get_paths().values(), *(entry for entry in sys.path if entry.endswith((".zip", "lib-dynload")))]
)


def _is_jobs_own(name: str) -> bool:
    of_the_job = name.startswith(_OF_THE_JOB) and name != "SLURM_CONF"
    return of_the_job or name in (*_OF_THE_NODE, *_OF_THIS_MACHINE) or name.endswith("_VISIBLE_DEVICES")


def for_submission(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment to submit a job with: without what an outer job has left in it, which sbatch would take for options."""
    keep = {"SLURM_CONF", "SLURM_CLUSTERS"}
    if "SLURM_JOB_ID" not in environment:
        keep |= _ASKED_OF_ALL
    return {name: value for name, value in environment.items() if name in keep or not name.startswith(_OF_THE_JOB)}


def beside(script: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment to submit that script with: without variables that would win over its own lines."""
    return {
        name: value
        for name, value in environment.items()
        if not (name.startswith("SBATCH_") and f"\n#SBATCH --{name[len('SBATCH_') :].lower()}=" in script)
    }


def leave_step(environment: MutableMapping[str, str]) -> None:
    """Take away what the srun of a task would take for its own options: what belongs to the step that this process is in, if
    it is in one, and that jobs began without an environment, which tasks have again."""
    environment.pop("SLURM_EXPORT_ENV", None)
    if "SLURM_STEP_ID" in environment:
        for name in [name for name in environment if name.startswith(_OF_THE_STEP)]:
            del environment[name]


def fingerprints(environment: Mapping[str, str]) -> dict[str, str]:
    """Checksums of the values: enough to see that one was changed, and no secret is written down."""
    return {name: _checksum(value) for name, value in environment.items()}


def _checksum(value: str) -> str:
    return f"{zlib.crc32(value.encode('utf-8', 'surrogateescape')):08x}"


class ContextReader:
    """In the script: gives the context of this moment, as JSON; the same object as before if nothing has changed."""

    def __init__(self, base: Mapping[str, str], *, exported: bool = True) -> None:
        """`exported`: whether jobs begin with `base`; else all of it is in the context."""
        self.base = {name: value for name, value in base.items() if name not in _OF_THIS_MACHINE}
        self._there = self.base if exported else {}
        self._last: tuple[Any, bytes] = (None, b"")

    def read(self) -> bytes:
        """The context now. Raises OSError if the working folder is gone."""
        now = (os.getcwd(), list(sys.path), current_umask(), _raw_environment())
        if self._last[0] != now:
            self._last = (now, self._describe(*now[:3]))
        return self._last[1]

    def _describe(self, folder: str, path: list[str], umask: int) -> bytes:
        environment = dict(os.environ)
        changes: dict[str, str | None] = {
            name: value for name, value in environment.items() if self._there.get(name) != value and not _is_jobs_own(name)
        }
        changes.update(dict.fromkeys(name for name in self._there if name not in environment and not _is_jobs_own(name)))
        # "" is the folder of this moment. Python's own folders stand as None: a job has its own in their place.
        entries = [None if entry in _PYTHONS_OWN else os.path.abspath(entry) for entry in path]
        return json.dumps({"cwd": folder, "path": entries, "umask": umask, "environment": changes}, sort_keys=True).encode()


def _raw_environment() -> dict[Any, Any]:
    """A copy of the environment, to compare with another: undecoded, which spares decoding every variable for every task."""
    return dict(getattr(os.environ, "_data", os.environ))


def current_umask() -> int:
    """The umask, without changing it for a moment as os.umask would (other threads may be making files)."""
    fd = os.open("/proc/self/status", os.O_RDONLY)
    try:
        text = os.read(fd, 1024)
    finally:
        os.close(fd)
    start = text.index(b"Umask:") + len(b"Umask:")
    return int(text[start : text.index(b"\n", start)], 8)


class Surroundings:
    """In a worker: puts a context in place before each task, whatever the task before has left."""

    def __init__(self, fingerprints_of_script: Mapping[str, str], threads: int) -> None:
        """`threads`: how many the libraries of a task may start, where the user has not said it."""
        self._threads = threads
        self._job = dict(os.environ)
        self._path = list(sys.path)
        # What differs from the script's environment was set by the job: by the scheduler, the site or the setup lines.
        self._jobs_own = {name for name, value in self._job.items() if fingerprints_of_script.get(name) != _checksum(value)}
        self._entered: tuple[Any, Any] = (None, None)  # the last context's changes, and the environment they have led to

    def enter(self, context: Mapping[str, Any]) -> None:
        """Make folder, search path, umask and environment those of the context.

        Raises OSError if the folder cannot be entered on this node.
        """
        if self._entered != (context["environment"], _raw_environment()):
            self._change_environment(context["environment"])
        own = [entry for entry in self._path if entry not in context["path"]]
        first = context["path"].index(None) if None in context["path"] else len(context["path"])
        before, after = context["path"][:first], [entry for entry in context["path"][first:] if entry is not None]
        sys.path[:] = [*before, *own, *after]
        os.umask(context["umask"])
        os.chdir(context["cwd"])

    def _change_environment(self, changes: Mapping[str, str | None]) -> None:
        environment: dict[str, str | None] = dict(self._job)
        environment.update(
            (name, value) for name, value in changes.items() if name not in self._jobs_own and not _is_jobs_own(name)
        )
        given = {name: value for name, value in environment.items() if value is not None}
        os.environ.clear()
        os.environ.update({**given, **thread_counts(self._threads, given)})
        self._entered = changes, _raw_environment()

    def keep(self) -> None:
        """Have what has changed in the environment since `enter` stay for all tasks: it counts as the job's own from now on."""
        before, now = self._entered[1] or {}, _raw_environment()
        for key in before.keys() | now.keys():
            if before.get(key) != now.get(key):
                name = os.fsdecode(key)
                self._jobs_own.add(name)
                self._job.pop(name, None)
                if key in now:
                    self._job[name] = os.fsdecode(now[key])

    def leave(self) -> None:
        """Flush what the task has printed, so that it stands in the log before its outcome can be seen."""
        os.umask(0o077)  # for that
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the task may have closed it
                stream.flush()
