"""The options of a cluster pool and of its tasks, checked when they are given.

Job options have the names of submitit's parameters: `timeout_min`, `mem_gb`, `cpus_per_task`, `gpus_per_node`, and
``slurm_…`` for what only SLURM knows (`slurm_partition`, `slurm_account`, `slurm_setup`, `slurm_additional_parameters` …).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .errors import OptionError

__all__ = ["JOB_OPTIONS", "POOL_OPTIONS", "RETRY_CAUSES", "RETRY_EXPRESSION", "Options", "check_names", "check_value"]

# submitit's own names for what every executor of it knows, and SLURM's (a test compares them with submitit's). Of what it has
# no name for, `slurm_clusters` says where a job is, so that the pool has to know it.
_GENERIC = {"timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node"}
_SLURM = {
    "account",
    "additional_parameters",
    "comment",
    "constraint",
    "cpus_per_gpu",
    "cpus_per_task",
    "dependency",
    "exclude",
    "exclusive",
    "gpus_per_node",
    "gpus_per_task",
    "gres",
    "job_name",
    "mail_type",
    "mail_user",
    "mem",
    "mem_per_cpu",
    "mem_per_gpu",
    "nodelist",
    "nodes",
    "ntasks_per_node",
    "num_gpus",
    "partition",
    "qos",
    "setup",
    "teardown",
    "time",
    "wckey",
}
JOB_OPTIONS = frozenset(_GENERIC | {f"slurm_{name}" for name in _SLURM} | {"slurm_clusters"})
_OWN_JOB_OPTIONS = frozenset({"retries", "task_timeout", "tasks_at_once", "tasks_per_job", "version"})
POOL_OPTIONS = frozenset(
    {"budget_core_hours", "executor", "folder", "frozen_code", "idle_seconds", "keep", "max_failures", "max_jobs"}
    | {"max_child_mem_gb", "max_tasks_per_child", "on_interrupt", "python", "resume", "slurm_bin", "stop_after"}
)
_ALL = JOB_OPTIONS | _OWN_JOB_OPTIONS | POOL_OPTIONS

RETRY_CAUSES = ("cancelled", "lost", "node_failed", "oom", "preempted", "task_timeout", "timeout", "worker_died")
RETRY_EXPRESSION = r"(mem_gb|timeout_min)\*(\d+(?:\.\d+)?)<=(\d+(?:\.\d+)?)"

EXECUTORS = ("auto", "slurm", "local", "allocation", "debug")


@dataclass(frozen=True)
class Options:
    """The options of one pool, or of one task of it."""

    executor: str = "auto"
    """Where jobs run: "slurm", "local" (processes of this machine), "debug" (this process), "auto" (SLURM if it is there), or
    "allocation": on the nodes of the SLURM job that the script runs in, a worker job a node, started with srun."""
    folder: str = ""
    """Where runs live; must be seen by all nodes. Empty: $SCRATCH/nornir_pools, else .nornir_pools in the working folder."""
    max_jobs: int = 256
    """Most jobs of the pool in the queue at once. 0: the pool sends none, and you start its workers (slurm/workers.sbatch)."""
    idle_seconds: float | None = None
    """How long a job without work stays for more. None: 30, but 0 with GPUs."""
    keep: str = "failed"
    """What stays of a run that was closed: "failed" or "all"."""
    on_interrupt: str = "cancel"
    """What becomes of the jobs if Ctrl-C ends the script, or a ``with`` block of the pool: "cancel", or "detach": they go
    on, and ``nornir_pools.attach`` finds them."""
    python: str = ""
    """The command that starts Python in a job, any shell text. Empty: this interpreter."""
    slurm_bin: str = ""
    """The folder of SLURM's commands. Empty: they are on PATH."""
    stop_after: int = 20
    """If the first so many tasks all fail alike, the pool stops (TasksFailedError); 0: it never does for that."""
    max_failures: int | None = None
    """After so many failed tasks the pool stops; a command fails if its exit status is not 0. None: it goes on."""
    budget_core_hours: float | None = None
    """What the jobs of a run may use: CPUs × time that they ran. On SLURM these are the CPUs that it has set aside, of an
    exclusive node all. Once so much is used, no further task is begun (BudgetSpentError), and what runs goes on to its end.
    Jobs go on without the pool's process, and then nobody adds up until it is attached to. None: there is no such limit."""
    frozen_code: bool = True
    """Whether jobs import your own modules as they were when tasks were added. False: as they are when a job imports them."""
    task_timeout: float | None = None
    """Seconds that a task may take: then its process is ended, with all that it has started, and it fails with
    TaskTimeoutError; its worker goes on. (`timeout_min` is about jobs, which run many tasks.) May differ from task to task."""
    max_tasks_per_child: int | None = None
    """After so many tasks the process that runs them makes room for a new one, in the same job. None: it stays."""
    max_child_mem_gb: float | None = None
    """The same, once it holds more memory than that (in GB of 1024³ bytes) when a task of its is over."""
    tasks_per_job: int | None = None
    """1: a job never takes over another task. None: a job that is done early does."""
    tasks_at_once: int | str | None = None
    """How many tasks a job runs side by side; "auto": as many as fit into what it gets. What is given as `cpus_per_task`,
    `mem_gb` and `gpus_per_node` is what one task needs, and a job asks for so much for each. None: one (in an allocation
    "auto")."""
    resume: bool = False
    """Whether the script, when it is run again, takes the results, and the running jobs, of the newest run of the pool's name
    that had this option, too, and runs only what is missing, has failed, or has changed: the function, a file that it is
    in, its arguments, size or time of change of files that are among these as `pathlib.Path`, or `version`. Results stay in
    the run's folder until it is removed (``nornir-pools clean``)."""
    version: str | float | None = None
    """With `resume`: a task with another version is run again. May differ from task to task."""
    retries: int | Mapping[str, int | str] | None = None
    """How often a task is tried again that its job took down: a number, or one for each of RETRY_CAUSES; for "oom" and
    "timeout" also what the next job gets, as in "mem_gb*2<=64". None: preempted 10, node_failed and lost 2, worker_died 1."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """Job options under submitit's names, and `slurm_clusters`: where jobs are sent to, with commas between."""

    @property
    def strict(self) -> bool:
        """Whether each task has a job of its own."""
        return self.tasks_per_job == 1

    @property
    def exports(self) -> bool:
        """Whether jobs begin with the script's environment."""
        more = self.job.get("slurm_additional_parameters") or {}
        return str(more.get("export", "")).upper() not in ("NONE", "NIL")

    @property
    def several(self) -> bool:
        """Whether a job runs several tasks at once."""
        return self.tasks_at_once not in (None, 1)

    @property
    def gpus(self) -> bool:
        return any(self.job.get(name) for name in ("gpus_per_node", "slurm_gpus_per_node", "slurm_gpus_per_task", "slurm_gres"))

    @property
    def idle(self) -> float:
        """Seconds that a job without work stays."""
        return self.idle_seconds if self.idle_seconds is not None else 0.0 if self.gpus else 30.0

    @classmethod
    def of(cls, given: Mapping[str, Any], *defaults: Mapping[str, tuple[Any, str]]) -> Options:
        """Options from those given in code and, for what these leave out, from defaults (value, where it stands).

        Raises OptionError that names the option, its value and where it stands.
        """
        known: dict[str, Any] = {}
        for source in reversed(defaults):
            for name, (value, place) in source.items():
                check_names({name: value}, place)
                if name in _TEXT and isinstance(value, (bool, int, float)):
                    value = json.dumps(value)  # a name of digits: a variable has no quotes to say so
                check_value(name, value, place)
                known[name] = value
        check_names(given)
        for name, value in given.items():
            if value is not None:
                check_value(name, value)
                known[name] = value
        own = {item.name for item in fields(cls)} - {"job"}
        options = cls(
            **{name: value for name, value in known.items() if name in own},
            job={name: value for name, value in known.items() if name not in own},
        )
        if options.strict and options.several:
            raise OptionError(
                f"tasks_per_job=1 and tasks_at_once={options.tasks_at_once!r} do not go together: a job runs one task only, "
                "or several side by side"
            )
        return options

    def of_jobs(self) -> Options:
        """What tasks must have in common to share jobs."""
        return self if self.version is None else replace(self, version=None)

    def plain(self) -> dict[str, Any]:
        """All of them as plain data, from which ``Options(**plain)`` makes them again."""
        return asdict(self)

    def with_task(self, given: Mapping[str, Any]) -> Options:
        """The options of a task that was added through ``with_options(**given)``."""
        for name in given:
            if name in POOL_OPTIONS:
                raise OptionError(f"the option {name!r} belongs to the pool as a whole: give it where the pool is made")
        own = {name: getattr(self, name) for name in _OWN_JOB_OPTIONS}
        if given.get("tasks_per_job") or given.get("tasks_at_once"):
            own |= {"tasks_per_job": None, "tasks_at_once": None}  # one takes back the other
        changed = Options.of({**self.job, **own, **given})
        return replace(self, job=changed.job, **{name: getattr(changed, name) for name in _OWN_JOB_OPTIONS})


