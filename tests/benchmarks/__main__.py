"""``python -m tests.benchmarks``: list the benchmarks, or run one."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

from . import harness

NAMES = ("threads", "processes", "sleeps", "imports", "commands", "local_cluster", "cluster", "politeness")


def question_of(name: str) -> str:
    """The question that a benchmark answers: the first line of its docstring."""
    return (importlib.import_module(f"{__package__}.{name}").__doc__ or "").strip().splitlines()[0]


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say; returns 1 if a contender failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="which one; without it they are listed")
    parser.add_argument(
        "--rounds", type=int, default=harness.ROUNDS, help="how often each contender has its turn (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, machine and versions there")
    parser.add_argument("--folder", help="where working folders are made; for the cluster one that all nodes see")
    parser.add_argument("--case", metavar="WORD", default="", help="only the cases that have the word in their title")
    options = parser.parse_args(arguments)
    if options.name is None:
        for name in NAMES:
            print(f"{name:15}{question_of(name)}")
        return 0
    return run(options)


def run(options: argparse.Namespace) -> int:
    """Run one benchmark and print its tables as they come."""
    question, load = question_of(options.name), os.getloadavg()
    cases: list[harness.Case] = importlib.import_module(f"{__package__}.{options.name}").cases()
    cases = [case for case in cases if options.case in case.title]
    print(f"{options.name}: {question}\nload {load[0]:.2f} before", flush=True)
    for case in cases:
        harness.run(case, options.rounds, options.folder)
        for metric in case.values:
            print(f"\n{harness.table(case, metric)}", flush=True)
        for name, failure in case.failures.items():
            print(f"\n{case.title}, {name} failed: {failure}", flush=True)
    print(f"\nload {os.getloadavg()[0]:.2f} after")
    if options.json is not None:
        result = harness.report(options.name, question, cases, load)
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if any(case.failures for case in cases) else 0


if __name__ == "__main__":
    sys.exit(main())
