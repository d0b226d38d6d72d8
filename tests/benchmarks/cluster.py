"""How soon are tasks done as jobs of SLURM, against the peers, and how near is that to what files allow?

Needs a SLURM whose nodes see the folder given by ``--folder`` (for the lab of one machine, any folder), and has the best
numbers if nobody else uses it. The time begins before a peer is imported. What is called of SLURM is counted, also in jobs,
by programs of the same names that stand first on PATH; files are counted once all is closed and the jobs are gone.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from .cluster_peers import PEERS, Run
from .harness import Case, Contender, check
from .work import Square

__all__ = ["cases", "check_accounted", "clean"]

LIMIT = 400.0  # seconds of one measurement
_COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun", "sinfo", "sacctmgr", "salloc")
_NEEDS = {
    "submitit map_array": "submitit",
    "submitit, grouped by hand": "submitit",
    "clusterfutures": "cfut",
    "executorlib": "pysqa",
    "executorlib, block allocation": "pysqa",
    "executorlib, in an allocation": "executorlib",
    "dask-jobqueue": "dask_jobqueue",
    "Parsl": "parsl",
    "sbatch --array": "sbatch",
}
_PILOTS = (
    "executorlib, block allocation",
    "executorlib, in an allocation",
    "dask-jobqueue",
    "Parsl",
)  # whose jobs stay for more tasks
_JOB_EACH = ("submitit map_array", "clusterfutures", "executorlib", "sbatch --array")


# --- SLURM


def count_calls(place: Path) -> Path:
    """Have each call of a SLURM command, from here or from a job, written down; returns the file."""
    shims, calls = place / "shims", place / "calls"
    shims.mkdir()
    for command in _COMMANDS:
        program = shutil.which(command)
        if program is not None:
            (shims / command).write_text(f'#!/bin/sh\necho {command} >>"{calls}"\nexec {program} "$@"\n', encoding="utf-8")
            (shims / command).chmod(0o755)
    calls.touch()
    os.environ["PATH"] = f"{shims}:{os.environ['PATH']}"
    return calls


def jobs_in(place: Path) -> list[str]:
    """The jobs that were submitted in a folder and are in the queue; none where there is no SLURM."""
    if shutil.which("squeue") is None:
        return []
    done = subprocess.run(["squeue", "--me", "-h", "-o", "%i %Z"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return [job for job, _, folder in (line.partition(" ") for line in lines) if Path(folder).is_relative_to(place)]


def clean(place: Path, patience: float = 0.0) -> None:
    """Cancel the jobs of a measurement that have not ended within that many seconds, and return when the nodes are free."""
    now = time.monotonic()
    cancelled = False
    while jobs := jobs_in(place):
        if not cancelled and time.monotonic() > now + patience:
            subprocess.run(["scancel", *jobs], check=False, stderr=subprocess.DEVNULL)
            cancelled = True
        if time.monotonic() > now + patience + 60:
            return
        time.sleep(0.2)


def check_accounted(jobs: Iterable[str]) -> None:
    """Raise unless the accounting, which is some seconds late, learns of every job."""
    missing, until = set(jobs), time.monotonic() + 40
    while missing:
        command = ["sacct", "-X", "-n", "-P", "-o", "jobidraw", "-j", ",".join(missing)]
        missing -= set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        check(not missing or time.monotonic() < until, f"sacct does not know {missing}")
        time.sleep(0.5 if missing else 0)


# --- what is measured


def check_squares(peer: str, numbers: range, values: list[Square]) -> int:
    """How many jobs have squared the numbers, once the values were found right."""
    check([value for value, _, _ in values] == [number * number for number in numbers], "the results")
    check(os.getpid() not in {process for _, _, process in values}, "tasks ran here")
    jobs = {job for _, job, _ in values}
    if peer.startswith("nornir_pools"):
        check_accounted(jobs)
    return len(jobs)


def many(peer: str, slots: int | None, count: int, seconds: float = 0.0) -> dict[str, float]:
    """From nothing to the last result of tasks that take so long."""
    place = Path.cwd().parent
    calls = count_calls(place)
    numbers = range(count)
    begun = time.perf_counter()
    with PEERS[peer](slots) as run:
        values = run(numbers, seconds)
        taken = time.perf_counter() - begun
    closing = time.perf_counter() - begun - taken
    called = Counter(calls.read_text(encoding="utf-8").split())
    orders = sum(called[name] for name in ("sbatch", "salloc", "scancel"))
    clean(place, patience=10.0)
    files = [path for folder in ("work", "home") for path in (place / folder).rglob("*") if not path.is_dir()]
    result = {
        "to the last result [s]": taken,
        "closing, s": closing,
        "jobs": check_squares(peer, numbers, values),
        "calls of sbatch, salloc, scancel": orders,
        "other SLURM calls": sum(called.values()) - orders,
        "files left": len(files),
        "kB left": sum(path.lstat().st_size for path in files) / 1e3,
    }
    if seconds:
        ideal = count * seconds / (slots or count)
        check(taken >= ideal, f"{taken} s cannot be")
        result["efficiency, %"] = ideal / taken * 100
    return result


def warm_up(run: Run, slots: int) -> int:
    """Return once that many workers have worked; the next number that was not squared yet (some peers remember results)."""
    until, first = time.monotonic() + 60, 1
    while len({process for _, _, process in run(range(first, first + slots), 0.5)}) < slots:
        check(time.monotonic() < until, f"{slots} workers do not come")
        first += slots
    return first + slots


def one_more(peer: str, slots: int, times: int) -> dict[str, float]:
    """One task, all else being there: where jobs stay for more tasks, they have worked before."""

    def once(number: int) -> float:
        before = time.perf_counter()
        ((value, _, _),) = run([number], 0.0)
        taken = time.perf_counter() - before
        check(value == number * number, "a result")
        return taken * 1e3

    with PEERS[peer](slots) as run:
        pilots = peer not in _JOB_EACH
        number = warm_up(run, slots) if pilots else 1
        at_once = [once(number + index) for index in range(times)]
        result = {"right after another [ms]": statistics.median(at_once)}
        if pilots:
            result["99th percentile [ms]"] = statistics.quantiles(at_once, n=100)[98]
            idle = []
            for index in range(10):
                time.sleep(1)
                idle.append(once(number + times + index))
            result["after 1 s without work [ms]"] = statistics.median(idle)
    return result


def stream(peer: str, slots: int, count: int) -> dict[str, float]:
    """Many tasks on jobs that are there."""
    floor = filesystem_floor(Path.cwd())  # before and after, while nobody else is at work: a filesystem has moods, too
    with PEERS[peer](slots) as run:
        first = warm_up(run, slots)
        numbers = range(first, first + count)
        before, used = time.perf_counter(), time.process_time()
        values = run(numbers, 0.0)
        seconds, used = time.perf_counter() - before, time.process_time() - used
    check_squares(peer, numbers, values)
    floor = (floor + filesystem_floor(Path.cwd())) / 2
    return {
        "tasks a second [1/s]": count / seconds,
        "processor time of the script for a task, µs": used / count * 1e6,
        "a file created, renamed, listed, read, removed, µs": floor,
        "a task in units of such files": seconds / count * 1e6 / floor,
    }


def filesystem_floor(folder: Path, count: int = 2_000) -> float:
    """Microseconds that it takes to create, rename, list, read and remove a small file: the least that a task needs."""
    place = folder / "floor"
    place.mkdir()
    draft, name = str(place / "draft"), str(place / "name")
    before = time.perf_counter()
    for _ in range(count):
        with open(draft, "xb") as file:
            file.write(b"x" * 100)
        os.rename(draft, name)
        os.listdir(place)
        with open(name, "rb") as file:
            file.read()
        os.unlink(name)
    seconds = time.perf_counter() - before
    place.rmdir()
    return seconds / count * 1e6


def files_by(processes: int) -> dict[str, float]:
    """How many small files a second so many processes can create, rename, list, read and remove, each in its own folder."""
    folders = [Path.cwd() / str(number) for number in range(processes)]
    before = time.perf_counter()
    pids = []
    for folder in folders:
        folder.mkdir()
        if (pid := os.fork()) == 0:
            filesystem_floor(folder)
            os._exit(0)
        pids.append(pid)
    check(all(os.waitpid(pid, 0)[1] == 0 for pid in pids), "a process has failed")
    return {"files a second [1/s]": 2_000 * processes / (time.perf_counter() - before)}


# --- cases


def contender(
    peer: str,
    slots: int | None,
    *args: float,
    measure: Callable[..., dict[str, float]] = many,
    rounds: int | None = None,
    multiple: tuple[Case, int] | None = None,
) -> Contender:
    name = f"{peer}, {slots} jobs" if peer.startswith("nornir_pools") and slots else peer
    return Contender(name, measure, (peer, slots, *args), _NEEDS.get(peer, ""), rounds, limit=LIMIT, multiple=multiple)


def from_nothing(count: int, slots: int = 8) -> list[Contender]:
    """All of them, one job for each task or `slots` workers, with `count` tasks that do nothing."""
    return [
        contender("nornir_pools", None, count),
        *([contender("nornir_pools", slots, count)] if count > 1 else []),
        *(contender(peer, slots, count) for peer in ("submitit, grouped by hand", *_PILOTS) if count > 1 or peer in _PILOTS),
    ]


def no_ops(count: int) -> list[Case]:
    """Tasks that do nothing, in numbers that grow; one job for each is not tried where that would take a quarter of an hour."""
    first = Case("the first task from nothing", [*from_nothing(1), *(contender(peer, None, 1) for peer in _JOB_EACH)])
    few = Case(
        f"{count // 10:,} tasks from nothing",
        [*from_nothing(count // 10), *(contender(peer, None, count // 10) for peer in _JOB_EACH)],
    )
    wanted = "1.5 s with 8 jobs, 4 s with default options" if count == 1_000 else ""
    many_ = Case(f"{count:,} tasks from nothing", from_nothing(count), wanted)
    each = Case(  # which takes minutes
        f"{count:,} tasks from nothing, a job for each",
        [
            *(contender("nornir_pools", slots, count, rounds=2) for slots in (None, 8)),
            *(contender(peer, None, count, rounds=1 if peer == "executorlib" else 2) for peer in _JOB_EACH),
        ],
        "≥ 20 × (default options) and ≥ 60 × (8 jobs) submitit's map_array",
    )
    very_many = Case(
        f"{count * 10:,} tasks from nothing",
        [
            *from_nothing(count * 10),
            contender("nornir_pools submit", 8, count * 10),
            contender("nornir_pools map with chunksize", 8, count * 10),
            *(contender(peer, None, count * 10, multiple=(each, 10)) for peer in _JOB_EACH),
        ],
    )
    return [first, few, many_, each, very_many]


def busy(count: int, seconds: float, slots: int, wanted: str, rounds: int | None = None) -> Case:
    """Tasks that take so long each, from nothing, so that the start of the jobs counts as lost."""
    names = ("nornir_pools", "submitit, grouped by hand", *_PILOTS, "submitit map_array", "sbatch --array")
    return Case(
        f"{count:,} tasks of {seconds:g} s on {slots}",
        [
            contender(name, slots, count, seconds, rounds=1 if name in ("submitit map_array", "sbatch --array") else rounds)
            for name in names
        ],
        wanted,
    )


def cases(count: int = 1_000) -> list[Case]:
    pilots = ("nornir_pools", *_PILOTS)
    result = [
        Case("what the filesystem allows", [Contender(f"{number} at once", files_by, (number,)) for number in (1, 2, 8)]),
        *no_ops(count),
        Case(
            "one more task",
            [
                *(contender(peer, 8, 200, measure=one_more) for peer in pilots),
                *(contender(peer, 8, 5, measure=one_more) for peer in _JOB_EACH),
            ],
            "≤ 10 ms right after another",
        ),
        Case(
            f"{10 * count:,} tasks on 8 warm workers",
            [contender(peer, 8, 10 * count, measure=stream) for peer in ("nornir_pools", "nornir_pools submit", *_PILOTS)],
        ),
        busy(count, 0.1, 16, "≥ 80 %"),
        busy(count, 2.0, 32, "≥ 90 %", rounds=2),
        Case("20 tasks of 20 s, a job each", [contender("nornir_pools", None, 20, 20.0, rounds=1)], "20 jobs"),
    ]
    for case in result:
        case.clean = clean
    return result
