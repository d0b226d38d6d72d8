"""What is good or bad about a place, and what to do about it: facts in, findings out. Nothing is looked at here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..findings import OK, PROBLEM, WARNING, Finding
from .sites import Account, Partition, Qos

__all__ = ["MAKE_ROOM", "line_of", "of_account", "of_accounts", "of_clock", "of_cpus", "of_duration", "of_imports"]
__all__ += ["of_lateness", "of_limits", "of_packages", "of_partition", "of_partitions", "of_python", "of_qos", "of_space"]

_SLOW_COMMAND = 2.0  # seconds for an answer of SLURM's
_SLOW_IMPORT = 10.0  # seconds: each worker pays them once
MAKE_ROOM = "make room (nornir-pools clean --older 14d), or choose another folder with --folder"
_LATE = 2.0  # seconds until a file shows
_CLOCK = 1.0  # seconds: make, rsync and people compare times
_SHOWN = 6  # names in one line
_LINES = 10  # partitions, or accounts, that get a line


def _listed(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    first = sorted(names)[:_SHOWN]
    return ", ".join(first) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def line_of(error: BaseException) -> str:
    """What a SLURM command said, on one line and without its own name before each sentence."""
    lines = [line.strip().removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines()]
    return "; ".join(filter(None, lines))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def of_space(free: int, files: int | None) -> Finding:
    """Bytes and files that still find room (None: as many as you like)."""
    words = f"{_size(free)} free" + ("" if files is None else f", room for {files:,} more files")
    few = files is not None and files < 10_000
    if free >= 1_000_000_000 and not few:
        return Finding("space", OK, words)
    none = free < 10_000_000 or (files is not None and files < 100)
    return Finding("space", PROBLEM if none else WARNING, words, MAKE_ROOM)


def of_cpus(usable: int, all_of_them: int) -> Finding:
    """CPUs that this process may use, of those that the machine has."""
    if usable == all_of_them:
        return Finding("CPUs here", OK, f"this process may use all {usable} of this machine")
    why = "its affinity, cgroup or job allows no more"
    return Finding("CPUs here", OK, f"this process may use {usable} of this machine's {all_of_them}: {why}")


def of_duration(command: str, seconds: float) -> Finding:
    """How long a SLURM command took that has worked."""
    words = f"works, and answers in {seconds:.2f} s"
    if seconds <= _SLOW_COMMAND:
        return Finding(command, OK, words)
    advice = "SLURM is busy: pools ask it seldom, and wait; jobs of several tasks each help it, and you"
    return Finding(command, WARNING, words, advice)


def of_partitions(partitions: Sequence[Partition]) -> list[Finding]:
    """Those that the user can see, the default first."""
    told = [
        f"{one.name}{' (default)' if one.default else ''}{'' if one.up else ' (not up)'}: "
        f"{_time(one.limit)}, {one.nodes} node{'' if one.nodes == '1' else 's'} of {one.cpus} CPUs and {_megabytes(one.memory)}"
        for one in sorted(partitions, key=lambda one: not one.default)
    ]
    if not told:
        return [Finding("partition", PROBLEM, "you can see none", "ask the site which partition you may use")]
    return _each("partition", told, "sinfo")


def _each(subject: str, told: Sequence[str], command: str) -> list[Finding]:
    """A finding for each, unless there are too many."""
    findings = [Finding(subject, OK, words) for words in told[:_LINES]]
    if len(told) > _LINES:
        findings.append(Finding(subject, OK, f"and {len(told) - _LINES} more: {command} lists them"))
    return findings


def _time(limit: str) -> str:
    return "no time limit" if limit == "infinite" else f"at most {limit}"


def _megabytes(text: str) -> str:
    return _size(int(text) * 1024 * 1024) if text.isdigit() else f"{text} MB"


def of_partition(wanted: str, partitions: Sequence[Partition]) -> Finding | None:
    """Whether there is that partition; None if it looks well so far."""
    known = {one.name: one for one in partitions}
    asked = wanted.split(",") if wanted else []
    missing = [name for name in asked if name not in known]
    if missing:
        words = f"there is no partition {missing[0]!r} that you can see"
        return Finding("partition", PROBLEM, words, f"choose one with --partition, of {_listed(known)}")
    if not asked and not any(one.default for one in partitions):
        words = "none is given, and this cluster has no default"
        return Finding("partition", PROBLEM, words, f"choose one with --partition, of {_listed(known)}")
    if asked and not any(known[name].up for name in asked):
        return Finding("partition", PROBLEM, f"{wanted} is not up", "choose another with --partition, or wait")
    return None


def of_accounts(accounts: Sequence[Account], default: str) -> list[Finding]:
    """All that the user has, with their limits, the default first."""
    if not accounts:
        words = "SLURM's accounting does not know you"
        return [Finding("account", WARNING, words, "if jobs are refused, ask the site for an account")]
    told = []
    for one in sorted(accounts, key=lambda one: one.name != default):
        limits = [f"QOS {', '.join(one.qos)}" if one.qos else "", *_limits(one)]
        where = f" in partition {one.partition}" if one.partition else ""
        mark = " (default)" if one.name == default else ""
        told.append(f"{one.name}{mark}{where}: {', '.join(filter(None, limits)) or 'no limits'}")
    return _each("account", told, "sacctmgr show associations")


def _limits(one: Account | Qos) -> list[str]:
    return [
        f"at most {one.max_submit} jobs in the queue" if one.max_submit is not None else "",
        f"{one.max_jobs} at once" if one.max_jobs is not None else "",
        f"{one.max_wall} each" if one.max_wall else "",
    ]


def of_qos(qos: Sequence[Qos]) -> list[Finding]:
    """Those under which the user's accounts may run jobs."""
    told = [f"{one.name}: {', '.join(filter(None, _limits(one))) or 'no limits of its own'}" for one in qos]
    return _each("QOS", told, "sacctmgr show qos")


