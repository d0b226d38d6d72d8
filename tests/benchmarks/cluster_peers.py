"""Who runs tasks as jobs of SLURM: this package and its peers, each as one way to have many numbers squared.

Each gets what its own documentation recommends for many short tasks, jobs of one processor, and no more than `slots` tasks
at once where it has a setting for that. All are imported in here, so that a start from nothing holds their imports.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

from .work import Square, square, squares

__all__ = ["PEERS", "Run"]

Run: TypeAlias = Callable[[Sequence[int], float], list[Square]]
"""Squares numbers in jobs, each as a task of so many seconds, and returns once all are there."""

POLL = 0.02  # seconds between two looks for the files of a plain array


@contextlib.contextmanager
def ours(slots: int | None, how: str = "add_task") -> Iterator[Run]:
    import nornir_pools as pools

    def run(numbers: Sequence[int], seconds: float) -> list[Square]:
        if how == "map":
            size = -(-len(numbers) // (slots or 8))
            return list(pool.map(square, numbers, repeat(seconds), chunksize=size))
        if how == "submit":
            tasks = [pool.submit(square, number, seconds) for number in numbers]
        else:
            tasks = [pool.add_task(str(number), square, number, seconds) for number in numbers]
        return [task.wait_return() for task in tasks]

    with pools.GetClusterPool("benchmark", slots, executor="slurm", folder=str(Path.cwd() / "runs")) as pool:
        yield run


@contextlib.contextmanager
def ours_submit(slots: int | None) -> Iterator[Run]:
    with ours(slots, "submit") as run:
        yield run


@contextlib.contextmanager
def ours_map(slots: int | None) -> Iterator[Run]:
    """As many tasks as there are slots, each with an equal part of the calls."""
    with ours(slots, "map") as run:
        yield run


@contextlib.contextmanager
def submitit_array(slots: int | None) -> Iterator[Run]:
    """One job, an array element, for each task."""
    import submitit

    executor = submitit.SlurmExecutor(Path.cwd() / "submitit")
    executor.update_parameters(time=10, array_parallelism=slots or 256)
    yield lambda numbers, seconds: [job.result() for job in executor.map_array(square, numbers, repeat(seconds))]


@contextlib.contextmanager
def submitit_by_hand(slots: int | None) -> Iterator[Run]:
    """As many jobs as there are slots, each with an equal part of the tasks."""
    import submitit

    executor = submitit.SlurmExecutor(Path.cwd() / "submitit")
    executor.update_parameters(time=10)

    def run(numbers: Sequence[int], seconds: float) -> list[Square]:
        size = -(-len(numbers) // (slots or 8))
        parts = [numbers[first : first + size] for first in range(0, len(numbers), size)]
        done = [job.result() for job in executor.map_array(squares, parts, repeat(seconds))]
        return [value for values in done for value in values]

    yield run


@contextlib.contextmanager
def clusterfutures(slots: int | None) -> Iterator[Run]:
    """One job for each task; it has no setting for how many at once."""
    with importlib.import_module("cfut").SlurmExecutor() as executor:
        yield lambda numbers, seconds: list(executor.map(square, numbers, repeat(seconds)))


# As the template that comes along, less --get-user-env, which is for root to use, and with the default partition.
_TEMPLATE = """#!/bin/bash
#SBATCH --output=time.out
#SBATCH --job-name={{job_name}}
#SBATCH --chdir={{working_directory}}
#SBATCH --ntasks={{cores}}
{{command}}
"""


@contextlib.contextmanager
def executorlib_jobs(slots: int | None) -> Iterator[Run]:
    """One job for each task, and files."""
    with importlib.import_module("executorlib").SlurmClusterExecutor(
        cache_directory=str(Path.cwd() / "cache"), resource_dict=_executorlib_resources()
    ) as executor:
        yield _executorlib_run(executor)


@contextlib.contextmanager
def executorlib_block(slots: int | None) -> Iterator[Run]:
    """Jobs that stay, and sockets; without a cache, since with one it writes a file for each task."""
    with importlib.import_module("executorlib").SlurmClusterExecutor(
        max_workers=slots or 8, block_allocation=True, resource_dict=_executorlib_resources()
    ) as executor:
        yield _executorlib_run(executor)


@contextlib.contextmanager
def executorlib_allocation(slots: int | None) -> Iterator[Run]:
    """Job steps that stay, and sockets, for a script that has an allocation: it is got first."""
    count = str(slots or 8)
    granted = subprocess.run(["salloc", "--no-shell", "-n", count], capture_output=True, text=True, check=True).stderr
    job = granted.rpartition("job allocation ")[2].split()[0]
    os.environ.update(SLURM_JOB_ID=job, SLURM_NTASKS=count, SLURM_CPUS_ON_NODE=count)
    try:
        with importlib.import_module("executorlib").SlurmJobExecutor(
            max_workers=int(count), block_allocation=True, hostname_localhost=True
        ) as executor:
            yield _executorlib_run(executor)
    finally:
        subprocess.run(["scancel", job], check=True)


def _executorlib_resources() -> dict[str, Any]:
    return {"cores": 1, "cwd": str(Path.cwd()), "submission_template": _TEMPLATE}


def _executorlib_run(executor: Any) -> Run:
    def run(numbers: Sequence[int], seconds: float) -> list[Square]:
        tasks = [executor.submit(square, number, seconds) for number in numbers]
        return [tuple(task.result()) for task in tasks]

    return run


@contextlib.contextmanager
def dask_jobqueue(slots: int | None) -> Iterator[Run]:
    """Jobs of two workers that stay, and sockets."""
    jobs = (slots or 8) // 2
    cluster = importlib.import_module("dask_jobqueue").SLURMCluster(
        cores=2,
        processes=2,
        memory="1GB",
        walltime="00:10:00",
        local_directory=str(Path.cwd() / "dask"),
        log_directory=str(Path.cwd() / "logs"),
        scheduler_options={"host": "127.0.0.1", "dashboard_address": None},
        worker_extra_args=["--host", "127.0.0.1", "--no-dashboard"],
    )
    with cluster, importlib.import_module("distributed").Client(cluster) as client:
        cluster.scale(jobs=jobs)

        def run(numbers: Sequence[int], seconds: float) -> list[Square]:
            values: list[Square] = client.gather(client.map(square, numbers, [seconds] * len(numbers), pure=False))
            return values

        yield run


@contextlib.contextmanager
def parsl_htex(slots: int | None) -> Iterator[Run]:
    """Jobs of two workers that stay, and sockets."""
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # it starts its programs by name
    parsl = importlib.import_module("parsl")
    provider = importlib.import_module("parsl.providers").SlurmProvider(
        cores_per_node=2,
        init_blocks=(slots or 8) // 2,
        min_blocks=(slots or 8) // 2,
        max_blocks=(slots or 8) // 2,
        walltime="00:10:00",
        exclusive=False,
        launcher=importlib.import_module("parsl.launchers").SimpleLauncher(),
    )
    executor = importlib.import_module("parsl.executors").HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=2, provider=provider, encrypted=False
    )
    with parsl.load(parsl.Config(executors=[executor], run_dir=str(Path.cwd() / "runinfo"), strategy="none")):
        app = parsl.python_app(square)
        yield lambda numbers, seconds: [task.result() for task in [app(number, seconds) for number in numbers]]


_PROGRAM = """\
import os, sys, time
number = int(sys.argv[1])
time.sleep(float(sys.argv[2]))
print('["%d", "%s", %d]' % (number * number, os.environ["SLURM_JOB_ID"], os.getpid()))
"""


@contextlib.contextmanager
def sbatch_array(slots: int | None) -> Iterator[Run]:
    """No Python on this side but to look for the output of each array element; the program of each imports nothing heavy."""
    Path("out").mkdir()
    Path("task.py").write_text(_PROGRAM, encoding="utf-8")

    def run(numbers: Sequence[int], seconds: float) -> list[Square]:
        most = f"%{slots}" if slots else ""
        command = f"exec {sys.executable} {Path('task.py').resolve()} $SLURM_ARRAY_TASK_ID {seconds}"
        array = f"--array={numbers[0]}-{numbers[-1]}{most}"
        subprocess.run(["sbatch", array, "--output=out/%a", "--wrap", command], check=True, stdout=subprocess.DEVNULL)
        missing, values = set(map(str, numbers)), {}
        while missing:
            for name in missing.intersection(os.listdir("out")):
                if (text := Path("out", name).read_text(encoding="utf-8")).endswith("]\n"):
                    value, job, process = json.loads(text)
                    values[int(name)] = int(value), job, process
            missing -= set(map(str, values))
            time.sleep(POLL if missing else 0)
        return [values[number] for number in numbers]

    yield run


PEERS: dict[str, Callable[[int | None], AbstractContextManager[Run]]] = {
    "nornir_pools": ours,
    "nornir_pools submit": ours_submit,
    "nornir_pools map with chunksize": ours_map,
    "submitit map_array": submitit_array,
    "submitit, grouped by hand": submitit_by_hand,
    "clusterfutures": clusterfutures,
    "executorlib": executorlib_jobs,
    "executorlib, block allocation": executorlib_block,
    "executorlib, in an allocation": executorlib_allocation,
    "dask-jobqueue": dask_jobqueue,
    "Parsl": parsl_htex,
    "sbatch --array": sbatch_array,
}
