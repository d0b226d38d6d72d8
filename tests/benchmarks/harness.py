"""Runs benchmarks: contenders take turns, each measurement is a fresh process, and numbers become JSON.

A measurement is a function that returns its numbers by name, as in ``{"first result [ms]": 3.1}``; it checks what it was
given before it returns. Its arguments must fit into JSON. It runs in a working folder and a home of its own.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Case", "Contender", "check", "child", "choose", "of_case", "report", "run"]

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
TIME_LIMIT = 900.0  # seconds of one measurement
_SCRUBBED = ("NORNIR_", "MAX_PYTHON_THREADS", "SLURM_", "SBATCH_", "SRUN_")
_MARK = "BENCHMARK_PLACE"  # in the environment of all that a measurement starts
_CHILD = "from tests.benchmarks.harness import child; child()"


@dataclass(frozen=True)
class Contender:
    """Somebody who does the work. Whose name begins with nornir_pools is ours."""

    name: str
    measure: Callable[..., Mapping[str, float]]
    args: tuple[Any, ...] = ()
    needs: str = ""
    """The module or program that it takes; without it the contender is told as "not installed"."""
    rounds: int | None = None
    """The most rounds, for one that takes very long."""
    limit: float = TIME_LIMIT
    """Seconds after which a measurement counts as failed."""
    not_tried: str = ""
    """Why it is not measured at all."""
    multiple: tuple[Case, int] | None = None
    """It is not measured: its numbers are so many times those that it had in another case."""

    @property
    def ours(self) -> bool:
        return self.name.startswith("nornir_pools")

    @property
    def installed(self) -> bool:
        if not self.needs or shutil.which(self.needs):
            return True
        try:
            return importlib.util.find_spec(self.needs) is not None
        except ModuleNotFoundError:  # of the package that the module is in
            return False


@dataclass
class Case:
    """Contenders who do the same work, and what came out of it."""

    title: str
    contenders: Sequence[Contender]
    wanted: str = ""
    """What the numbers should be, for the reader."""
    clean: Callable[[Path], None] | None = None
    """Called after each measurement with the folder it had: ends what a contender has left outside of it."""
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Metric -> contender -> a number for each round."""
    failures: dict[str, str] = field(default_factory=dict)
    load: tuple[float, float] = (0.0, 0.0)
    """The machine's, before and after."""

    def remark(self, contender: Contender) -> str:
        """Why there are no numbers of a contender, or not of all rounds; "" if there are."""
        if contender.name in self.failures:
            return "failed"
        if not contender.installed:
            return "not installed"
        if contender.multiple is not None:
            return f"computed: {contender.multiple[1]} × its {contender.multiple[0].title}"
        return contender.not_tried

    def note(self, contender: Contender, numbers: Mapping[str, float]) -> None:
        """Take in the numbers of one measurement."""
        for metric, value in numbers.items():
            self.values.setdefault(metric, {}).setdefault(contender.name, []).append(value)


def check(right: object, what: str) -> None:
    """Raise if what a contender returned is wrong: a wrong result has no speed."""
    if not right:
        raise AssertionError(what)


def choose(cases: Sequence[Case], only: str = "", peers: str | None = None) -> list[Case]:
    """The cases with the word `only` in their titles, with ours and the peers that have one of the words `peers` (a,b)."""
    chosen = [case for case in cases if only in case.title]
    for case in chosen if peers is not None else ():
        words = [word.strip().lower() for word in (peers or "").split(",") if word.strip()]
        if any(contender.ours for contender in case.contenders):
            case.contenders = [
                contender
                for contender in case.contenders
                if contender.ours or any(word in contender.name.lower() for word in words)
            ]
    return chosen


def child() -> None:
    """In the fresh process: take one measurement, named by the arguments, and write it down."""
    module, name, args, result = sys.argv[1:]
    numbers = getattr(importlib.import_module(module), name)(*json.loads(args))
    Path(result).write_text(json.dumps(numbers), encoding="utf-8")


def measure(contender: Contender, folder: str | None = None, clean: Callable[[Path], None] | None = None) -> dict[str, Any]:
    """One measurement in a process of its own, in a working folder of its own (inside `folder`).

    Whatever it has started is ended before this returns. Raises RuntimeError if it fails or takes too long.
    """
    function = contender.measure
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=folder, ignore_cleanup_errors=True) as name:
        place = Path(name).resolve()
        result, said = place / "result", place / "stderr"
        words = [function.__module__, function.__qualname__, json.dumps(contender.args), str(result)]
        try:
            status = _run_child(words, place, said, contender.limit)
        finally:
            if clean is not None:
                clean(place)
            _end_what_is_left(place)
        if status != 0 or not result.exists():
            why = f"no result within {contender.limit:g} s" if status is None else f"exit status {status}"
            raise RuntimeError(f"{why}\n{said.read_text(encoding='utf-8', errors='replace')[-2000:]}")
        numbers: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return numbers


