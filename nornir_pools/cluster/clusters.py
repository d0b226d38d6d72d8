"""Several clusters behind one set of SLURM's commands: which one a call is for, and ids of jobs that say where they are.

A job of the cluster that commands talk to by themselves is "7" or "7_0". One of another, which was chosen with the option
``clusters`` or the variable SLURM_CLUSTERS, is "7@big" or "7_0@big": numbers are given by each cluster for itself.

SLURM_CLUSTERS in the environment that a call is given is what says which clusters it is for; `slurm.run` makes it the option
``-M`` of each command, since not all of them read the variable (sacct does not).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["VARIABLE", "array_of", "asked_in", "by_hand", "cluster_of", "element", "id_on", "names_in", "on", "parts"]
__all__ += ["reaching"]

VARIABLE = "SLURM_CLUSTERS"
_LONGEST = 500  # jobs in one call: a command line has room for so many


def names_in(environment: Mapping[str, str]) -> list[str]:
    """The clusters that a call with this environment is for; "" is the one that commands talk to by themselves."""
    return [name.strip() for name in environment.get(VARIABLE, "").split(",")]


def asked_in(job: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The clusters that job options ask for, or else the environment does, with commas between; "" if nobody asks."""
    more = job.get("slurm_additional_parameters") or {}
    return str(job.get("slurm_clusters") or more.get("clusters") or environment.get(VARIABLE, ""))


def on(environment: Mapping[str, str], clusters: str) -> dict[str, str]:
    """The environment for calls that are for these clusters, with commas between."""
    rest = {name: value for name, value in environment.items() if name != VARIABLE}
    return {**rest, VARIABLE: clusters} if clusters else rest


def reaching(environment: Mapping[str, str], jobs: Iterable[str]) -> dict[str, str]:
    """The environment for calls that are for whatever clusters these jobs are on."""
    return on(environment, ",".join(sorted({cluster_of(job) for job in jobs})))


def id_on(job: str, cluster: str) -> str:
    """The id of a job of that cluster."""
    return f"{job}@{cluster}" if cluster else job


def cluster_of(job: str) -> str:
    """The cluster that a job is on."""
    return job.partition("@")[2]


def element(array: str, index: int) -> str:
    """The id of an element of an array."""
    number, _, cluster = array.partition("@")
    return id_on(f"{number}_{index}", cluster)


def array_of(job: str) -> str:
    """The id of the array that a job is an element of."""
    number, _, cluster = job.partition("@")
    return id_on(number.partition("_")[0], cluster)


def parts(jobs: Iterable[str], environment: Mapping[str, str]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The jobs, in parts for which a command line has room: the environment for a call, and the ids there."""
    places: dict[str, list[str]] = {}
    for job in jobs:
        number, _, cluster = job.partition("@")
        places.setdefault(cluster, []).append(number)
    for cluster, numbers in places.items():
        for start in range(0, len(numbers), _LONGEST):
            yield on(environment, cluster), numbers[start : start + _LONGEST]


def by_hand(jobs: Iterable[str]) -> str:
    """The commands by which a person ends these jobs."""
    calls = [(there.get(VARIABLE), numbers) for there, numbers in parts(jobs, {})]
    return "; ".join(" ".join(["scancel", *(["-M", cluster] if cluster else []), *numbers]) for cluster, numbers in calls)
