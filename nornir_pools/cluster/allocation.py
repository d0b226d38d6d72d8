"""Jobs inside a SLURM job that runs already: on each of its nodes one, started with srun. Nothing is submitted.

For the pool such a job is one like any other: its id is that of the allocation, "-w" and a number, and it is alive as long as
SLURM shows its step. It comes to an end with its allocation, and for the same reason.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import settings
from ..cpus import cpus_of_nodes
from ..options import Options
from . import slurm
from .context import for_submission
from .division import in_allocation
from .launching import setup_lines, worker_command
from .local_launcher import START_SECONDS, LocalLauncher
from .names import allocation_of
from .polling import States, ask

__all__ = ["AllocationLauncher", "cpus_by_node", "ids_of_allocation"]


class _Step(NamedTuple):
    id: str
    node: str


class AllocationLauncher(LocalLauncher):
    """Jobs as steps of the allocation that this process is in."""

    poll_seconds = 10.0

    def __init__(self, run: Path, environment: Mapping[str, str]) -> None:
        # What the allocation has left in the environment srun would take for options.
        self._slurm = for_submission(environment)
        super().__init__(run, {name: value for name, value in self._slurm.items() if name != settings.SLURM_BIN})
        self._srun = slurm.program("srun", environment.get(settings.SLURM_BIN, "")) or "srun"
        self._id, self._allocation = ids_of_allocation(environment)
        self._cpus = environment.get("SLURM_JOB_CPUS_PER_NODE", "")
        self._list = environment.get("SLURM_JOB_NODELIST", "")
        self.nodes = int(environment.get("SLURM_JOB_NUM_NODES") or 1)
        """How many there are."""
        self._nodes: dict[str, int] = {}  # with their CPUs, once they are known
        self._sent: dict[str, tuple[str, float]] = {}  # job -> its node, and when
        self._up: set[str] = set()  # those whose workers have said so
        self._overlap: list[str] | None = None

    def start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        state = slurm.states(self._slurm).get(self._allocation, "COMPLETED")
        if slurm.is_over(state):
            raise slurm.SlurmError(
                f"the allocation {self._allocation} that it was to run in is over ({state}); ask for a longer one (salloc "
                '--time=), or have the pool submit jobs of its own (executor="slurm")'
            )
        self._nodes = self._nodes or cpus_by_node(self._names(), self._cpus)
        taken = self._taken()
        free = [node for node in self._nodes if node not in taken]
        chosen = ([node for node in free if node not in avoid] or free)[:count]
        jobs = [f"{self._allocation}-w{self._count + number}" for number in range(1, len(chosen) + 1)]
        self._count += len(jobs)
        self._sent.update((job, (node, time.monotonic())) for job, node in zip(jobs, chosen, strict=True))
        if jobs:
            words = [f"{job} {node} {self._nodes[node]}" for job, node in zip(jobs, chosen, strict=True)]
            self._spawn(self._command(options, group), words)
        return jobs

    def _names(self) -> list[str]:
        return slurm.run(["scontrol", "show", "hostnames", self._list], self._slurm).split()

    def _command(self, options: Options, group: int) -> str:
        """What starts a job: its id, node and CPUs are the shell's $0, $1 and $2."""
        if self._overlap is None:  # from 20.11 on, where steps would else keep each other out
            self._overlap = ["--overlap"] if "--overlap" in slurm.run(["srun", "--help"], self._slurm, seconds=20) else []
        words = [self._srun, f"--jobid={self._id}", "--nodes=1", "--ntasks=1", "--mem=0", "--mpi=none", "--input=none"]
        words += self._overlap
        chosen = f'--nodelist="$1" --cpus-per-task="$2" --job-name={shlex.quote(self._run.name)}."$0"'
        worker = f'exec {worker_command(self._run, in_allocation(options), group)} --step --job "$0"'
        inside = "\n".join([*setup_lines(options.job.get("slurm_setup")), worker])
        return f'exec {shlex.join(words)} {chosen} bash -c {shlex.quote(inside)} "$0"'

    def _taken(self) -> set[str]:
        """The nodes that have a job of this run, or will in a moment."""
        return {step.node for step in self._steps().values()} | {self._sent[job][0] for job in self._coming()}

    def _coming(self) -> list[str]:
        """The jobs that were started a moment ago and have not been heard of."""
        now = time.monotonic()
        return [job for job, (_, since) in self._sent.items() if job not in self._up and now - since < START_SECONDS]

    def _steps(self) -> dict[str, _Step]:
        """The steps of the allocation that are jobs of this run."""
        try:
            output = slurm.run(["squeue", "-h", "-s", "-j", self._id, "-o", "%i|%N|%j"], self._slurm)
        except slurm.SlurmError as error:
            if "Invalid job id" in str(error):  # it is over for long
                return {}
            raise
        found = {}
        for step, node, name in (row.strip().split("|", 2) for row in output.splitlines() if row.count("|") >= 2):
            run, _, job = name.rpartition(".")
            if run == self._run.name:
                found[job] = _Step(step, node)
        return found

    def note_up(self, job: str, pid: int, born: str, bare: bool = False) -> None:
        self._up.add(job)

    def states(self, age: float = 0.0) -> States:
        for starter, _ in list(self._starters.values()):
            starter.done()  # reaps submitit's process
        known = ask(self._slurm, age)
        # What ends an allocation ends its jobs. (There may be some in another, of a script that is dead.)
        found = {job: known[allocation_of(job)] for job in self._up.union(self._sent) if allocation_of(job) in known}
        if known.get(self._allocation) == "RUNNING":
            found = {job: state for job, state in found.items() if allocation_of(job) != self._allocation}
            found |= dict.fromkeys(self._coming(), "PENDING") | dict.fromkeys(self._steps(), "RUNNING")
        return States(found, known.asked)

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        if not pending_only:
            steps = self._steps()
            slurm.cancel([steps[job].id for job in jobs if job in steps], self._slurm)

    def endings(self, states: Mapping[str, str]) -> dict[str, slurm.Ending]:
        """They have ended as their allocation has, or, while that goes on, by themselves."""
        with contextlib.suppress(slurm.SlurmError):
            now = slurm.states(self._slurm)
            over = {name: now.get(name, "") for name in map(allocation_of, states)}
            over = {name: state for name, state in over.items() if not state or slurm.is_over(state)}
            told = {name: slurm.Ending(state) for name, state in over.items()}
            with contextlib.suppress(slurm.SlurmError):  # perhaps there is no accounting
                told.update(slurm.accounting(over, self._slurm) if over else {})
            return {job: told.get(allocation_of(job), slurm.Ending("FAILED")) for job in states}
        return {job: slurm.Ending(state if slurm.is_over(state) else "FAILED") for job, state in states.items()}


def ids_of_allocation(environment: Mapping[str, str]) -> tuple[str, str]:
    """The id of the job that this process is in, and how squeue shows it; empty if it is in none."""
    job, array = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_ARRAY_JOB_ID", "")
    return job, f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else job


def cpus_by_node(nodes: Sequence[str], counts: str) -> dict[str, int]:
    """How many CPUs an allocation has on each of its nodes; `counts` is as in SLURM_JOB_CPUS_PER_NODE. At least one."""
    return dict(zip(nodes, [*cpus_of_nodes(counts), *[1] * len(nodes)], strict=False))
