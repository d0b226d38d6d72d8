"""An examination of this place: can pools work here, how well, and if not, why? It takes less than a minute.

What is asked of SLURM stands in sites.py, the small job in trial.py and probe.py, what the facts mean in verdicts.py. Here
is the order of it, and what is left out because something before it failed.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import SpoolError
from ..findings import OK, PROBLEM, WARNING, Finding
from ..options import Options
from . import answers, clusters, sites, slurm, verdicts
from .context import for_submission
from .folder import FULL
from .nodeside import NodeSide
from .places import local_folders_of, runs_folder
from .trial import Trial

__all__ = ["examine"]

_SECONDS = 50.0  # for all of it
_OTHER_FOLDER = "choose another with --folder, on a file system that the nodes share"
_NO_SQUEUE = "jobs that end without a word are found out late"
_NO_SACCT = "ends of jobs are told less well, and what jobs used only as far as their workers measured"
_NOTHING = "nothing: pools do without"
_PACKAGES = ("numpy", "scipy", "skimage", "torch")


def examine(options: Options, packages: Sequence[str] | None) -> Generator[Finding, None, None]:
    """The findings, one by one; when it ends, or is closed, nothing of it is left."""
    names = list(packages) if packages is not None else [name for name in _PACKAGES if importlib.util.find_spec(name)]
    yield from _Examination(options, names, asked=packages is not None).findings()


class _Examination:
    def __init__(self, options: Options, packages: Sequence[str], *, asked: bool) -> None:
        self.options = options
        self.packages = packages
        self.asked = asked  # whether the user has named the packages
        here = {**for_submission(os.environ), settings.SLURM_BIN: options.slurm_bin}
        self.environment = clusters.on(here, clusters.asked_in(options.job, here))
        self.ends = time.monotonic() + _SECONDS
        self.config: dict[str, str] = {}  # the controller's
        self.default_partition = ""
        self.refused = False  # whether it is known that no job can be sent

    def seconds(self, most: float) -> float:
        """A time limit that leaves the whole within its own."""
        return max(1.0, min(most, self.ends - time.monotonic()))

    @property
    def partition(self) -> str:
        return str(self.options.job.get("slurm_partition") or "")

    @property
    def has_accounting(self) -> bool:
        return not self.config.get("AccountingStorageType", "").endswith(("/none", "(null)"))

    def findings(self) -> Iterator[Finding]:
        finding, cluster = self._scheduler()
        yield finding
        yield verdicts.of_cpus(settings.usable_cpus(), os.cpu_count() or 1)
        trial = None
        try:
            try:
                runs = runs_folder(self.options)
                trial = Trial(runs, self.options, self.environment)
                yield from self._folder(runs, trial, cluster=cluster)
            except SpoolError as error:
                full = error.errno in FULL
                words = str(error).partition("; set")[0]  # what to set is said below it
                yield Finding("run folder", PROBLEM, words, verdicts.MAKE_ROOM if full else _OTHER_FOLDER)
            if cluster:
                yield from self._site()
            if trial is not None:
                if cluster and not self.refused:
                    yield from self._submission(trial)
                yield from self._sides(trial, cluster=cluster)
        except OSError as error:  # it is full by now, say, or gone
            yield Finding("run folder", PROBLEM, f"it cannot be used any more: {error}", _OTHER_FOLDER)
        finally:
            if trial is not None:
                trial.close()

    def _scheduler(self) -> tuple[Finding, bool]:
        """Whether jobs would go to SLURM."""
        wanted = self.options.executor
        if wanted in ("local", "debug"):
            return Finding("SLURM", OK, f'not used: executor="{wanted}"'), False
        if slurm.program("sbatch", self.options.slurm_bin) is None:
            if wanted == "slurm" or slurm.looks_installed():
                words = "this machine belongs to a SLURM cluster, but" if slurm.looks_installed() else 'executor="slurm", but'
                advice = (
                    "add SLURM's commands to PATH (module load slurm?), or name their folder with NORNIR_POOLS_SLURM_BIN, or"
                )
                advice += " use NORNIR_POOLS_EXECUTOR=local"
                return Finding("SLURM", PROBLEM, f"{words} sbatch is not on PATH", advice), False
            words = "not here (no sbatch on PATH): jobs are processes of this machine"
            advice = "nothing, if that is what you want; else log in to a node of the cluster"
            return Finding("SLURM", WARNING, words, advice, {"executor": "local"}), False
        if not slurm.is_available(self.options.slurm_bin):
            words = "its packages are installed, but no cluster is configured (no slurm.conf, and none is given by DNS)"
            advice = "set SLURM_CONF if there is a cluster"
            if wanted == "slurm":
                return Finding("SLURM", PROBLEM, words, f"{advice}, or use NORNIR_POOLS_EXECUTOR=local"), False
            words += ": jobs are processes of this machine"
            return Finding("SLURM", WARNING, words, advice, {"executor": "local"}), False
        try:
            config = sites.configuration(self.environment, self.seconds(10))
        except slurm.SlurmError as error:
            self.refused = True
            advice = "if the controller is down, pools wait for it; see scontrol ping"
            return Finding("SLURM", PROBLEM, f"does not answer: {verdicts.line_of(error)}", advice), True
        self.config = config
        return Finding("SLURM", OK, f"{config.get('SLURM_VERSION', '')}, cluster {config.get('ClusterName', '')}"), True

    def _folder(self, runs: Path, trial: Trial, *, cluster: bool) -> Iterator[Finding]:
        local = local_folders_of(runs) if cluster else []
        if local:
            words = f"{runs} can be written here, but is under {local[0]}, which the nodes of a cluster do not share"
            yield Finding("run folder", WARNING, words, _OTHER_FOLDER)
        else:
            yield Finding("run folder", OK, f"{runs} can be written here", "", {} if cluster else {"folder": str(runs)})
        state = os.statvfs(trial.path)
        files = state.f_favail if state.f_files else None  # some file systems do not count files
        yield verdicts.of_space(state.f_bavail * state.f_frsize, files)

    def _site(self) -> Iterator[Finding]:
        """What the scheduler says of itself and of this user."""
        if self.refused:
            return
        yield self._timed("squeue", ["squeue", "-h", "-u", str(os.geteuid())], _NO_SQUEUE)
        if self.has_accounting:
            since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 60))  # ("now-…" is not in every version)
            yield self._timed("sacct", ["sacct", "-n", "-X", "-S", since], _NO_SACCT)
        else:
            yield Finding("sacct", WARNING, f"there is no accounting on this cluster: {_NO_SACCT}", _NOTHING)
        try:
            partitions = sites.partitions(self.environment, self.seconds(10))
            yield from verdicts.of_partitions(partitions)
            self.default_partition = next((one.name for one in partitions if one.default), "")
            if (finding := verdicts.of_partition(self.partition, partitions)) is not None:
                self.refused = True
                yield finding
        except slurm.SlurmError as error:
            yield Finding("partition", WARNING, f"not known: {verdicts.line_of(error)}")
        yield from self._accounts()

    def _timed(self, name: str, command: Sequence[str], lost: str) -> Finding:
        try:
            return verdicts.of_duration(name, sites.seconds_of(command, self.environment, self.seconds(10)))
        except slurm.SlurmError as error:
            return Finding(name, WARNING, f"does not work: {verdicts.line_of(error)}; {lost}", _NOTHING)

    def _accounts(self) -> Iterator[Finding]:
        given = str(self.options.job.get("slurm_account") or "")
        if not self.has_accounting:
            if given:
                yield Finding("account", WARNING, f"{given} means nothing here: this cluster has no accounting", "leave it out")
            yield verdicts.of_limits(self._array_size(), [], [], self.options.max_jobs, enforced=False)
            return
        try:
            accounts = sites.accounts(self.environment, self.seconds(10))
            account = given or sites.default_account(self.environment, self.seconds(10))
            mine = [one for one in accounts if one.name == account] or accounts
            names = sorted({name for one in accounts for name in one.qos})
            qos = sites.qos_named(names, self.environment, self.seconds(10)) if names else []
        except slurm.SlurmError as error:
            yield Finding("account", WARNING, f"yours are not known: sacctmgr says {verdicts.line_of(error)}", _NOTHING)
            yield verdicts.of_limits(self._array_size(), [], [], self.options.max_jobs, enforced=False)
            return
        yield from verdicts.of_accounts(accounts, "" if given else account)
        yield from verdicts.of_qos(qos)
        used = self.options.job.get("slurm_qos") or _qos_of(mine)  # others may be small ones, for tests
        qos = [one for one in qos if one.name == used]
        enforced = "limits" in self.config.get("AccountingStorageEnforce", "").lower()
        yield verdicts.of_limits(self._array_size(), mine, qos, self.options.max_jobs, enforced=enforced)
        if account and (given or accounts):
            finding = verdicts.of_account(account, accounts, self.partition)
            chosen = {"slurm_account": account}
            yield finding or Finding("account", OK, f"jobs go under {account}, which is yours", "", chosen)

    def _array_size(self) -> int:
        text = self.config.get("MaxArraySize", "")
        return int(text) if text.isdigit() else 0

    def _submission(self, trial: Trial) -> Iterator[Finding]:
        """Whether sbatch accepts jobs with the options that pools have here."""
        asked = ", ".join(f"{name}={value}" for name, value in self.options.job.items() if name != "slurm_setup")
        with_what = f"with {asked}" if asked else "without options"
        try:
            took = trial.check_submission(self.seconds(15))
        except slurm.SlurmError as error:
            if answers.is_transient(str(error)):
                words = f"refuses jobs now: {verdicts.line_of(error)}"
                yield Finding("sbatch", WARNING, words, "that may pass: pools wait and try again")
            else:
                self.refused = True
                advice = "mend the option that it names" if asked else "ask the site what a job has to name"
                advice += ", here with --partition or --account, or in nornir_pools.toml"
                yield Finding("sbatch", PROBLEM, f"refuses jobs {with_what}: {verdicts.line_of(error)}", advice)
            return
        duration = verdicts.of_duration("sbatch", took)
        partition = self.partition or self.default_partition
        options = {"slurm_partition": partition} if partition else {}
        yield Finding("sbatch", duration.verdict, f"accepts jobs {with_what}, in {took:.2f} s", duration.advice, options)

    def _sides(self, trial: Trial, *, cluster: bool) -> Iterator[Finding]:
        """This machine beside a node; without a cluster, beside what the local fallback would start."""
        node = None
        if cluster and not self.refused:
            node = NodeSide(trial, self.packages, self.environment, self.ends, asked=self.asked)
        refusal = node.send() if node is not None else None
        here: dict[str, Any] | None = None
        try:
            here = trial.look_here(self.packages, max(5.0, self.seconds(25)), as_a_job=False)
            yield verdicts.of_imports(here["imports"], "here", self.asked)
        except slurm.SlurmError as error:
            yield Finding("Python", PROBLEM, f"does not run here: {verdicts.line_of(error)}", "look at what it says")
        if refusal is not None:
            yield refusal
        elif node is not None:
            yield from node.findings(here)
        elif cluster:
            words = "not looked at, since no job could be sent"
            yield Finding("node", WARNING, words, "mend what is said above, and ask again")
        elif here is not None:
            yield from self._local(trial, here)

    def _local(self, trial: Trial, here: dict[str, Any]) -> Iterator[Finding]:
        """The Python that local jobs start, after the setup lines."""
        try:
            there = trial.look_here([], max(5.0, self.seconds(20)), as_a_job=True)
        except slurm.SlurmError as error:
            words = f"a job on this machine does not start: {verdicts.line_of(error)}"
            yield Finding("local jobs", PROBLEM, words, "look at the options python= and slurm_setup=")
            return
        yield Finding("local jobs", OK, "processes of this machine start as jobs would")
        yield verdicts.of_python(here["version"], there, "in jobs")
        yield verdicts.of_packages(here["packages"], there, "in jobs")


def _qos_of(accounts: Sequence[sites.Account]) -> str:
    """The QOS of jobs under these associations that name none, as far as that is clear."""
    names = {one.default_qos or (one.qos[0] if len(one.qos) == 1 else "") for one in accounts}
    return names.pop() if len(names) == 1 else ""
