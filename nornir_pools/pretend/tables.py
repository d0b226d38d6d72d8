"""What the commands of a pretend SLURM print: columns, asked for in the ways that SLURM's own commands take."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from .store import OVER

__all__ = ["ACCOUNTING", "CLUSTER", "NODES", "QUEUE", "cluster_of", "columns_of", "delimited", "rows_of"]

CLUSTER = "pretend"  # the one that commands talk to by themselves

Row = dict[str, Any]
Column = Callable[[Row], object]


def _time(seconds: float | None) -> str:
    return "N/A" if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02d}:{minutes:02d}:{rest:02d}" if hours or days else f"{minutes}:{rest:02d}"
    return f"{days}-{clock}" if days else clock


def _elapsed(job: Row) -> float:
    return (job["ended"] or time.time()) - job["started"] if job["started"] else 0.0


def _limit(job: Row) -> str:
    return _span(60 * job["minutes"]) if job["minutes"] else "UNLIMITED"


_SHORT = {"PENDING": "PD", "RUNNING": "R", "COMPLETED": "CD", "CANCELLED": "CA", "FAILED": "F", "TIMEOUT": "TO"}
_SHORT |= {"OUT_OF_MEMORY": "OOM", "PREEMPTED": "PR", "NODE_FAIL": "NF"}


def _by_name(columns: dict[str, Column]) -> dict[str, Column]:
    """Each column by all of its names: the letter of --format, and the name of --Format."""
    return {name: column for names, column in columns.items() for name in names.split()}


QUEUE = _by_name(
    {
        "i jobarrayid": lambda job: job["id"],
        "A jobid": lambda job: job["number"],
        "F arrayjobid": lambda job: job["array"],
        "K arraytaskid": lambda job: "N/A" if job["index"] is None else job["index"],
        "T state": lambda job: job["state"],
        "t statecompact": lambda job: _SHORT[job["state"]],
        "r reason": lambda job: job["reason"],
        "R reasonlist": lambda job: f"({job['reason']})" if job["state"] == "PENDING" else job["node"],
        "j name": lambda job: job["name"],
        "N nodelist": lambda job: job["node"],
        "S starttime": lambda job: _time(job["started"]),
        "e endtime": lambda job: _time(job["ended"] or job["end"]),
        "V submittime": lambda job: _time(job["submitted"]),
        "M timeused": lambda job: _span(_elapsed(job)),
        "l timelimit": _limit,
        "P partition": lambda job: job["partition"],
        "u username": lambda job: os.environ.get("USER", os.geteuid()),
        "U userid": lambda job: os.geteuid(),
        "C numcpus": lambda job: job["cpus"],
        "D numnodes": lambda job: 1,
        "m minmemory": lambda job: job["asked"] or 0,
    }
)
NODES = _by_name(
    {
        "N nodelist": lambda node: node["name"],
        "T t statelong": lambda node: "idle",
        "P partition": lambda node: f"{node['partition']}*",
        "R": lambda node: node["partition"],
        "a available": lambda node: "up",
        "l time": lambda node: "infinite",
        "L defaulttime": lambda node: "n/a",
        "D nodes": lambda node: node["count"],
        "c cpus": lambda node: os.cpu_count(),
        "m memory": lambda node: 16000,
    }
)
ACCOUNTING: dict[str, Column] = {
    "jobid": lambda job: job["row"],
    "jobname": lambda job: job["name"],
    "state": lambda job: f"CANCELLED by {os.geteuid()}" if job["state"] == "CANCELLED" else job["state"],
    "exitcode": lambda job: job["exit_code"],
    "maxrss": lambda job: job["memory"] if "." in job["row"] else "",
    "reqmem": lambda job: job["asked"] or "",
    "nodelist": lambda job: job["node"] or "None assigned",
    "partition": lambda job: job["partition"],
    "start": lambda job: _time(job["started"]),
    "end": lambda job: _time(job["ended"]),
    "elapsed": lambda job: _span(_elapsed(job)),
    "elapsedraw": lambda job: int(_elapsed(job)),
    "alloccpus": lambda job: job["cpus"],
}


def columns_of(options: dict[str, str], default: str, known: dict[str, Column]) -> Callable[[Row], str]:
    """What makes a line of a row, as --format ("%.18i|%T") or --Format ("JobID:20,State") say.

    What is not known is printed as N/A.
    """
    if long := options.get("Format"):
        fields = [name.partition(":")[::2] for name in long.split(",")]
        widths = [(known.get(name.strip(".").lower()), int(re.sub(r"\D", "", width) or 20)) for name, width in fields]
        return lambda row: "".join(f"{column(row) if column else 'N/A'}"[:width].ljust(width) for column, width in widths)

    def line(row: Row) -> str:
        def put(match: re.Match[str]) -> str:
            right, width, letter = match.groups()
            text = str(known[letter](row)) if letter in known else "N/A"
            return (text.rjust if right else text.ljust)(int(width))[: int(width)] if width else text

        return re.sub(r"%(\.?)(\d*)(\w)", put, options.get("format") or default)

    return line


def delimited(options: dict[str, str], default: str) -> Callable[[Row], str]:
    """What makes a line of sacct's of a row."""
    names = [name.partition("%")[0].strip().lower() for name in options.get("format", default).split(",")]
    columns: list[Column] = [ACCOUNTING.get(name, lambda job: "") for name in names]
    if "parsable2" in options or "parsable" in options:
        end = "|" if "parsable" in options else ""
        return lambda row: "|".join(str(column(row)) for column in columns) + end
    return lambda row: " ".join(f"{column(row)}"[:12].rjust(12) for column in columns)


def cluster_of(options: dict[str, str]) -> str:
    """The cluster that a command is for; of several it is the first."""
    return options.get("clusters", CLUSTER).partition(",")[0]


def rows_of(jobs: Sequence[Row], options: dict[str, str]) -> list[Row]:
    """The jobs that squeue, or scancel, is to tell of."""
    states = options.get("states", "pending,running,completing").upper().split(",")
    names = options["name"].split(",") if "name" in options else None
    return [
        job
        for job in jobs
        if not job["hidden"]
        and job["cluster"] == cluster_of(options)
        and ("ALL" in states or job["state"] in states or _SHORT[job["state"]] in states)
        and (names is None or job["name"] in names)
        and ("partition" not in options or job["partition"] in options["partition"].split(","))
        and ("nodelist" not in options or job["node"] in options["nodelist"].split(","))
        and not (job["state"] in OVER and time.time() - job["ended"] > 300)  # MinJobAge
    ]
