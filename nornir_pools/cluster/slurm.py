"""What the package knows about SLURM's commands: how they are called, and what they answer. (How jobs are sent is in
launcher.py, what their states mean in states.py.)

Every call of a SLURM command has a time limit. Sources are the manual pages, and what was seen on 22.05.8 and on 24.11.5,
which have the same states, options and words for what is used here, but for:

- SLURM_JOB_END_TIME: only 24.11 sets it in jobs; squeue's %e is the same time on both
- sacct's MaxRSS: 3584K on 22.05 is 3.50M on 24.11, all else is in K on both
- sacct's exit code of a job whose node went down: 0:0 on 22.05, 1:0 on 24.11
- sacct's id of an array cancelled before it started: 7 on 22.05, 7_[0-3] on 24.11
- a job with more CPUs than any node: 22.05 lets it wait for "PartitionConfig", 24.11 refuses it

docs/reference/slurm-versions.md has what is used of SLURM, and since when that is there.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from .. import settings
from ..errors import OptionError
from ..hosts import looks_installed
from . import clusters
from .states import Ending, error_class, is_hopeless, is_over, is_requeued

__all__ = [
    "Ending",
    "SlurmError",
    "accounting",
    "cancel",
    "default_time",
    "error_class",
    "find_by_name",
    "is_available",
    "is_hopeless",
    "is_over",
    "is_requeued",
    "job_end",
    "looks_installed",
    "max_array_size",
    "node_list",
    "program",
    "queue",
    "run",
    "states",
]

TIME_LIMIT = 60.0  # seconds for a call of a SLURM command
_ON_CLUSTERS = frozenset({"sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue"})  # those with an option -M


class SlurmError(Exception):
    """A SLURM command failed; the text is what it said."""


def program(name: str, folder: str = "") -> str | None:
    """The path of a SLURM command: in that folder, in the one that the settings name, or on PATH. None: it is not there."""
    return shutil.which(name, path=os.path.expanduser(folder or settings.slurm_bin(os.environ)) or None)


def is_available(folder: str = "") -> bool:
    """Whether jobs can be submitted from here: ``sbatch`` is found, and a cluster is behind it.

    SLURM's packages alone, without a configuration, are no cluster. One whose controller is down for the moment is.
    """
    if program("sbatch", folder) is None:
        return False
    if looks_installed():
        return True
    try:  # a cluster may also give its configuration by DNS
        run(["scontrol", "ping"], {**os.environ, **({settings.SLURM_BIN: folder} if folder else {})}, seconds=20)
    except SlurmError as error:
        return "configuration source" not in str(error)
    return True


def run(
    command: Sequence[str], environment: Mapping[str, str], *, folder: str | None = None, seconds: float | None = None
) -> str:
    """Run a SLURM command and return what it printed. Raises SlurmError if it fails or takes longer than `seconds`."""
    seconds = TIME_LIMIT if seconds is None else seconds
    try:
        process = subprocess.Popen(
            _placed(command, environment),
            env=_handed_on(environment),
            cwd=folder,
            umask=-1 if folder is None else 0o077,  # of sbatch: a job's log is made with it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C must not end it halfway
        )
    except (OSError, OptionError) as error:  # (the file of options may be broken by now)
        raise SlurmError(f"{command[0]} cannot be started: {error}") from error
    with process:
        try:
            output, complaint = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            # With all that it has started: a site's wrapper must not go on to submit what we have given up.
            os.killpg(process.pid, signal.SIGKILL)
            raise SlurmError(f"{command[0]} timed out after {seconds:g} s") from error
    if process.returncode:
        raise SlurmError(complaint.strip() or output.strip() or f"{command[0]} gave exit status {process.returncode}")
    return output


def _handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a command, and with sbatch a job, gets: the choice of clusters is for this call alone."""
    rest = clusters.on(environment, "").items()
    return {name: value for name, value in rest if value or name != settings.SLURM_BIN}


