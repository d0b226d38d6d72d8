"""The commands of a pretend SLURM: sbatch, squeue, sacct, scancel, scontrol and sinfo, as far as tests of pools need them."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from .store import OVER, Store
from .tables import CLUSTER, NODES, QUEUE, cluster_of, columns_of, delimited, rows_of

__all__ = ["COMMANDS", "RefusedError", "main", "read_options", "sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue"]

# Of each command, the letters of its options and the names of what they stand for; "=": a value follows.
_LETTERS = {
    "sbatch": "J=job-name o=output e=error p=partition t=time x=exclude c=cpus-per-task a=array D=chdir w=nodelist "
    "d=dependency A=account q=qos n=ntasks N=nodes C=constraint b=begin M=clusters",
    "squeue": "h:noheader r:array o=format O=Format t=states u=user j=jobs n=name p=partition w=nodelist A=account M=clusters",
    "sacct": "n:noheader P:parsable2 p:parsable D:duplicates X:allocations j=jobs o=format u=user S=starttime "
    "E=endtime s=state M=clusters",
    "scancel": "t=states n=name u=user p=partition s=signal b:batch M=clusters",
    "scontrol": "o:oneliner a:all M=clusters",
    "sinfo": "h:noheader N:Node o=format O=Format p=partition t=states n=nodes M=clusters",
}
_VALUED = {"export", "mem", "mem-per-cpu", "wrap", "state", "open-mode", "signal", "comment", "gres", "gpus-per-node"}
_DEFAULT_QUEUE = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"


class RefusedError(Exception):
    """A command fails, and this is what it says."""


def read_options(command: str, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options by their long names (those without a value: ""), and what stands behind them."""
    letters = {item[0]: (item[2:], item[1] == "=") for item in _LETTERS[command].split()}
    valued = _VALUED | {name for name, has in letters.values() if has}
    options: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name in valued:
                value = rest.pop(0)
            options["states" if name == "state" else name] = value
            continue
        for position, letter in enumerate(word[1:], 2):
            name, has_value = letters.get(letter, (letter, False))
            if has_value:
                options[name] = word[position:] or rest.pop(0)
                break
            options[name] = ""
    if command in ("squeue", "sacct", "sinfo", "scancel") and rest and any(word.startswith("-") for word in rest):
        more, behind = read_options(command, [word for word in rest if word.startswith("-")])
        return {**options, **more}, [word for word in rest if not word.startswith("-")] + behind
    return options, rest


# --- sending jobs


def sbatch(store: Store, words: Sequence[str]) -> str:
    """Send jobs: they begin at once."""
    given, rest = read_options("sbatch", words)
    if "wrap" in given:
        text = f"#!/bin/sh\n{given['wrap']}\n"
    elif rest:
        try:
            with open(rest[0], encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError as error:
            raise RefusedError(f"sbatch: error: Unable to open file {rest[0]}") from error
    else:
        text = sys.stdin.read()
    asked = [word for line in re.findall(r"^#SBATCH\s+(.*)$", text, re.MULTILINE) for word in shlex.split(line, comments=True)]
    options = {**read_options("sbatch", asked)[0], **given}
    settings = store.read("settings")
    if "test-only" in options:
        return ""
    if refusal := store.next_refusal():
        raise RefusedError(refusal)
    number = store.new_number()
    for old, new in settings["replace"]:
        text = text.replace(old, new)
    with open(store.path("scripts", str(number)), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    indices = _indices(options["array"]) if "array" in options else [None]
    name = options.get("job-name") or (os.path.basename(rest[0]) if rest else "wrap")
    for place, index in enumerate(indices):
        store.put(_job(options, settings, number, place, index, name, rest[1:]))
    os.environ["PRETEND_SLURM_FOLDER"] = store.folder
    _start_node(store, number)
    where = f" on cluster {cluster_of(options)}" if "clusters" in options else ""
    return str(number) if "parsable" in options else f"Submitted batch job {number}{where}"


def _indices(text: str) -> list[int | None]:
    """The indices of an array such as "0-3,7%2"."""
    found: list[int | None] = []
    for part in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if not match:
            raise RefusedError("sbatch: error: Batch job submission failed: Invalid job array specification")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1)))
    return found


def _job(
    options: dict[str, str],
    settings: dict[str, Any],
    array: int,
    place: int,
    index: int | None,
    name: str,
    arguments: list[str],
) -> dict[str, Any]:
    number = array if not place else 1000 * array + place  # as on SLURM, an element has a number of its own as well
    log = options.get("output") or ("slurm-%j.out" if index is None else "slurm-%A_%a.out")
    marks = {"A": array, "a": index, "j": number, "x": name, "u": os.environ.get("USER", ""), "%": "%"}
    memory = re.fullmatch(r"(\d+)([KMGT]?)B?", options.get("mem", ""))
    return {
        "id": str(array) if index is None else f"{array}_{index}",
        "array": array,
        "index": index,
        "number": number,
        "name": name,
        "arguments": arguments,
        "state": "PENDING",
        "reason": "None",
        "hidden": False,
        "submitted": time.time(),
        "begin": _begin(options.get("begin", "")),
        "started": None,
        "ended": None,
        "end": None,
        "minutes": _minutes(options.get("time", "")),
        "exit_code": "0:0",
        "memory": "",
        "asked": f"{memory[1]}{memory[2] or 'M'}" if memory else "",
        "restarts": 0,
        "node": "",
        "nodes": settings["nodes"],
        "exclude": options.get("exclude", "").split(","),
        "options": options,
        "partition": options.get("partition") or settings["partition"],
        "cluster": cluster_of(options),
        "cpus": int(options.get("cpus-per-task") or 1),
        "folder": os.path.abspath(options.get("chdir") or os.getcwd()),
        "log": re.sub(r"%(\w|%)", lambda match: str(marks.get(match[1], match[0])), log),
    }


