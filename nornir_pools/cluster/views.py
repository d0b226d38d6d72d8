"""What is known of a run, as data: for reports, the command line, and whoever else looks at a run from outside."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..deaths import is_alive
from ..errors import RunNotFoundError, SpoolError
from . import clusters, slurm
from .names import allocation_of
from .places import RunInfo
from .queue import Queued, ask_queue

__all__ = ["JobView", "RunView", "TaskView"]

STATES = ("waiting", "running", "succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class TaskView:
    """One task of a run. Times are seconds since the epoch, None for what is not known (yet)."""

    number: int
    """Counts the run's tasks from 1; in the run of an array over a list it is that of the line."""
    name: str
    state: str
    """"waiting", "running", "succeeded", "failed" or "cancelled". A command whose exit status is not 0 has failed."""
    command: Any = None
    """The command of a command task."""
    job: str = ""
    """The id of the job that runs, or has run, it."""
    node: str = ""
    waits_for: tuple[int | str, ...] = ()
    """The numbers of the tasks that have to succeed before it starts, and have not; names of those that are not of the run."""
    added: float | None = None
    started: float | None = None
    finished: float | None = None
    status: int | None = None
    """The exit status of a command, or minus the number of the signal that ended it."""
    error: str = ""
    """Why it has failed."""
    cause: str = ""
    """The class of the error it was given up with, such as "JobTimeoutError", if its job has failed it."""
    last: str = ""
    """The last line of what a failed command wrote to stderr."""
    log: str = ""
    """The path of the job's log."""
    log_start: int = 0
    log_end: int | None = None
    """Which bytes of the log are this task's; None: up to the end of what is there."""
    cpu: float | None = None
    """CPU seconds that it has used."""
    memory: int | None = None
    """The most memory, in bytes, that it has used at once."""
    tries: tuple[str, ...] = ()
    """What became of each try before the last."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The job options it was given."""
    set_aside: float | None = None
    """CPUs that SLURM has set aside for it, which may be more than it asked for; None: not known (yet)."""
    again: str = ""
    """Why a script that was run again has run it once more."""
    reused: float | None = None
    """When such a script has last taken its outcome instead of running it."""

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")

    @property
    def seconds(self) -> float | None:
        """How long it has run; None if it did not, or has not ended."""
        return None if self.started is None or self.finished is None else self.finished - self.started

    def output(self, most: int = 100_000_000) -> str:
        """The task's part of its job's log; of a longer one the last `most` bytes. "" if there is none."""
        return "" if not self.log else _read_part(self.log, self.log_start, self.log_end, most)


@dataclass(frozen=True)
class JobView:
    """A job of the run that has not ended, as far as the run's folder tells."""

    id: str
    state: str
    """"sent", or what its worker said last: "up", "idle"."""
    since: float
    """When it was sent, in seconds since the epoch."""
    node: str = ""
    log: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunView:
    """A run, as it was when it was looked at."""

    info: RunInfo
    tasks: tuple[TaskView, ...]
    jobs: tuple[JobView, ...]
    executor: str
    """"slurm", "allocation" or "local"."""
    host: str
    """The machine where its script was started."""
    array: str = ""
    """The id of the array that runs its tasks, if that was sent by hand (slurm/array.sbatch): then no process holds it."""
    unanswered: tuple[str, ...] = ()
    """Submissions of which it is not known whether jobs came of them, by their names."""
    mates: Mapping[str, int] = field(default_factory=dict, repr=False)
    """The workers that are known one by one, beside others in their jobs, each with its group."""
    _processes: Mapping[str, tuple[int, str]] = field(default_factory=dict, repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        found = Counter(task.state for task in self.tasks)
        return {state: found[state] for state in STATES}

    @property
    def unfinished(self) -> list[TaskView]:
        return [task for task in self.tasks if not task.over]

    def task(self, wanted: str | int) -> TaskView:
        """The task with that number, name, or unique beginning of a name. Raises RunNotFoundError that lists what is near."""
        word = str(wanted)
        if word.isdigit() and (numbered := [task for task in self.tasks if task.number == int(word)]):
            return numbered[0]
        exact = [task for task in self.tasks if task.name == word]
        found = exact or [task for task in self.tasks if task.name.startswith(word)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"{task.number} ({task.name})" for task in found[:5]) + (" …" if len(found) > 5 else "")
            raise RunNotFoundError(f"{word!r} may be any of {len(found)} tasks of run {self.info.name}: {some}; give a number")
        known = f"it has {len(self.tasks)}, numbered from 1" if self.tasks else "it has none"
        raise RunNotFoundError(f"there is no task {word!r} in run {self.info.name}: {known}")

    def live_jobs(self) -> list[str]:
        """The ids of its jobs that the scheduler, or this machine, knows to be alive.

        Raises SpoolError if that cannot be found out: no scheduler answers, or they are processes of another machine.
        """
        if not self.jobs and not self.unanswered:
            return []
        if self.executor == "local":
            return self._live_processes()
        try:
            there = self._environment()
            states = slurm.states(there)
            ids = {job.id for job in self.jobs}
            for name in self.unanswered:
                array = slurm.find_by_name(name, there)
                ids |= {job for job in states if array is not None and clusters.array_of(job) == array}
        except slurm.SlurmError as error:
            raise SpoolError(
                f"whether jobs of run {self.info.name} are alive is not known: SLURM does not answer ({error})"
            ) from error
        # (One of an allocation is none that the scheduler knows: it is alive as long as that is.)
        known = {job: states.get(allocation_of(job) or job, "COMPLETED") for job in ids}
        return sorted(job for job, state in known.items() if not slurm.is_over(state))

    def signal(self, job: str, number: int) -> None:
        """Send a signal to a local job's process, if it is alive."""
        if job in self._live_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._processes[job][0], number)

    def queue(self) -> dict[str, Queued]:
        """What SLURM says of each job of the run. Raises SpoolError if it does not answer; nothing of local jobs."""
        if self.executor == "local":
            return {}
        try:
            known = ask_queue(self._environment())
        except slurm.SlurmError as error:
            raise SpoolError(f"SLURM does not answer: {error}") from error
        return {job.id: known[job.id] for job in self.jobs if job.id in known}

    def _environment(self) -> Mapping[str, str]:
        """The environment for questions that are for the clusters of its jobs."""
        return clusters.reaching(os.environ, [job.id for job in self.jobs]) if self.jobs else os.environ

    def _live_processes(self) -> list[str]:
        if self.host != os.uname().nodename:
            raise SpoolError(f"the jobs of run {self.info.name} are processes of the machine {self.host}: ask there")
        return sorted(job for job, process in self._processes.items() if is_alive(*process))


def _read_part(log: str, start: int, end: int | None, most: int) -> str:
    try:
        with open(log, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            end = size if end is None else min(end, size)
            begin = max(start, end - most)
            file.seek(begin)
            return file.read(max(0, end - begin)).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise RunNotFoundError(f"the log {log} cannot be read: {error.strerror}") from error
