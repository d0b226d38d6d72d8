"""Starting jobs through submitit: as a SLURM array, or as processes of this machine. The only import of submitit.

submitit writes the batch script, from its own parameters. What it would then do itself is done here, because of what it
lacks: its call of sbatch has no time limit, it takes the first "job N" of a site's banner for the id, and its job side
(pickles for every job, a signal handler that ends jobs early) is not needed, since the job's command is our worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit
import submitit.helpers

from ..deaths import is_alive
from ..errors import SpoolError
from ..options import Options
from . import answers, nodelists, slurm
from .context import for_submission
from .division import job_options
from .folder import FLAGS
from .launching import setup_lines, worker_command

logger = logging.getLogger("nornir_pools")

__all__ = ["START_SECONDS", "Executor", "LocalLauncher", "SlurmLauncher"]

START_SECONDS = 30.0  # a local worker that has not come up by then never will
# What submitit's job runs, in the folder of logs. That job has a time limit and gets Ctrl-C: all it does is to start the
# workers, in sessions of their own.
_STARTER = """\
import os, subprocess, sys
environment, folder, command, *jobs = sys.argv[1:]
with open(environment, "rb") as file:
    variables = dict(line.split(b"=", 1) for line in file.read().split(b"\\0") if line)
os.chdir(folder)
os.umask(0o077)
for job in jobs:
    with open(job.split()[0] + ".log", "ab") as log:
        subprocess.Popen(["/bin/sh", "-c", command, *job.split()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                         env=variables, start_new_session=True)
"""


def _escaped(value: Any) -> Any:
    """The value of an sbatch option as it has to stand in the script: sbatch takes backslashes away, inside quotes as well."""
    return value.replace("\\", "\\\\") if isinstance(value, str) else value


class Executor(submitit.SlurmExecutor):
    """submitit's, for its batch script; `submit_workers` runs sbatch within a time limit and reads its answer with care."""

    def parameters_of(self, job: Mapping[str, Any], name: str) -> dict[str, Any]:
        """submitit's parameters for SLURM from job options; ``slurm_x`` is x, and wins over submitit's common name for it."""
        common = {key: value for key, value in job.items() if not key.startswith("slurm_")}
        parameters: dict[str, Any] = {
            "time": None,  # submitit would send 5 minutes; without it the partition's default holds
            "wckey": None,  # submitit's own is refused at sites that check it
            "use_srun": False,  # a job step would come between the worker and the srun or mpirun of a task
            "stderr_to_stdout": True,
            **self._convert_parameters(common),
            **{key[len("slurm_") :]: value for key, value in job.items() if key.startswith("slurm_")},
        }
        prefix = parameters.pop("job_name", None)
        parameters["job_name"] = f"{prefix}-{name}" if prefix else name
        parameters["setup"] = setup_lines(parameters.get("setup"))
        output = "%A_%a.log"
        if any(mark in str(self.folder) for mark in "%\\"):  # SLURM would take them for its own, in the folder's name as well
            parameters["setup"].insert(0, 'exec >>"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID.log" 2>&1')
            output = "/dev/null"
        more = dict(parameters.pop("additional_parameters", None) or {})
        additional = {
            "output": output,
            "signal": "CONT@1",  # in place of submitit's USR2, which ends programs that do not expect it
            # A preempted job comes back even if there is no script any more to send another.
            **({} if "no-requeue" in more else {"requeue": True}),
            **more,
        }
        escaped = {key: _escaped(value) for key, value in parameters.items()}
        return {**escaped, "additional_parameters": {key: _escaped(value) for key, value in additional.items()}}

    def submit_workers(self, script: str, command: str, count: int, environment: Mapping[str, str]) -> str:
        """Submit `command` as an array of `count` jobs by a script of that name; returns the array's id.

        Raises slurm.SlurmError with what sbatch said, SpoolError if the script cannot be written.
        """
        self.parameters["map_count"] = count
        name = self.parameters["job_name"]
        self._write(script, self._make_submission_file_text(command, name))
        # The log's path in the script is relative to here, so that no character of a folder's name can harm it.
        return answers.read_job_id(slurm.run(["sbatch", script], environment, folder=str(self.folder)))

    def _write(self, script: str, text: str) -> None:
        try:
            fd = os.open(self.folder / script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | FLAGS, 0o600)
            with open(fd, "wb") as file:
                file.write(os.fsencode(text))
        except OSError as error:
            raise _unwritable(self.folder.parent, error) from error


def _unwritable(run: Path, error: OSError) -> SpoolError:
    return SpoolError(f"the run's folder {run} cannot be written: {error.strerror}", folder=str(run), errno=error.errno)


class SlurmLauncher:
    """Jobs as elements of SLURM arrays."""

    poll_seconds = 10.0

    def __init__(self, run: Path, environment: Mapping[str, str]) -> None:
        self._run = run
        self._environment = for_submission(environment)
        self._max_array = 0
        self._doubtful: dict[int, tuple[str, int]] = {}  # group -> name and number of jobs that may have been taken
        self._told_time = False
        self._accounting_after = 0.0  # when it is worth asking again

    def start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        if group in self._doubtful and (found := self._find_doubtful(group)):
            return found
        if avoid:
            try:
                return self._start(options, group, count, name, avoid)
            except slurm.SlurmError as error:
                if answers.is_transient(str(error)) or answers.is_doubtful(str(error)):
                    raise  # else there may be no other node with what these jobs need
        return self._start(options, group, count, name, ())

    def _start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str]) -> list[str]:
        self._max_array = self._max_array or slurm.max_array_size(self._environment)
        count = min(count, self._max_array or 1000)
        executor = Executor(self._run / "jobs", python=options.python or None)
        parameters = executor.parameters_of(job_options(options), name)
        if avoid:
            self._keep_away(avoid, parameters)
        executor.update_parameters(**parameters)
        if executor.parameters["time"] is None and not self._told_time:
            self._told_time = True
            limit = slurm.default_time(executor.parameters.get("partition"), self._environment)
            logger.info("run %s: no time limit is asked for, so its jobs have %s; set one with timeout_min=", name, limit)
        command = worker_command(self._run, options, group)
        if not executor.parameters.get("teardown"):
            command = f"exec {command}"  # no shell between the scheduler's signals and the worker
        try:
            array = executor.submit_workers(f"{name}.sh", command, count, self._environment)
        except slurm.SlurmError as error:
            if answers.is_doubtful(str(error)):
                self._doubtful[group] = (executor.parameters["job_name"], count)
                with contextlib.suppress(slurm.SlurmError):
                    if found := self._find_doubtful(group):
                        return found
            raise
        return [f"{array}_{index}" for index in range(count)]

    def _find_doubtful(self, group: int) -> list[str]:
        """The jobs that sbatch has sent in spite of its answer; none if it has not. Raises slurm.SlurmError if nobody says.

        A controller that is slow to answer has often taken the jobs, and a second copy must not be sent.
        """
        name, count = self._doubtful[group]
        array = slurm.find_by_name(name, self._environment)
        del self._doubtful[group]
        return [f"{array}_{index}" for index in range(count)] if array else []

    def _keep_away(self, avoid: Collection[str], parameters: dict[str, Any]) -> None:
        """Exclude these nodes, beside those of the options, unless the partition has no others that take jobs now."""
        extra = parameters["additional_parameters"]
        with contextlib.suppress(slurm.SlurmError):
            partition = extra.get("partition") or parameters.get("partition")
            if not nodelists.usable_nodes(partition, self._environment) - set(avoid):
                return
        place = extra if extra.get("exclude") else parameters
        place["exclude"] = ",".join([*filter(None, [place.get("exclude")]), *sorted(avoid)])

    def states(self) -> dict[str, str]:
        return slurm.states(self._environment)

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        slurm.cancel(jobs, self._environment, pending_only=pending_only)

    def note_up(self, job: str, pid: int, born: str) -> None:
        pass

    def find(self, name: str) -> list[str]:
        array = slurm.find_by_name(name, self._environment)
        return [] if array is None else [job for job in self.states() if job.startswith(f"{array}_")]

    def resume(self, jobs: int) -> None:
        pass

    def endings(self, states: Mapping[str, str]) -> dict[str, slurm.Ending]:
        known = {job: slurm.Ending(state if slurm.is_over(state) else "") for job, state in states.items()}
        if time.monotonic() >= self._accounting_after:
            try:
                known.update(slurm.accounting(states, self._environment))
            except slurm.SlurmError:  # there is none, or it hangs: more jobs may end, so do not wait for it each time
                self._accounting_after = time.monotonic() + 300.0
        for job in [job for job, ending in known.items() if ending.state == "FAILED" and not ending.nodes][:8]:
            with contextlib.suppress(slurm.SlurmError):  # perhaps because of its node
                known[job] = replace(known[job], nodes=nodelists.node_of(job, self._environment))
        return known

    def cancel_doubtful(self) -> None:
        for name, _ in self._doubtful.values():
            slurm.run(["scancel", f"--name={name}"], self._environment)

    def close(self) -> None:
        pass


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
        self._starters: dict[str, tuple[submitit.Job[Any], float]] = {}  # job -> submitit's job that starts it, since when
        self._processes: dict[str, tuple[int, str]] = {}  # of those whose workers have said they are up: id, when started

    def start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        jobs = [f"L{self._count + index}" for index in range(1, count + 1)]
        self._count += count
        worker = f'exec {worker_command(self._run, options, group)} --job "$0"'
        self._spawn("\n".join([*setup_lines(options.job.get("slurm_setup")), worker]), jobs)
        return jobs

    def _spawn(self, command: str, jobs: Sequence[str]) -> None:
        """Have a shell run the command for each job, given as words of which the first is its id: they are $0, $1 and so on."""
        ours = f"/proc/{os.getpid()}/fd"
        # submitit would understand "%j" and the like in the folder's name. The environment is that of when the pool was made:
        # what was changed since travels with the tasks.
        folder, environment = f"{ours}/{self._folder}", f"{ours}/{self._environment}"
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(setup=["umask 077"])
        starter = executor.submit(
            submitit.helpers.CommandFunction(
                [sys.executable, "-c", _STARTER, environment, folder, command, *jobs], verbose=False
            )
        )
        starter.paths.submitted_pickle.chmod(0o600)
        self._starters.update((job.split()[0], (starter, time.monotonic())) for job in jobs)

    def note_up(self, job: str, pid: int, born: str) -> None:
        self._processes[job] = pid, born  # from now on the job's state is that of this process

    def find(self, name: str) -> list[str]:
        return []  # they come up within a moment, or never

    def resume(self, jobs: int) -> None:
        self._count = jobs

    def states(self) -> dict[str, str]:
        result = {}
        for job, (starter, since) in list(self._starters.items()):
            starter.done()  # reaps submitit's process
            if job not in self._processes and time.monotonic() - since < START_SECONDS:
                result[job] = "PENDING"
        return result | {job: "RUNNING" for job, process in self._processes.items() if is_alive(*process)}

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