def check_names(options: Mapping[str, Any], place: str = "") -> None:
    """Raise OptionError for a name that is no option; the error names the nearest one that is."""
    for name in options:
        if name not in _ALL:
            import difflib  # for this alone

            near = difflib.get_close_matches(name, sorted(_ALL), 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(_ALL))}"
            raise OptionError(f"unknown option {name!r}{_in(place)}{hint}")


_POSITIVE = {"timeout_min", "mem_gb", "nodes", "cpus_per_task", "tasks_per_node", "slurm_time", "slurm_nodes"}
_POSITIVE |= {"budget_core_hours", "max_child_mem_gb", "task_timeout"}
_YES_OR_NO = {"frozen_code", "resume"}
_WHOLE = {"max_failures", "max_tasks_per_child", "cpus_per_task", "nodes", "tasks_per_node"}
_TEXT = {"folder", "python", "slurm_partition", "slurm_account", "slurm_qos", "slurm_job_name", "slurm_constraint"}
_TEXT |= {"slurm_bin", "slurm_clusters"}


def check_value(name: str, value: Any, place: str = "") -> None:
    """Raise OptionError if no option of that name can have the value."""
    problem = _problem(name, value)
    if problem:
        raise OptionError(f"the option {name!r}{_in(place)} {problem}, not {value!r}")