def _run_child(words: Sequence[str], place: Path, said: Path, limit: float) -> int | None:
    """The exit status of the process; None if it took too long and was ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SCRUBBED) or name == "SLURM_CONF"}
    kept |= {"PYTHONPATH": str(ROOT), "HOME": str(place / "home"), _MARK: str(place)}
    kept |= {"XDG_CONFIG_HOME": str(place / "home" / "config"), "XDG_DATA_HOME": str(place / "home" / "data")}
    for name in ("home", "work"):
        (place / name).mkdir()
    with open(said, "wb") as errors:  # no pipe, which whatever is left could keep open
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *words],
            cwd=place / "work",
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_what_is_left(place: Path) -> None:
    """Kill the processes that a measurement has left: all that have its folder in their environment."""
    mark = f"{_MARK}={place}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def run(case: Case, rounds: int = ROUNDS, folder: str | None = None, told: Callable[[str], None] = lambda line: None) -> None:
    """Measure every installed contender once a round, in turn. One that fails is told, and takes no further part."""
    load = os.getloadavg()[0]
    for number in range(rounds):
        for contender in case.contenders:
            late = contender.rounds is not None and number >= contender.rounds
            if late or case.remark(contender):
                continue
            begun = time.perf_counter()
            try:
                case.note(contender, measure(contender, folder, case.clean))
            except RuntimeError as error:
                case.failures[contender.name] = str(error)
            took = time.perf_counter() - begun
            told(f"round {number + 1}, {case.title}, {contender.name}: {took:.1f} s {case.failures.get(contender.name, '')}")
    case.load = load, os.getloadavg()[0]
    for contender in case.contenders:
        if contender.multiple is not None:
            other, times = contender.multiple
            for metric, values in other.values.items():
                for value in values.get(contender.name, ()):
                    case.note(contender, {metric: value * times})


def of_case(case: Case) -> dict[str, Any]:
    """A case as it stands in JSON."""
    return {
        "title": case.title,
        "wanted": case.wanted,
        "contenders": {contender.name: case.remark(contender) for contender in case.contenders},
        "values": case.values,
        "failures": case.failures,
        "load": list(case.load),
    }


def report(name: str, question: str, cases: Sequence[Case], load: Sequence[float], folder: str | None) -> dict[str, Any]:
    """All there is to know about a run, for JSON. `load` is the machine's before it, `folder` where the files were."""
    peers = {contender.needs for case in cases for contender in case.contenders if contender.needs}
    return {
        "benchmark": name,
        "question": question,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": ["python", "-m", "tests.benchmarks", *_arguments(sys.argv[1:])],
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "files": _filesystem(folder or tempfile.gettempdir()),
            "load_before": list(load),
            "load_after": list(os.getloadavg()),
        },
        "versions": {"python": platform.python_version(), **_versions({"nornir_pools", "submitit", "cloudpickle", *peers})},
        "cases": [of_case(case) for case in cases],
    }


def _arguments(words: Sequence[str]) -> list[str]:
    """The words of the command line, without those that say where files are."""
    places = ("--json", "--page", "--folder")
    return [
        word for before, word in zip(["", *words], words, strict=False) if before not in places and not word.startswith(places)
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _filesystem(folder: str) -> str:
    """The type of the filesystem that a folder is on."""
    table = Path("/proc/self/mounts")
    mounts = [line.split()[1:3] for line in table.read_text(encoding="utf-8").splitlines()] if table.exists() else []
    above = {str(path) for path in (Path(folder).resolve(), *Path(folder).resolve().parents)}
    return max(((len(place), kind) for place, kind in mounts if place in above), default=(0, "unknown"))[1]


def _versions(modules: set[str]) -> dict[str, str]:
    found = {}
    packages = importlib.metadata.packages_distributions()
    for module in sorted(modules):
        top = module.partition(".")[0]
        name = packages.get(top, [top])[0]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a program, or a checkout that is not installed
            found[name] = importlib.metadata.version(name)
    return found
