"""What a pool would send to the scheduler, and the most it can cost, without sending anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from . import clusters, slurm
from .budget import cpus_of
from .context import for_submission
from .division import guess, is_exclusive, job_options
from .launcher import Executor, partition_of
from .launching import worker_command

if TYPE_CHECKING:
    from .pool import ClusterPool

__all__ = ["Plan", "minutes_of", "plan_of"]


@dataclass(frozen=True)
class Plan:
    """What a number of tasks would be run with."""

    executor: str
    """"slurm", "allocation", "local" or "debug"."""
    tasks: int
    jobs: int
    """The most jobs at once."""
    cpus: int
    """CPUs of a job."""
    minutes: float | None
    """The time limit of a job; None: there is none, or it is not known."""
    limit: str
    """The time limit in words."""
    core_hours: float | None
    """The most it can cost, without tries that follow on the failure of a job: each task in a job of its own that runs to
    its time limit. None without a limit, where no jobs are sent, and where they get whole nodes, which may be of any size."""
    budget: float | None
    """The core-hours at which the pool stops: its option `budget_core_hours`."""
    script: str
    """The sbatch script of the jobs; "" where no jobs are sent. Run folder and job name stand for those to come."""


def plan_of(pool: ClusterPool, tasks: int) -> Plan:
    """The plan of a pool for that many tasks with its own options."""
    options, budget = pool.options, pool.options.budget_core_hours
    jobs = max(1, min(-(-tasks // guess(options)), pool.num_threads))
    if pool.executor != "slurm":
        limit = "that of the allocation" if pool.executor == "allocation" else "none: processes of this machine"
        return Plan(pool.executor, tasks, jobs, 1, None, limit, None, budget, "")
    run = Path(pool.runs_folder) / f"{pool.name}-RUN"
    executor = Executor(run / "jobs", python=options.python or None)
    executor.update_parameters(**executor.parameters_of(job_options(options), run.name))
    executor.parameters["map_count"] = jobs
    script = executor._make_submission_file_text(worker_command(run, options, 0), run.name)
    given = executor.parameters.get("time")
    there = {**for_submission(pool.environment), settings.SLURM_BIN: options.slurm_bin}
    there = clusters.on(there, clusters.asked_in(options.job, there))
    limit = f"{given} min" if given else slurm.default_time(partition_of(executor.parameters, there), there)
    minutes = float(given) if isinstance(given, (int, float)) else minutes_of(str(given or limit.split(" ")[0]))
    cpus = cpus_of(replace(options, job=job_options(options), tasks_at_once=None))
    hours = None if minutes is None or is_exclusive(options.job) else tasks * cpus_of(options) * minutes / 60
    return Plan("slurm", tasks, jobs, cpus, minutes, limit, hours, budget, script)


def minutes_of(text: str) -> float | None:
    """Minutes from SLURM's way of writing a time: 30, 30:00, 1:30:00, 2-0, 2-12:30; None if it is none, or unlimited."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        return None
    days, first, second, third = match.groups()
    if days is not None:
        return int(days) * 1440 + int(first) * 60 + int(second or 0) + int(third or 0) / 60
    if third is not None:
        return int(first) * 60 + int(second) + int(third) / 60
    return int(first) + int(second or 0) / 60
