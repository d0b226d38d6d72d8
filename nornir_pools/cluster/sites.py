"""What SLURM tells of a site: its limits, partitions and accounts, and what it thinks of a job, asked within a time limit.

For a person who wants to know what this place allows; pools need none of it. (Columns as in the manual pages of sacctmgr,
sinfo and scontrol, the same on 22.05 and 24.11.)
"""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import clusters, slurm

__all__ = ["Account", "Partition", "Qos", "accounts", "configuration", "default_account", "job_facts", "may_submit"]
__all__ += ["partitions", "qos_named", "seconds_of"]


@dataclass(frozen=True)
class Account:
    """An association: what this user may do under an account (in a partition, if it names one)."""

    name: str
    partition: str
    qos: tuple[str, ...]
    default_qos: str
    """That of jobs that name none; "" if nothing is set."""
    max_submit: int | None
    """Most jobs in the queue at once; None: no limit."""
    max_jobs: int | None
    """Most that run at once."""
    max_wall: str


@dataclass(frozen=True)
class Qos:
    """A quality of service, with what it lets a user do."""

    name: str
    max_submit: int | None
    """Most jobs of a user in the queue at once; None: no limit."""
    max_jobs: int | None
    """Most of them that run at once."""
    max_wall: str


@dataclass(frozen=True)
class Partition:
    """One partition that this user can see."""

    name: str
    default: bool
    up: bool
    limit: str
    """The longest time of a job, in SLURM's words."""
    nodes: str
    cpus: str
    """CPUs of a node."""
    memory: str
    """MB of a node."""


def configuration(environment: Mapping[str, str], seconds: float) -> dict[str, str]:
    """The settings of the controller. Raises SlurmError."""
    output = slurm.run(["scontrol", "show", "config"], environment, seconds=seconds)
    return dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", output, re.MULTILINE))


def partitions(environment: Mapping[str, str], seconds: float) -> list[Partition]:
    """Those that this user can see. Raises SlurmError."""
    output = slurm.run(["sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m"], environment, seconds=seconds)
    found: dict[str, Partition] = {}  # sinfo has a line for each kind of node
    for row in (line.split("|") for line in output.splitlines() if line.count("|") == 5):
        name, state, limit, nodes, cpus, memory = map(str.strip, row)
        found.setdefault(
            name.rstrip("*"),
            Partition(name.rstrip("*"), name.endswith("*"), state == "up", limit, nodes, cpus, memory.rstrip("+")),
        )
    return list(found.values())


def accounts(environment: Mapping[str, str], seconds: float) -> list[Account]:
    """This user's associations; none where the accounting knows nothing of the user. Raises SlurmError."""
    columns = "Account,Partition,QOS,DefaultQOS,MaxSubmit,MaxJobs,MaxWall"
    rows = _accounting(["assoc", "where", f"user={_user()}", f"format={columns}"], 7, environment, seconds)
    return [
        Account(name, partition, tuple(filter(None, qos.split(","))), default, _number(submit), _number(most), wall)
        for name, partition, qos, default, submit, most, wall in rows
    ]


def default_account(environment: Mapping[str, str], seconds: float) -> str:
    """The account of a job that names none; "" if there is no such. Raises SlurmError."""
    rows = _accounting(["user", "where", f"name={_user()}", "format=DefaultAccount"], 1, environment, seconds)
    return rows[0][0] if rows else ""


def qos_named(names: Sequence[str], environment: Mapping[str, str], seconds: float) -> list[Qos]:
    """The QOS of these names. Raises SlurmError."""
    columns = "Name,MaxSubmitPU,MaxJobsPU,MaxWall"
    rows = _accounting(["qos", "where", f"name={','.join(names)}", f"format={columns}"], 4, environment, seconds)
    return [Qos(name, _number(submit), _number(most), wall) for name, submit, most, wall in rows]


def _accounting(words: Sequence[str], columns: int, environment: Mapping[str, str], seconds: float) -> list[tuple[str, ...]]:
    output = slurm.run(["sacctmgr", "-n", "-P", "show", *words], environment, seconds=seconds)
    rows = [tuple(line.split("|")) for line in output.splitlines()]
    return [row for row in rows if len(row) == columns]


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may have no such name
        return str(os.geteuid())


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def may_submit(script: str, folder: str, environment: Mapping[str, str], seconds: float) -> None:
    """Have sbatch look at a script in that folder without submitting it. Raises SlurmError with its refusal."""
    slurm.run(["sbatch", "--test-only", script], environment, folder=folder, seconds=seconds)


def job_facts(job: str, environment: Mapping[str, str], seconds: float) -> dict[str, str]:
    """What the controller says of a job, also for some time after its end. Raises SlurmError."""
    ((there, (number,)),) = clusters.parts([job], environment)
    output = slurm.run(["scontrol", "-o", "show", "job", number], there, seconds=seconds)
    return dict(re.findall(r"(\w+)=(\S*)", output))


def seconds_of(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> float:
    """How long a SLURM command takes. Raises SlurmError if it fails, or takes longer than `seconds`."""
    begun = time.monotonic()
    slurm.run(command, environment, seconds=seconds)
    return time.monotonic() - begun
