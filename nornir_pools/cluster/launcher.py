"""Starting jobs of SLURM through submitit, as arrays. The only import of submitit.

submitit writes the batch script, from its own parameters. What it would then do itself is done here, because of what it
lacks: its call of sbatch has no time limit, it takes the first "job N" of a site's banner for the id, and its job side
(pickles for every job, a signal handler that ends jobs early) is not needed, since the job's command is our worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import submitit
import submitit.helpers

from ..errors import SpoolError
from ..options import Options
from . import answers, clusters, nodelists, polling, slurm
from .context import beside, for_submission
from .division import job_options
from .folder import FLAGS
from .history import History
from .launching import setup_lines, worker_command
from .withdrawals import cancel_pending

logger = logging.getLogger("nornir_pools")

__all__ = ["Executor", "LocalJob", "SlurmLauncher", "partition_of", "start_locally"]

LocalJob: TypeAlias = "submitit.Job[Any]"
_OURS = ("open-mode", "requeue", "signal")  # options of sbatch that nobody has asked for, and that jobs can do without


def start_locally(command: Sequence[str], folder: str) -> LocalJob:
    """Run a command through submitit's local executor, whose files go into that folder."""
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(setup=["umask 077"])
    job = executor.submit(submitit.helpers.CommandFunction(list(command), verbose=False))
    job.paths.submitted_pickle.chmod(0o600)
    return job


def _escaped(value: Any) -> Any:
    """The value of an sbatch option as it has to stand in the script: sbatch takes backslashes away, inside quotes as well."""
    return value.replace("\\", "\\\\") if isinstance(value, str) else value


