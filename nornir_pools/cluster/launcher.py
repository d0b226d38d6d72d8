"""Starting jobs through submitit: as a SLURM array, or as processes of this machine. The only import of submitit.

submitit writes the batch script, from its own parameters. What it would then do itself is done here, because of what it
lacks: its call of sbatch has no time limit, it takes the first "job N" of a site's banner for the id, and its job side
(pickles for every job, a signal handler that ends jobs early) is not needed, since the job's command is our worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import submitit
import submitit.helpers

from ..errors import SpoolError
from ..options import Options
from . import slurm
from .context import current_umask, for_submission
from .folder import FLAGS

logger = logging.getLogger("nornir_pools")

__all__ = ["Launcher", "LocalLauncher", "SlurmLauncher", "worker_command"]

_START_SECONDS = 30.0  # a local worker that has not come up by then never will
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
    with open(job + ".log", "ab") as log:
        subprocess.Popen(["/bin/sh", "-c", command + " --job " + job], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                         env=variables, start_new_session=True)
"""
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class Launcher(Protocol):
    """Starts, looks at and ends the jobs of one run."""

    poll_seconds: float
    """How often `states` may be asked while jobs run."""

    def start(self, options: Options, group: int, count: int, name: str) -> list[str]:
        """Start `count` jobs for a group and return their ids (perhaps fewer). Raises slurm.SlurmError with the refusal."""
        ...

    def states(self) -> dict[str, str]:
        """The state of each job that the scheduler still knows. Raises slurm.SlurmError if it does not answer."""
        ...

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        """End jobs. Raises slurm.SlurmError."""
        ...

    def note_up(self, job: str, pid: int) -> None:
        """A job's worker has said that it is up, and its process id there."""
        ...

    def ending(self, job: str, state: str) -> slurm.Ending:
        """How a job that is gone has ended; `state` is what is known of that already."""
        ...

    def close(self) -> None:
        """Leave nothing behind once all jobs are over."""
        ...


def worker_command(run: Path, options: Options, group: int) -> str:
    """The shell command that starts a worker for a group of tasks."""
    # The folder of this package goes last on the path, where it serves only if the job's Python has it not installed, and
    # "" goes away: a file in the working folder must not stand in for a module of the standard library.
    start = (
        f"import sys; sys.path[:1] = []; sys.path.append({_PACKAGE_ROOT!r}); "
        "from nornir_pools.cluster import worker; worker.main()"
    )
    words = ["-u", "-c", start, str(run), "--group", str(group), "--idle", f"{options.idle:g}"]
    if options.strict:
        words.append("--one")
    return f"{options.python or shlex.quote(sys.executable)} {shlex.join(words)}"


def _setup(lines: Sequence[str] | None) -> list[str]:
    """The shell lines before the worker's: the user's own see the umask of the script, not the one that keeps logs private."""
    return [f"umask {current_umask():04o}", *(lines or ())]


def _escaped(value: Any) -> Any:
    """The value of an sbatch option as it has to stand in the script: sbatch takes backslashes away, inside quotes as well."""
    return value.replace("\\", "\\\\") if isinstance(value, str) else value


class _Executor(submitit.SlurmExecutor):
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
        parameters["setup"] = _setup(parameters.get("setup"))
        output = "%A_%a.log"
        if any(mark in str(self.folder) for mark in "%\\"):  # SLURM would take them for its own, in the folder's name as well
            parameters["setup"].insert(0, 'exec >>"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID.log" 2>&1')
            output = "/dev/null"
        additional = {
            "output": output,
            "signal": "CONT@1",  # in place of submitit's USR2, which ends programs that do not expect it
            **dict(parameters.pop("additional_parameters", None) or {}),
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
        try:
            # The log's path in the script is relative to here, so that no character of a folder's name can harm it.
            return slurm.read_job_id(slurm.run(["sbatch", script], environment, folder=str(self.folder)))
        except slurm.SlurmError as error:
            # A controller that is slow to answer has often taken the job: look for it by its name before another is sent.
            if slurm.is_transient(str(error)) == "busy" or "no job id" in str(error):
                with contextlib.suppress(slurm.SlurmError):
                    if (job := slurm.find_by_name(name, environment)) is not None:
                        return job
            raise

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
        self._max_array = slurm.max_array_size(self._environment)
        self._submissions = 0
        self._told_time = False
        self._accounting_after = 0.0  # when it is worth asking again

    def start(self, options: Options, group: int, count: int, name: str) -> list[str]:
        count = min(count, self._max_array)
        self._submissions += 1
        executor = _Executor(self._run / "jobs", python=options.python or None)
        name = f"{name}-{self._submissions}"
        executor.update_parameters(**executor.parameters_of(options.job, name))
        if executor.parameters["time"] is None and not self._told_time:
            self._told_time = True
            limit = slurm.default_time(executor.parameters.get("partition"), self._environment)
            logger.info("run %s: no time limit is asked for, so its jobs have %s; set one with timeout_min=", name, limit)
        command = worker_command(self._run, options, group)
        if not executor.parameters.get("teardown"):
            command = f"exec {command}"  # no shell between the scheduler's signals and the worker
        array = executor.submit_workers(f"{name}.sh", command, count, self._environment)
        return [f"{array}_{index}" for index in range(count)]

    def states(self) -> dict[str, str]:
        return slurm.states(self._environment)

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        slurm.cancel(jobs, self._environment, pending_only=pending_only)

    def note_up(self, job: str, pid: int) -> None:
        pass

    def ending(self, job: str, state: str) -> slurm.Ending:
        if time.monotonic() >= self._accounting_after:
            try:
                record = slurm.accounting(job, self._environment)
            except slurm.SlurmError:  # there is none, or it hangs: many jobs may have ended, so do not wait for it each time
                self._accounting_after = time.monotonic() + 300.0
            else:
                if record is not None:
                    return record
        return slurm.Ending(state if slurm.is_over(state) else "")

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
        self._pids: dict[str, int] = {}  # of those whose workers have said they are up

    def start(self, options: Options, group: int, count: int, name: str) -> list[str]:
        jobs = [f"L{self._count + index}" for index in range(1, count + 1)]
        self._count += count
        setup = _setup(options.job.get("slurm_setup"))
        command = "\n".join([*setup, "exec " + worker_command(self._run, options, group)])
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
        self._starters.update(dict.fromkeys(jobs, (starter, time.monotonic())))
        return jobs

    def note_up(self, job: str, pid: int) -> None:
        self._pids[job] = pid  # from now on the job's state is that of this process

    def states(self) -> dict[str, str]:
        result = {}
        for job, (starter, since) in list(self._starters.items()):
            starter.done()  # reaps submitit's process
            if job in self._pids:
                if _is_alive(self._pids[job]):
                    result[job] = "RUNNING"
            elif time.monotonic() - since < _START_SECONDS:
                result[job] = "PENDING"
        return result

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        for job in () if pending_only else jobs:
            if job in self._pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self._pids[job], signal.SIGTERM)

    def ending(self, job: str, state: str) -> slurm.Ending:
        return slurm.Ending("FAILED")

    def close(self) -> None:
        until = time.monotonic() + 30.0  # it takes a second, but not on a busy machine
        for starter, _ in self._starters.values():
            while not starter.done() and time.monotonic() < until:  # which reaps submitit's process
                time.sleep(0.01)
        os.close(self._environment)
        os.close(self._folder)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False