def _begin(text: str) -> float:
    """When a job may start that is to begin at "now+1hour"; 0 for at once."""
    match = re.fullmatch(r"now\+(\d+)(s|m|h|d|)\w*", text)
    return time.time() + int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0


def _minutes(text: str) -> float | None:
    """The minutes of a time limit such as "90", "90:00", "1:30:00", "1-12"."""
    days, dash, rest = text.rpartition("-")
    parts = [float(part) for part in rest.split(":") if part]
    if not parts:
        return None
    if dash or len(parts) == 3:
        hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
        return 1440 * float(days or 0) + 60 * hours + minutes + seconds / 60
    return parts[0] + (parts[1] / 60 if len(parts) == 2 else 0.0)


def _start_node(store: Store, array: int) -> None:
    """Start the process that runs the jobs of an array, and that nobody waits for."""
    store.write(f"nodes/{array}", True)  # before it can be over
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in range(3):  # or whoever reads what sbatch prints would wait for the jobs
                os.dup2(nothing, number)
            from .node import Node

            try:
                Node(store, array).run()
            finally:
                os._exit(0)
        os._exit(0)
    os.wait()


# --- looking at jobs, and ending them


def squeue(store: Store, words: Sequence[str]) -> str:
    """List jobs, array elements one by one."""
    options, _ = read_options("squeue", words)
    line = columns_of(options, _DEFAULT_QUEUE, QUEUE)
    jobs = rows_of(store.jobs(options["jobs"].split(",") if "jobs" in options else None), options)
    head = [] if "noheader" in options else ["JOBID PARTITION NAME USER ST TIME NODES NODELIST(REASON)"]
    return "\n".join([*head, *map(line, jobs)])


def sacct(store: Store, words: Sequence[str]) -> str:
    """List jobs, also those that have ended."""
    options, _ = read_options("sacct", words)
    line = delimited(options, "JobID,JobName,Partition,AllocCPUS,State,ExitCode")
    rows = []
    for job in store.jobs(options["jobs"].split(",") if "jobs" in options else None):
        if not job["hidden"] and job["cluster"] == cluster_of(options):
            rows.append(line({**job, "row": job["id"]}))
            if job["started"] and "allocations" not in options:
                rows.append(line({**job, "row": f"{job['id']}.batch", "name": "batch"}))
    return "\n".join(rows)


def scancel(store: Store, words: Sequence[str]) -> str:
    """End jobs."""
    options, ids = read_options("scancel", words)
    if not ids and not options:
        raise RefusedError("scancel: error: No job identification provided")
    wanted = {"states": "ALL", **options}
    for job in rows_of(store.jobs(ids or None), wanted):
        if job["state"] not in OVER:
            store.write(f"requests/{job['id']}.cancel", True)
    return ""


def scontrol(store: Store, words: Sequence[str]) -> str:
    """Show the settings, or a job; start a job anew."""
    _, rest = read_options("scontrol", words)
    action, what, *names = [*rest, "", ""]
    if action == "ping":
        return "Slurmctld(primary) at pretend is UP"
    if action == "requeue":
        for job in store.jobs([what]):
            store.write(f"requests/{job['id']}.requeue", True)
        return ""
    if (action, what) == ("show", "config"):
        return f"ClusterName = {CLUSTER}\nMaxArraySize = 1001\nMinJobAge = 300 sec\nSLURM_VERSION = 24.11.5"
    if (action, what) == ("show", "job"):
        jobs = [job for job in store.jobs([names[0]] if names[0] else None) if not job["hidden"]]
        if not jobs:
            raise RefusedError("slurm_load_jobs error: Invalid job id specified")
        return "\n".join(
            f"JobId={job['number']} ArrayJobId={job['array']} JobName={job['name']} JobState={job['state']} "
            f"Reason={job['reason']} ExitCode={job['exit_code']} Restarts={job['restarts']} NodeList={job['node'] or '(null)'}"
            for job in jobs
        )
    raise RefusedError(f"scontrol: error: a pretend SLURM cannot {' '.join(words)!r}")


def sinfo(store: Store, words: Sequence[str]) -> str:
    """List nodes, or their partition."""
    options, _ = read_options("sinfo", words)
    settings = store.read("settings")
    names, partition = settings["nodes"], options.get("partition") or settings["partition"]
    nodes = [{"name": name, "partition": partition, "count": 1} for name in names]
    rows = nodes if "Node" in options else [{"name": ",".join(names), "partition": partition, "count": len(names)}]
    head = [] if "noheader" in options else ["PARTITION AVAIL TIMELIMIT NODES STATE NODELIST"]
    return "\n".join([*head, *map(columns_of(options, "%P %a %l %D %t %N", NODES), rows)])


COMMANDS: dict[str, Callable[[Store, Sequence[str]], str]] = {
    command.__name__: command for command in (sbatch, squeue, sacct, scancel, scontrol, sinfo)
}


def main(folder: str, command: str, *words: str) -> int:
    """Run a command of the pretend SLURM in that folder; returns its exit status."""
    try:
        answer = COMMANDS[command](Store(folder), words)
    except RefusedError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    sys.stdout.write(f"{answer}\n" if answer else "")
    return 0
