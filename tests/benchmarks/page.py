"""Puts results into a page: tables between the marks ``<!-- results of NAME -->`` and ``<!-- end -->``, and one plot.

What stands between marks is replaced if the folder has the JSON file of that name; all else in the page stays. The plot,
how long it takes to have so many tasks done on SLURM, is written beside the page, with its name and the ending .svg.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

from . import profiling, tables

__all__ = ["make"]

MARKS = re.compile(r"(<!-- results of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TO_THE_LAST = "to the last result [s]"


def make(folder: Path, page: Path) -> None:
    """Put all results that the folder has into the page."""

    def results(match: re.Match[str]) -> str:
        file = folder / f"{match[2]}.json"
        if not file.exists():
            return match[0]
        result = json.loads(file.read_text(encoding="utf-8"))
        image = ""
        if curves(result):
            plot(result, page.with_suffix(".svg"))
            image = f"![Seconds from nothing to the last result]({page.stem}.svg)\n\n"
        return f"{match[1]}{image}{section(result)}\n{match[3]}"

    page.write_text(MARKS.sub(results, page.read_text(encoding="utf-8")), encoding="utf-8")


def section(result: dict[str, Any]) -> str:
    """What was measured where, and the tables."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"Measured {result['date'][:10]} on {machine['cpus']} × {machine['processor']}, "
        f"files on {machine['files']}, with {versions}:",
        f"`{shlex.join(result['command'])}`",
        *(text for case in result["cases"] for text in (*tables.tables(case), conditions(case))),
        *(failure(case["title"], name, text) for case in result["cases"] for name, text in case["failures"].items()),
        *(profiling.table(part) for part in result.get("parts", ())),
    ]
    return "\n\n".join(lines)


def conditions(case: dict[str, Any]) -> str:
    """How busy the machine was with other work before, and with this after it."""
    before, after = case["load"]
    return f"(Load of the machine: {before:.1f} before, {after:.1f} after.)"


def failure(title: str, name: str, text: str) -> str:
    """The first line, which says how, and the last, which most often says why."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return f"{name} failed at “{title}”: {lines[0]}" + (f"; `{lines[-1][:200]}`" if len(lines) > 1 else "")


def plot(result: dict[str, Any], file: Path) -> None:
    """Seconds from nothing to the last result, by the number of tasks."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same numbers give the same file
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(10, 5), layout="constrained")
    for name, points in curves(result).items():
        ours = name.startswith("nornir_pools")
        axes.loglog(*zip(*points, strict=True), "o-" if ours else ".--", linewidth=2.5 if ours else 1, label=name)
    axes.set(xlabel="tasks that do nothing", ylabel="seconds from nothing to the last result")
    axes.grid(which="both", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")  # there are lines all over the axes
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def curves(result: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Contender -> (tasks, seconds)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for case in result["cases"]:
        match = re.fullmatch(r"the first task from nothing|([\d,]+) tasks from nothing(?:, a job for each)?", case["title"])
        for name, numbers in case["values"].get(TO_THE_LAST, {}).items() if match else ():
            count = int(match[1].replace(",", "")) if match and match[1] else 1
            points = found.setdefault(name, [])
            if count not in dict(points):
                points.append((count, statistics.median(numbers)))
    return found