def _placed(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command, from the folder that the options name, and for the clusters that the environment names."""
    name, *words = command
    if name in _ON_CLUSTERS and (wanted := environment.get(clusters.VARIABLE)):
        words = ["-M", wanted, *words]
    folder = "" if os.sep in name else os.path.expanduser(settings.slurm_bin(environment))
    return [os.path.join(folder, name), *words]


def queue(columns: str, environment: Mapping[str, str], seconds: float | None = None) -> dict[str, list[str]]:
    """Of each of this user's jobs that the controller still knows, array elements one by one, these columns of squeue's."""
    found = {}
    for cluster in clusters.names_in(environment):
        command = ["squeue", "-h", "-r", "-t", "all", "-u", str(os.geteuid()), "-o", f"%i|{columns}"]
        output = run(command, clusters.on(environment, cluster), seconds=seconds)
        count = columns.count("|") + 1  # the last may have bars in it
        rows = [line.strip().split("|", count) for line in output.splitlines()]
        found.update({clusters.id_on(job, cluster): rest for job, *rest in rows if len(rest) == count})
    return found


def states(environment: Mapping[str, str]) -> dict[str, str]:
    """The state of each of this user's jobs that the controller still knows, array elements one by one.

    A job that waits has the reason behind its state, if there is one yet, as in "PENDING Resources".
    """
    rows = queue("%T|%r", environment)
    return {
        job: f"{state} {reason}" if state == "PENDING" and reason != "None" else state for job, (state, reason) in rows.items()
    }


def find_by_name(name: str, environment: Mapping[str, str]) -> str | None:
    """The id of the job (for an array, of the whole) with this unique name, if need be behind the user's own; or None."""
    found = {
        clusters.array_of(job)
        for job, (given,) in queue("%j", environment).items()
        if given == name or given.endswith(f"-{name}")
    }
    return max(found, key=lambda job: int(job.partition("@")[0]), default=None)


def node_list(job: str, environment: Mapping[str, str], seconds: float) -> str:
    """The nodes of a job that the controller still knows, as SLURM writes lists of nodes. Raises SlurmError."""
    ((there, (number,)),) = clusters.parts([job], environment)
    return run(["squeue", "-h", "-t", "all", "-j", number, "-o", "%N"], there, seconds=seconds).strip()


def cancel(jobs: Iterable[str], environment: Mapping[str, str], *, pending_only: bool = False) -> None:
    """Cancel jobs; `pending_only`: those that have not started."""
    with contextlib.ExitStack() as calls:  # each is made, whatever SLURM says to another
        for there, part in clusters.parts(jobs, environment):
            calls.callback(run, ["scancel", *(["--state=PENDING"] if pending_only else []), *part], there)


def max_array_size(environment: Mapping[str, str]) -> int:
    """How many elements an array that starts at 0 may have here (its largest index is MaxArraySize - 1); 0 if unknown."""
    try:
        output = run(["scontrol", "show", "config"], environment, seconds=20)
    except SlurmError:
        output = ""
    sizes = [max(1, int(size)) for size in re.findall(r"MaxArraySize\s*=\s*(\d+)", output)]
    return min(sizes, default=0)  # (of several clusters the smallest)


def accounting(jobs: Iterable[str], environment: Mapping[str, str]) -> dict[str, Ending]:
    """What accounting has on record about the last runs of jobs that are over; nothing on those of which it does not know.

    Raises SlurmError if a call fails, so that it can be left alone for a while.
    """
    columns = "JobID,State,ExitCode,MaxRSS,ReqMem,NodeList"
    found: dict[str, Ending] = {}
    for there, part in clusters.parts(jobs, environment):
        output = run(["sacct", "-n", "-P", "-D", "-j", ",".join(part), "-o", columns], there, seconds=15)
        rows = [line.split("|") for line in output.splitlines() if line.count("|") == 5]
        used: dict[str, int] = {}
        for name, _, _, most, _, _ in rows:
            job = name.partition(".")[0]
            used[job] = max(used.get(job, 0), _bytes(most))
        for job, state, exit_code, _, asked, nodes in rows:
            if "." not in job and is_over(state):
                known = Ending(state, exit_code, used[job], _bytes(asked), nodes)
                found[clusters.id_on(job, there.get(clusters.VARIABLE, ""))] = known
    return found


def _bytes(text: str) -> int:
    """Bytes from SLURM's "1234K", "100M", "4Gn" (a trailing n or c, before 21.08: per node, per CPU)."""
    match = re.fullmatch(r"([\d.]+)([KMGTP]?)[nc]?", text)
    return int(float(match[1]) * 1024 ** " KMGTP".index(match[2] or " ")) if match else 0


def job_end(environment: Mapping[str, str]) -> float:
    """Inside a job: when it ends, in seconds since the epoch; infinite if it has no limit, or nobody says."""
    known = environment.get("SLURM_JOB_END_TIME", "")
    if known.isdigit():
        return float(known)
    try:
        here = clusters.on(environment, "")  # the job's own cluster is the one that commands talk to
        said = run(["squeue", "-h", "-j", environment["SLURM_JOB_ID"], "-o", "%e"], here, seconds=20).strip()
        return datetime.fromisoformat(said).timestamp()  # in the node's own time zone
    except (KeyError, SlurmError, ValueError):
        return math.inf


def default_time(partition: str | None, environment: Mapping[str, str]) -> str:
    """The time limit that a job gets that asks for none, in words."""
    columns = ["sinfo", "-h", "-o", "%P|%L", *(["-p", partition] if partition else [])]
    try:
        rows = [line.strip().split("|") for line in run(columns, environment, seconds=20).splitlines()]
    except SlurmError:
        return "the partition's default"
    for name, limit in (row for row in rows if len(row) == 2):
        if partition or name.endswith("*"):
            return f"{limit} (the default of partition {name.rstrip('*')})"
    return "the partition's default"
