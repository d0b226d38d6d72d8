"""Jobs that run several tasks at once: what they ask for, how many tasks fit, and what each of these gets of the node.

``cpus_per_task``, ``mem_gb`` and ``gpus_per_node`` say what one task needs, and a job asks for that as often as it runs tasks
at once. What is given under the names ``slurm_…`` is the whole job's.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..cpus import usable_cpus
from ..deaths import memory_limit
from ..options import Options

__all__ = ["Needs", "Node", "enter", "guess", "in_allocation", "is_exclusive", "job_options", "share"]

_SIZES = ("slurm_cpus_per_task", "slurm_ntasks_per_node", "tasks_per_node")  # with these a job's CPUs are given as a whole
_CPUS_OF_A_TASK = ("SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Needs:
    """What one task needs; 0 where nothing was said."""

    cpus: int = 0
    memory: int = 0
    """Bytes."""
    gpus: int = 0

    @classmethod
    def of(cls, options: Options) -> Needs:
        job = options.job
        memory = int(float(job.get("mem_gb") or 0) * 1024**3)
        return cls(int(job.get("cpus_per_task") or 0), memory, int(job.get("gpus_per_node") or 0) or int(options.gpus))

    def words(self) -> list[str]:
        """As arguments of a job's command."""
        given = {"--cpus": self.cpus, "--memory": self.memory, "--gpus": self.gpus}
        return [word for name, value in given.items() if value for word in (name, str(value))]


def job_options(options: Options) -> Mapping[str, Any]:
    """The job options of a job, whose tasks at once may be several."""
    if not options.several:
        return options.job
    job, count = dict(options.job), options.tasks_at_once
    if isinstance(count, int):
        if not any(job.get(name) for name in _SIZES):
            job["cpus_per_task"] = count * (job.get("cpus_per_task") or 1)
        job.update({name: count * job[name] for name in ("mem_gb", "gpus_per_node") if job.get(name)})
    elif is_exclusive(job) and job.pop("mem_gb", None) is not None:
        job.setdefault("slurm_mem", "0")  # all of the node's: --exclusive alone gives a job all of its CPUs, but not that
    return job


def is_exclusive(job: Mapping[str, Any]) -> bool:
    """Whether jobs with these options have their nodes to themselves."""
    return bool(job.get("slurm_exclusive")) or "exclusive" in (job.get("slurm_additional_parameters") or {})


def in_allocation(options: Options) -> Options:
    """Options as they hold for jobs in an allocation, whose nodes are there in any case."""
    return replace(options, executor="allocation", tasks_at_once=options.tasks_at_once or (None if options.strict else "auto"))


def guess(options: Options) -> int:
    """How many tasks a job runs at once, as long as none has said it."""
    if not options.several:
        return 1
    if isinstance(options.tasks_at_once, int):
        return options.tasks_at_once
    job, each = options.job, _count(options.job, "cpus_per_task")
    if options.executor in ("local", "allocation"):
        return max(1, Node.here(os.environ).cpus // each)
    if is_exclusive(job):
        return max(1, (os.cpu_count() or 1) // each)  # perhaps the nodes are as large as this machine
    tasks = _count(job, "slurm_ntasks_per_node", _count(job, "tasks_per_node"))
    return max(1, tasks * _count(job, "slurm_cpus_per_task", each) // each)


def _count(job: Mapping[str, Any], name: str, default: int = 1) -> int:
    text = str(job.get(name) or "")
    return int(text) if text.isdigit() else default


@dataclass(frozen=True)
class Node:
    """What a job has of the node it runs on."""

    cpus: int
    memory: int
    """Bytes."""
    gpus: tuple[str, ...]
    """As the variables have them that show them to programs."""

    @classmethod
    def here(cls, environment: Mapping[str, str]) -> Node:
        """What this process's job has, or where there is none, this machine."""
        told = environment.get("SLURM_CPUS_ON_NODE", "")
        cpus = int(told) if told.isdigit() and int(told) else usable_cpus()
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), memory_limit()]
        for name, times in (("SLURM_MEM_PER_NODE", 1), ("SLURM_MEM_PER_CPU", cpus)):
            limits.append(int(environment[name]) * times * 1024**2 if environment.get(name, "").isdigit() else 0)
        shown = [_devices(value) for name, value in environment.items() if _shows_devices(name)]
        return cls(cpus, min(filter(None, limits)), tuple(shown[0] if shown else _devices_of_machine()))

    def fits(self, needs: Needs) -> int:
        """How many tasks can run at once: by CPUs, and by memory and GPUs where they are said to need any."""
        counts = [self.cpus // max(1, needs.cpus)]
        if needs.memory:
            counts.append(self.memory // needs.memory)
        if needs.gpus:
            counts.append(len(self.gpus) // needs.gpus)
        return max(1, min(counts))


def _shows_devices(name: str) -> bool:
    return name.endswith("_VISIBLE_DEVICES") or name == "GPU_DEVICE_ORDINAL"


def _devices(value: str) -> list[str]:
    return [device for device in value.split(",") if device]


def _devices_of_machine() -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(name.removeprefix("nvidia") for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name))
    return []


def share(items: Sequence[_Item], index: int, count: int) -> list[_Item]:
    """What the task at this place gets where `count` tasks share; a whole one, with others, where there are less than tasks."""
    size = len(items)
    mine = list(items[index * size // count : (index + 1) * size // count])
    return mine or [items[index % size]] if size else []


def enter(node: Node, needs: Needs, index: int, count: int) -> None:
    """Make this process, and what it starts, keep to its part of the node: CPUs, GPUs, and what variables say of both.

    CPUs are bound only where the job has all those that it may run on: where SLURM does not confine jobs, others would bind
    theirs to the same.
    """
    in_job = "SLURM_JOB_ID" in os.environ
    allowed = os.sched_getaffinity(0)
    if in_job and len(allowed) == node.cpus >= count:
        os.sched_setaffinity(0, share(sorted(allowed, key=_core), index, count))
    for name in [name for name in os.environ if _shows_devices(name)]:
        os.environ[name] = ",".join(share(_devices(os.environ[name]), index, count))
    if needs.gpus and node.gpus and not any(map(_shows_devices, os.environ)):
        os.environ.update(CUDA_VISIBLE_DEVICES=",".join(share(node.gpus, index, count)))
    if in_job:
        cpus = str(needs.cpus or max(1, node.cpus // count))
        os.environ.update({name: cpus for name in _CPUS_OF_A_TASK if name in os.environ or name == _CPUS_OF_A_TASK[0]})
        memory = os.environ.get("SLURM_MEM_PER_NODE", "")
        if memory.isdigit():  # else the srun of one task would ask for the memory of all
            os.environ["SLURM_MEM_PER_NODE"] = str(int(memory) // count)


def _core(cpu: int) -> tuple[int, int]:
    """For sorting: the CPUs of one core side by side, so that tasks do not share cores."""
    try:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        return int(re.split("[,-]", siblings)[0]), cpu
    except (OSError, ValueError):
        return cpu, cpu
