"""Runs benchmarks: contenders take turns, each measurement is a fresh process, and numbers become tables and JSON.

A measurement is a function that returns its numbers by name, as in ``{"first result [ms]": 3.1}``; it checks what it was
given before it returns. Its arguments must fit into JSON.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Case", "Contender", "check", "child", "report", "run", "table"]

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
TIME_LIMIT = 900.0  # seconds of one measurement
TIMES = ("s", "ms", "µs")
_SCRUBBED = ("NORNIR_", "MAX_PYTHON_THREADS", "SLURM_", "SBATCH_", "SRUN_")
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
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Metric -> contender -> a number for each round."""
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def absent(self) -> list[str]:
        return [contender.name for contender in self.contenders if not contender.installed]


def check(right: object, what: str) -> None:
    """Raise if what a contender returned is wrong: a wrong result has no speed."""
    if not right:
        raise AssertionError(what)


def child() -> None:
    """In the fresh process: take one measurement, named by the arguments, and print it as the last line."""
    module, name, args = sys.argv[1:]
    numbers = getattr(importlib.import_module(module), name)(*json.loads(args))
    print(f"\n{json.dumps(numbers)}", flush=True)


def measure(contender: Contender, folder: str | None = None) -> dict[str, float]:
    """One measurement in a process of its own, in a working folder of its own (inside `folder`)."""
    function = contender.measure
    words = [sys.executable, "-c", _CHILD, function.__module__, function.__qualname__, json.dumps(contender.args)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SCRUBBED) or name == "SLURM_CONF"}
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=folder, ignore_cleanup_errors=True) as place:
        setting: dict[str, Any] = {"cwd": place, "env": {**kept, "PYTHONPATH": str(ROOT)}, "stdin": subprocess.DEVNULL}
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIME_LIMIT, check=False, **setting)
    if done.returncode:
        raise RuntimeError(f"{contender.name}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def run(case: Case, rounds: int = ROUNDS, folder: str | None = None) -> None:
    """Measure every installed contender once a round, in turn. One that fails is told, and takes no further part."""
    for number in range(rounds):
        for contender in case.contenders:
            late = contender.rounds is not None and number >= contender.rounds
            if late or contender.name in case.failures or not contender.installed:
                continue
            try:
                numbers = measure(contender, folder)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                case.failures[contender.name] = str(error)
                continue
            for metric, value in numbers.items():
                case.values.setdefault(metric, {}).setdefault(contender.name, []).append(value)


def ratios(ours: Sequence[float], theirs: Sequence[float], metric: str) -> list[float]:
    """How many times as fast as theirs ours is, round by round; nothing for what is neither a time nor a rate."""
    if len(theirs) == 1:  # measured once: held against every round of ours
        theirs = list(theirs) * len(ours)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a > 0 and b > 0]
    unit = metric.rpartition("[")[2].rstrip("]")
    if unit.endswith("/s"):
        return [a / b for a, b in pairs]
    return [b / a for a, b in pairs] if unit in TIMES else []


def table(case: Case, metric: str) -> str:
    """One metric as a Markdown table. Ratios say how many times as fast ours is; above 1 we are ahead."""
    values = case.values[metric]
    ours = [contender.name for contender in case.contenders if contender.ours and values.keys() > {contender.name}]
    rows = [[f"{case.title}: {metric}", "median", "min-max", "rounds", *(f"{name} is × as fast" for name in ours)]]
    for contender in case.contenders:
        numbers = values.get(contender.name)
        if numbers is None:
            why = "not installed" if contender.name in case.absent else "failed" if contender.name in case.failures else "-"
            rows.append([contender.name, why, *[""] * (len(ours) + 2)])
            continue
        cells = [short(statistics.median(numbers)), f"{short(min(numbers))}-{short(max(numbers))}", str(len(numbers))]
        for name in ours:
            pairs = [] if name == contender.name else ratios(values[name], numbers, metric)
            cells.append(f"{statistics.median(pairs):.2f} ({min(pairs):.2f}-{max(pairs):.2f})" if pairs else "")
        rows.append([contender.name, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, *([f"wanted: {case.wanted}"] if case.wanted else [])])


def short(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(name: str, question: str, cases: Sequence[Case], load: Sequence[float]) -> dict[str, Any]:
    """All there is to know about a run, for JSON. `load` is the machine's before it."""
    peers = {contender.needs for case in cases for contender in case.contenders if contender.needs}
    return {
        "benchmark": name,
        "question": question,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": ["python", "-m", "tests.benchmarks", *sys.argv[1:]],
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "load_before": list(load),
            "load_after": list(os.getloadavg()),
        },
        "versions": {"python": platform.python_version(), **_versions({"nornir_pools", "submitit", "cloudpickle", *peers})},
        "cases": [
            {"title": case.title, "values": case.values, "not_installed": case.absent, "failures": case.failures}
            for case in cases
        ],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions(names: set[str]) -> dict[str, str]:
    found = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name.partition(".")[0])
        except importlib.metadata.PackageNotFoundError:  # a program, or a checkout that is not installed
            continue
    return found