class Executor(submitit.SlurmExecutor):
    """submitit's, for its batch script; `submit_workers` runs sbatch within a time limit and reads its answer with care.

    `without` are options that it leaves out.
    """

    without: Collection[str] = ()

    @classmethod
    def affinity(cls) -> int:
        return 2  # whether there is a SLURM is seen elsewhere: submitit would look for srun on PATH

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
        wanted = clusters.asked_in(job, {})
        parameters.pop("clusters", None)
        more = dict(parameters.pop("additional_parameters", None) or {})
        additional = {
            "output": output,
            **({"clusters": wanted} if wanted else {}),
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
        text = self._make_submission_file_text(command, name)
        for option in self.without:
            text = re.sub(rf"^#SBATCH --{option}(=.*)?\n", "", text, flags=re.MULTILINE)
        self._write(script, text)
        # The log's path in the script is relative to here, so that no character of a folder's name can harm it.
        output = slurm.run(["sbatch", script], beside(text, environment), folder=str(self.folder))
        return answers.read_job_id(output, environment.get(clusters.VARIABLE, ""))

    def _write(self, script: str, text: str) -> None:
        try:
            fd = os.open(self.folder / script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | FLAGS, 0o600)
            with open(fd, "wb") as file:
                file.write(os.fsencode(text))
        except OSError as error:
            raise _unwritable(self.folder.parent, error) from error


def _unwritable(run: Path, error: OSError) -> SpoolError:
    return SpoolError(f"the run's folder {run} cannot be written: {error.strerror}", folder=str(run), errno=error.errno)


def partition_of(parameters: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """The partition that jobs with these parameters go to; None: the default one."""
    given = parameters["additional_parameters"].get("partition") or parameters.get("partition")
    return given or environment.get("SBATCH_PARTITION") or None


def _command(run: Path, options: Options, group: int, wanted: str) -> str:
    """What a job runs."""
    command = worker_command(run, options, group)
    if wanted:
        name = f"${{SLURM_CLUSTER_NAME:-{wanted.partition(',')[0]}}}"
        command += f' --job "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID@{name}"'
    if options.python or options.job.get("slurm_teardown"):
        # Any text may start Python, and lines may come after it: the shell stays. It alone is told of the job's end, and hands
        # that on to its process group: the worker sees to it, and both shells wait for that.
        return f"trap 'trap \"\" TERM; kill 0' TERM\n{{ trap : TERM\n{command}\n}} &\nwait $! || wait $!"
    return f"exec {command}"  # no shell between the scheduler's signals and the worker


class SlurmLauncher:
    """Jobs as elements of SLURM arrays."""

    poll_seconds = 10.0

    def __init__(self, run: Path, environment: Mapping[str, str]) -> None:
        self._run = run
        self._environment = for_submission(environment)
        self._clusters: set[str] = set()  # those that jobs may be on
        self._max_array: dict[str, int] = {}  # by cluster
        self._without: set[str] = set()  # options that this sbatch does not know
        self._doubtful: dict[int, tuple[str, int]] = {}  # group -> name and number of jobs that may have been taken
        self._told_time = self._told_bare = self._told_accounting = False
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
        there = self._environment_for(options)
        wanted = there.get(clusters.VARIABLE, "")
        if not self._max_array.get(wanted):
            self._max_array[wanted] = slurm.max_array_size(there)
        count = min(count, self._max_array[wanted] or 1000)
        executor = Executor(self._run / "jobs", python=options.python or None)
        parameters = executor.parameters_of(job_options(options), name)
        if avoid and "," not in wanted:  # (or the nodes would have to be those of both)
            self._keep_away(avoid, parameters, there)
        executor.update_parameters(**parameters)
        if executor.parameters["time"] is None and not self._told_time:
            self._told_time = True
            limit = slurm.default_time(partition_of(parameters, there), there)
            logger.info("run %s: no time limit is asked for, so its jobs have %s; set one with timeout_min=", name, limit)
        try:
            array = self._submit(executor, options, _command(self._run, options, group, wanted), name, count, there)
        except slurm.SlurmError as error:
            if answers.is_doubtful(str(error)):
                self._doubtful[group] = (executor.parameters["job_name"], count)
                with contextlib.suppress(slurm.SlurmError):
                    if found := self._find_doubtful(group):
                        return found
            raise
        return [clusters.element(array, index) for index in range(count)]

    def _environment_for(self, options: Options) -> dict[str, str]:
        """The environment for calls that are for the clusters of these options. Raises slurm.SlurmError."""
        wanted = clusters.asked_in(options.job, self._environment)
        if "all" in wanted.split(","):
            raise slurm.SlurmError("clusters=all says not where to look for jobs: name the clusters, with commas between")
        there = clusters.on(self._environment, wanted)
        self._clusters.update(clusters.names_in(there))
        self._told_bare |= not options.exports
        return there

    def _submit(
        self, executor: Executor, options: Options, command: str, name: str, count: int, there: Mapping[str, str]
    ) -> str:
        """Have the jobs sent; what only some versions of sbatch know, and jobs can do without, is left out if need be."""
        executor.without = self._without
        try:
            return executor.submit_workers(f"{name}.sh", command, count, there)
        except slurm.SlurmError as error:
            unknown = answers.unknown_option(str(error))
            given = options.job.get("slurm_additional_parameters") or {}
            if unknown not in _OURS or unknown in given or unknown in self._without:
                raise
            logger.warning("run %s: sbatch does not know --%s here, so jobs are sent without it", name, unknown)
        self._without.add(unknown)
        return self._submit(executor, options, command, name, count, there)

    def _find_doubtful(self, group: int) -> list[str]:
        """The jobs that sbatch has sent in spite of its answer; none if it has not. Raises slurm.SlurmError if nobody says.

        A controller that is slow to answer has often taken the jobs, and a second copy must not be sent.
        """
        name, count = self._doubtful[group]
        array = slurm.find_by_name(name, self._everywhere)
        del self._doubtful[group]
        return [clusters.element(array, index) for index in range(count)] if array else []

    @property
    def _everywhere(self) -> Mapping[str, str]:
        """The environment for questions that are for all clusters that jobs may be on."""
        return clusters.on(self._environment, ",".join(sorted(self._clusters))) if self._clusters else self._environment

    def _keep_away(self, avoid: Collection[str], parameters: dict[str, Any], there: Mapping[str, str]) -> None:
        """Exclude these nodes, beside those of the options, unless the partition has no others that take jobs now."""
        extra = parameters["additional_parameters"]
        with contextlib.suppress(slurm.SlurmError):
            if not nodelists.usable_nodes(partition_of(parameters, there), there) - set(avoid):
                return
        place = extra if extra.get("exclude") else parameters
        place["exclude"] = ",".join([*filter(None, [place.get("exclude")]), *sorted(avoid)])

    def states(self, age: float = 0.0) -> polling.States:
        return polling.ask(self._everywhere, age)

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        if pending_only:
            cancel_pending(jobs, self._everywhere)
        else:
            slurm.cancel(jobs, self._environment)

    def note_up(self, job: str, pid: int, born: str, bare: bool = False) -> None:
        if bare and not self._told_bare:
            self._told_bare = True
            logger.warning(
                "run %s: its jobs begin without the environment of the script (does this site send jobs with --export=NONE?), "
                'so tasks lack it; it travels with them if slurm_additional_parameters has {"export": "NONE"}',
                self._run.name,
            )

    def find(self, name: str) -> list[str]:
        array = slurm.find_by_name(name, self._everywhere)
        return [] if array is None else [job for job in self.states() if clusters.array_of(job) == array]

    def resume(self, history: History) -> None:
        self._clusters.update(clusters.cluster_of(job) for job in history.jobs)
        for group in history.groups.values():
            with contextlib.suppress(slurm.SlurmError):
                self._environment_for(Options(**group))

    def endings(self, states: Mapping[str, str]) -> dict[str, slurm.Ending]:
        known = {job: slurm.Ending(state if slurm.is_over(state) else "") for job, state in states.items()}
        if time.monotonic() >= self._accounting_after:
            try:
                known.update(slurm.accounting(states, self._environment))
            except slurm.SlurmError as error:  # there is none, or it hangs: more jobs may end, so do not wait for it each time
                self._accounting_after = time.monotonic() + 300.0
                if not self._told_accounting:
                    self._told_accounting = True
                    logger.info("run %s: how jobs end is told without accounting: %s", self._run.name, error)
        for job in [job for job, ending in known.items() if ending.state == "FAILED" and not ending.nodes][:8]:
            with contextlib.suppress(slurm.SlurmError):  # perhaps because of its node
                known[job] = replace(known[job], nodes=nodelists.node_of(job, self._environment))
        return known

    def cancel_doubtful(self) -> None:
        for name, _ in self._doubtful.values():
            for cluster in clusters.names_in(self._everywhere):
                slurm.run(["scancel", f"--name={name}"], clusters.on(self._environment, cluster))

    def close(self) -> None:
        pass