def of_account(wanted: str, accounts: Sequence[Account], partition: str) -> Finding | None:
    """Whether the user has that account; None if it looks well so far."""
    mine = [one for one in accounts if one.name == wanted]
    names = {one.name for one in accounts}
    if not mine:
        words = f"you have no account {wanted!r}: jobs under it may be refused or never start"
        advice = f"choose one with --account, of {_listed(names)}" if names else "ask the site which account is yours"
        return Finding("account", PROBLEM, words, advice)
    if partition and all(one.partition not in ("", *partition.split(",")) for one in mine):
        words = f"account {wanted!r} may not use partition {partition!r}"
        return Finding("account", PROBLEM, words, f"it may use {_listed({one.partition for one in mine})}")
    return None


def of_limits(array: int, accounts: Sequence[Account], qos: Sequence[Qos], max_jobs: int, *, enforced: bool) -> Finding:
    """How large an array may be, and how many jobs may be in the queue."""
    words = [f"arrays of up to {array} jobs (MaxArraySize)" if array else "MaxArraySize is not known"]
    limits = [one.max_submit for one in accounts if one.max_submit is not None]
    limits += [one.max_submit for one in qos if one.max_submit is not None]
    most = min(limits, default=None)
    if most is None:
        words.append("no limit to your jobs in the queue" if accounts else "limits of your jobs are not known")
        return Finding("limits", OK, ", ".join(words))
    words.append(f"at most {most} of your jobs in the queue{'' if enforced else ', though that is not enforced now'}")
    if most >= max_jobs:
        return Finding("limits", OK, ", ".join(words))
    advice = f"a pool sends up to {max_jobs} jobs and waits when refused; max_jobs={most} lets it stay within the limit"
    return Finding("limits", WARNING, ", ".join(words), advice, {"max_jobs": max(1, most)})


