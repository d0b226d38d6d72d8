"""Starting jobs as processes of this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ..deaths import is_alive, process_born
from ..options import Options
from . import slurm
from .folder import FLAGS
from .history import History
from .launcher import LocalJob, start_locally
from .launching import setup_lines, shell, worker_command
from .polling import States

logger = logging.getLogger("nornir_pools")

__all__ = ["START_SECONDS", "LocalLauncher"]

START_SECONDS = 30.0  # a local worker that has not come up by then never will
# What submitit's job runs, in the folder of logs. That job has a time limit and gets Ctrl-C: all it does is to start the
# workers, in sessions of their own.
_STARTER = """\
import os, subprocess, sys
environment, folder, shell, command, *jobs = sys.argv[1:]
with open(environment, "rb") as file:
    variables = dict(line.split(b"=", 1) for line in file.read().split(b"\\0") if line)
os.chdir(folder)
os.umask(0o077)
for job in jobs:
    with open(job.split()[0] + ".log", "ab") as log:
        process = subprocess.Popen([shell, "-c", command, *job.split()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=variables, start_new_session=True)
    print(job.split()[0], process.pid)
"""


class LocalLauncher:
    """Jobs as processes of this machine, started through submitit's local executor."""

    poll_seconds = 1.0

    def __init__(self, run: Path, environment: Mapping[str, str]) -> None:
        self._run = run
        # Read by the starters, which are given its path. It has no name in any folder: it may hold secrets.
        with tempfile.TemporaryFile() as file:
            file.write(b"\0".join(os.fsencode(f"{name}={value}") for name, value in environment.items()))
            file.flush()
            self._environment = os.dup(file.fileno())
        self._folder = os.open(run / "jobs", os.O_RDONLY | os.O_DIRECTORY | FLAGS)
        self._count = 0
        self._starters: dict[str, tuple[LocalJob, float]] = {}  # job -> submitit's job that starts it, since when
        self._started: dict[str, dict[str, tuple[int, str]]] = {}  # what a starter has started, by job: id, when
        self._processes: dict[str, tuple[int, str]] = {}  # those whose workers have said they are up

    def start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        jobs = [f"L{self._count + index}" for index in range(1, count + 1)]
        self._count += count
        # (Any text may start Python, a command of the shell's own as well.)
        worker = ("" if options.python else "exec ") + worker_command(self._run, options, group) + ' --job "$0"'
        self._spawn("\n".join([*setup_lines(options.job.get("slurm_setup")), worker]), jobs)
        return jobs

    def _spawn(self, command: str, jobs: Sequence[str]) -> None:
        """Have a shell run the command for each job, given as words of which the first is its id: they are $0, $1 and so on."""
        ours = f"/proc/{os.getpid()}/fd"
        # submitit would understand "%j" and the like in the folder's name. The environment is that of when the pool was made:
        # what was changed since travels with the tasks.
        folder, environment = f"{ours}/{self._folder}", f"{ours}/{self._environment}"
        starter = start_locally([sys.executable, "-c", _STARTER, environment, folder, shell(), command, *jobs], folder)
        self._starters.update((job.split()[0], (starter, time.monotonic())) for job in jobs)

    def note_up(self, job: str, pid: int, born: str, bare: bool = False) -> None:
        self._processes[job] = pid, born  # from now on the job's state is that of this process

    def find(self, name: str) -> list[str]:
        return []  # they come up within a moment, or never

    def resume(self, history: History) -> None:
        self._count = sum(sending.count for sending in history.sendings.values())

    def states(self, age: float = 0.0) -> States:
        asked, result = time.monotonic(), {}
        for job, (starter, since) in list(self._starters.items()):
            done = starter.done()  # reaps submitit's process
            if job not in self._processes and time.monotonic() - since < START_SECONDS:
                result[job] = "FAILED" if done and not self._is_coming(job, starter) else "PENDING"
        up = list(self._processes.items())  # (at once: the watcher notes those that come up meanwhile)
        return States(result | {job: "RUNNING" for job, process in up if is_alive(*process)}, asked)

    def _is_coming(self, job: str, starter: LocalJob) -> bool:
        """Whether the process of a job that has not come up is alive."""
        if starter.job_id not in self._started:
            found: dict[str, tuple[int, str]] = {}
            try:
                for name, pid in (line.split() for line in starter.result().splitlines()):
                    found[name] = int(pid), process_born(int(pid))
            except Exception as error:  # submitit's own, with what it has found in its log
                logger.error("run %s: jobs on this machine could not be started: %s", self._run.name, error)
            self._started[starter.job_id] = found
        return job in self._started[starter.job_id] and is_alive(*self._started[starter.job_id][job])

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        for job in () if pending_only else jobs:
            if job in self._processes and is_alive(*self._processes[job]):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self._processes[job][0], signal.SIGTERM)

    def cancel_doubtful(self) -> None:
        pass

    def endings(self, states: Mapping[str, str]) -> dict[str, slurm.Ending]:
        return dict.fromkeys(states, slurm.Ending("FAILED"))

    def close(self) -> None:
        until = time.monotonic() + 30.0  # it takes a second, but not on a busy machine
        for starter, _ in self._starters.values():
            while not starter.done() and time.monotonic() < until:  # which reaps submitit's process
                time.sleep(0.01)
        os.close(self._environment)
        os.close(self._folder)