def _problem(name: str, value: Any) -> str:
    """What is wrong with the value, or nothing. What only the scheduler can judge is left to it."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "executor" and value not in EXECUTORS:
        return f"must be one of {', '.join(EXECUTORS)}"
    if name in _YES_OR_NO and value not in (True, False):
        return "must be True or False"
    if name == "keep" and value not in ("failed", "all"):
        return 'must be "failed" or "all"'
    if name == "on_interrupt" and value not in ("cancel", "detach"):
        return 'must be "cancel" or "detach"'
    if name == "tasks_per_job" and value not in (None, 1):
        return "must be 1 (each task a job of its own) or left out"
    if name == "tasks_at_once" and not (value == "auto" or (isinstance(value, int) and number and value >= 1)):
        return 'must be a whole number of at least 1, or "auto"'
    if name == "version" and not isinstance(value, (str, int, float)):
        return "must be a text or a number"
    if name == "retries":
        return _retries_problem(value)
    if name in _POSITIVE and not (number and value > 0):
        return "must be a number above 0 (0 would mean without limit)" if "time" in name else "must be a number above 0"
    if name in _WHOLE and not (isinstance(value, int) and number and value >= 1):
        return "must be a whole number of at least 1"
    if name in ("max_jobs", "stop_after") and not (isinstance(value, int) and number and value >= 0):
        return "must be a whole number of at least 0"
    if name in ("idle_seconds", "gpus_per_node") and not (number and value >= 0):
        return "must be a number of at least 0"
    if name in _TEXT and not isinstance(value, str):
        return "must be a text"
    if name in ("slurm_setup", "slurm_teardown") and not (
        isinstance(value, list) and all(isinstance(line, str) for line in value)
    ):
        return "must be a list of shell lines"
    if name == "slurm_additional_parameters" and not (isinstance(value, Mapping) and all(map(_is_name, value))):
        return "must map names of sbatch options (letters, digits and dashes) to values"
    if _has_newline(value) and name not in ("folder", "slurm_setup", "slurm_teardown"):
        return "must be of one line (it becomes a line of the sbatch script)"
    return ""


def _retries_problem(value: Any) -> str:
    if isinstance(value, Mapping):
        for cause, rule in value.items():
            if cause not in RETRY_CAUSES:
                return f"must be a number, or map some of {', '.join(RETRY_CAUSES)} to one"
            expression = isinstance(rule, str) and re.fullmatch(RETRY_EXPRESSION, rule.replace(" ", ""))
            if not expression and not (isinstance(rule, int) and not isinstance(rule, bool) and rule >= 0):
                return f'must have for {cause!r} a whole number of at least 0, or a text such as "mem_gb*2<=64"'
        return ""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return "must be a whole number of at least 0, or a mapping of causes to such"
    return ""


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", key) is not None


def _has_newline(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_newline, value.values()))
    return any(mark in str(value) for mark in "\n\r\0")


def _in(place: str) -> str:
    return f" in {place}" if place else ""
