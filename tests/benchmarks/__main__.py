"""``python -m tests.benchmarks``: list the benchmarks, run one or all of them, or make the page of their results."""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import nornir_pools

from . import harness, page, tables

NAMES = (
    "threads",
    "processes",
    "arrays",
    "sleeps",
    "imports",
    "commands",
    "local_cluster",
    "cluster",
    "politeness",
    "growth",
    "contention",
)


def question_of(name: str) -> str:
    """The question that a benchmark answers: the first line of its docstring."""
    return (importlib.import_module(f"{__package__}.{name}").__doc__ or "").strip().splitlines()[0]


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say; returns 1 if one of ours failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=(*NAMES, "all", "page"), help="which one; without it they are listed")
    parser.add_argument("--list", action="store_true", help="list the benchmarks, or the cases and contenders of one")
    parser.add_argument(
        "--rounds", type=int, default=harness.ROUNDS, help="how often each contender has its turn (%(default)s)"
    )
    parser.add_argument("--only", metavar="WORDS", default="", help="only the cases that have these words in their title")
    parser.add_argument("--peers", metavar="A,B", help="of the peers only those with one of these in their name (none: ours)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="write all numbers, machine and versions into this folder")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put what is in the --json folder into this page")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=N", help="a number of the benchmark's cases(), as in count=100"
    )
    parser.add_argument("--folder", help="where working folders are made; for the cluster one that all nodes see")
    parser.add_argument("--profile", action="store_true", help="for cluster: where the time of 10,000 tasks goes, and no cases")
    options = parser.parse_args(arguments)
    names = NAMES if options.name in (None, "all") else (options.name,)
    if options.list or options.name is None:
        for name in names:
            print(f"{name:15}{question_of(name)}")
            for case in cases_of(name, options) if options.name is not None else ():
                print(f"{'':15}{case.title}: {'; '.join(contender.name for contender in case.contenders)}")
        return 0
    if options.page is not None and options.json is None:
        parser.error("--page takes its tables from the folder that --json names")
    status = 0
    if options.profile:
        profile(options)
    elif options.name != "page":
        status = max([run(name, options) for name in names])
    if options.page is not None:
        page.make(options.json, options.page)
    return status


def cases_of(name: str, options: argparse.Namespace) -> list[harness.Case]:
    numbers = {
        key: float(value) if "." in value else int(value) for key, _, value in (word.partition("=") for word in options.set)
    }
    cases: list[harness.Case] = importlib.import_module(f"{__package__}.{name}").cases(**numbers)
    return harness.choose(cases, options.only, options.peers)


def run(name: str, options: argparse.Namespace) -> int:
    """Run one benchmark and print its tables as they come."""
    compileall.compile_dir(Path(nornir_pools.__file__).parent, quiet=1)  # as the peers are: pip did that for them
    question, load = question_of(name), os.getloadavg()
    cases = cases_of(name, options)
    print(f"{name}: {question}\nload {load[0]:.2f} before", flush=True)
    for case in cases:
        harness.run(case, options.rounds, options.folder, lambda line: print(line, file=sys.stderr, flush=True))
        for text in tables.tables(harness.of_case(case)):
            print(f"\n{text}", flush=True)
        for contender, failure in case.failures.items():
            print(f"\n{case.title}, {contender} failed: {failure}", flush=True)
        write(name, harness.report(name, question, cases, load, options.folder), options.json)
    print(f"\nload {os.getloadavg()[0]:.2f} after")
    ours = {contender.name for case in cases for contender in case.contenders if contender.ours}
    return 1 if any(ours & case.failures.keys() for case in cases) else 0


def profile(options: argparse.Namespace) -> None:
    """Print where the time goes."""
    from . import profiling

    result: dict[str, Any] = {"question": question_of("profiling"), "parts": []}
    print(result["question"])
    for part in profiling.measure_all(options.folder):
        result["parts"].append(part)
        print(f"\n{profiling.table(part)}", flush=True)
    write(
        "profile",
        {**harness.report("profile", result["question"], [], os.getloadavg(), options.folder), **result},
        options.json,
    )


def write(name: str, result: dict[str, Any], folder: Path | None) -> None:
    """Into a file of that name, for the page."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