def of_lateness(there: float, here: float) -> Finding:
    """Seconds until the job saw a file of ours, and we one of the job's."""
    words = f"a file from here shows there after {there:.2f} s, one from there here after {here:.2f} s"
    if max(there, here) <= _LATE:
        return Finding("lateness", OK, words)
    advice = "each task waits that long for its job, and you for each result; a folder on another file system may be faster"
    return Finding("lateness", WARNING, words, advice)


def of_clock(seconds: float, host: str) -> Finding:
    """By how much the node's clock is ahead."""
    if abs(seconds) <= _CLOCK:
        return Finding("clock", OK, f"{host}'s differs by {abs(seconds):.2f} s")
    words = f"{host}'s is {abs(seconds):.1f} s {'ahead' if seconds >= 0 else 'behind'}"
    advice = "pools do not mind, but make, rsync and the times in logs do; tell the site"
    return Finding("clock", WARNING, words, advice)


def of_python(mine: Sequence[int], theirs: Mapping[str, Any], where: str) -> Finding:
    """Whether pickles can be exchanged with the Python of jobs. `theirs` is what the probe said, `where` as in "on n1"."""
    here, there = ".".join(map(str, mine)), ".".join(map(str, theirs["version"]))
    if list(mine[:2]) != theirs["version"][:2]:
        words = f"{there} {where} ({theirs['executable']}), but {here} here: calls and results cannot be exchanged"
        advice = "have jobs start the Python of this environment, which the nodes must see; the option python= names another"
        return Finding("Python", PROBLEM, words, advice)
    words = f"{there} {where}" + (" and here" if here == there else f", {here} here")
    return Finding("Python", OK, words)


def of_packages(mine: Mapping[str, str], theirs: Mapping[str, Any], where: str) -> Finding:
    """Whether the packages that calls and results depend on are the same there. `theirs` is what the probe said."""
    there: Mapping[str, str] = theirs["packages"]
    if not there["nornir_pools"]:
        words = f"nornir_pools cannot be imported {where}: {theirs.get('error', '')}"
        advice = "install it where the nodes see it, in the environment whose Python the jobs start"
        return Finding("packages", PROBLEM, words, advice)
    wrong = [
        f"{name} {version or 'not installed'} here, {there[name] or 'not installed'} {where}"
        for name, version in mine.items()
        if version != there[name] and (version or name == "numpy")
    ]
    if not wrong:
        same = ", ".join(f"{name} {version}" for name, version in sorted(mine.items()) if version)
        return Finding("packages", OK, f"the same there: {same}")
    grave = not there["cloudpickle"] or mine["nornir_pools"] != there["nornir_pools"]
    advice = "use one environment on both sides: pickles of one version may not load in another"
    return Finding("packages", PROBLEM if grave else WARNING, "; ".join(wrong), advice)


def of_imports(imports: Sequence[Mapping[str, Any]], where: str, asked: bool) -> Finding:
    """Seconds to import the user's packages. `imports` is what the probe said of each, `asked` whether the user named them."""
    subject = f"imports {where}"
    if not imports:
        words = "none of numpy, scipy, skimage and torch is installed here"
        return Finding(subject, OK, words, "name the packages of your tasks with --import")
    told = ", ".join(f"{one['name']} {_import(one)}" for one in imports)
    failed = [one for one in imports if one["error"] and one["error"] != "given up"]
    if failed:
        advice = f"a task that imports {failed[0]['name']} would fail {where}: install it in the environment that jobs use"
        return Finding(subject, PROBLEM if asked else WARNING, told, advice)
    if sum(one["seconds"] for one in imports) > _SLOW_IMPORT:
        advice = "each worker pays that once: an environment on a faster file system, or in a container image, starts sooner"
        return Finding(subject, WARNING, told, advice)
    return Finding(subject, OK, told)


def _import(one: Mapping[str, Any]) -> str:
    error = str(one["error"])
    if error == f"ModuleNotFoundError: No module named {one['name']!r}":
        return "is not installed"
    if error == "given up":
        return f"takes more than {one['seconds']:.0f} s"
    return f"fails ({error})" if error else f"{one['seconds']:.1f} s"
