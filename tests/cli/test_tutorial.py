"""The tutorial of the command line holds true: what it shows is typed again, on a real SLURM, and what comes is compared.

If it has changed, the page as it would be now is written to a file whose name the failure tells.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import until
from ..lab import Slurm
from .conftest import ROOT

PAGE = ROOT / "docs" / "tutorial" / "command-line.md"
BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"\btiles-\d{8}-\d{6}-[0-9a-f]{6}\b|\bRUN\d\b")
# Where tests run their commands, no reader should.
_OF_TESTS = re.compile(r"^the run's folder .* is under /tmp, .*\n", re.MULTILINE)
_OF_TESTS_IN_DOCTOR = re.compile(
    r"^warning ( run folder .* can be written here), but is under /tmp.*\n +next: .*$", re.MULTILINE
)
# What doctor says about machine, partitions and accounts is different everywhere, and left out.
_OF_DOCTOR = ("SLURM", "run folder", "squeue", "sbatch", "job", "folder there", "clock", "lateness", "Python", "CPUs there")
# What differs from time to time, and from machine to machine.
VARIES = (
    (r"\d+(?:\.\d+)?s\b|\d+m\d\ds\b|\(\d+ s\)", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
    (r"\d+(?:\.\d+)? [kM]?B\b", "SIZE"),
    (r"in \d+ files", "in FILES"),
    (r"(?<=done), \d failed", ""),  # which of them come first is not certain
    (r"job \d+_\d+ on \w+", "JOB"),
    (r"\b0\.\d\d\b", "SHARE"),
    (r"(?<=job )\d+ has started on \w+ within", "NUMBER has started within"),
    (r"\b\d+\.\d+ s\b|\b\d+ s\b", "TIME"),
    (r"\b\d+\.\d+\.\d+\b", "VERSION"),
    (r"\bn[1-4]\b", "NODE"),
    (r" {2,}", "  "),
)


class Reader:
    """Types what stands in the page."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self.runs: list[str] = []

    def type(self, command: str) -> str:
        """What a command prints, as the page would show it."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        self.runs += [run for run in dict.fromkeys(RUN.findall(done.stdout)) if run not in self.runs]
        out = done.stdout if command != "nornir-pools doctor" else _shown_of_doctor(done.stdout)
        out = _OF_TESTS.sub("", out).replace(str(self.folder), "/scratch/tiles")
        return re.sub(rf"\b{re.escape(os.uname().nodename)}\b", "login", out)

    def type_all(self, block: str, shown: list[str]) -> str:
        """The commands of a block, each with what it prints. `shown`: the runs of the page."""
        text = ""
        for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            typed = command
            for there, here in zip(shown, self.runs, strict=False):
                typed = typed.replace(there, here)
            text += f"$ {typed}\n{self.type(typed)}"
        return text


def _shown_of_doctor(told: str) -> str:
    lines = _OF_TESTS_IN_DOCTOR.sub(r"ok      \1", told).splitlines(keepends=True)
    shown = "".join(line for line in lines if not line.startswith("ok ") or line[9:23].strip() in _OF_DOCTOR)
    return re.sub("^1 warning$", "All is well.", shown, flags=re.MULTILINE) if len(shown) > 1 else told


def alike(text: str) -> str:
    """The text without what varies; runs are numbered."""
    runs = list(dict.fromkeys(RUN.findall(text)))
    text = RUN.sub(lambda found: f"RUN{runs.index(found[0]) + 1}", text)
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text)
    return text


@pytest.fixture
def reader(slurm: Slurm, tmp_path: Path) -> Reader:
    """A newcomer with a login node."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nornir-pools").write_text(f'#!/bin/sh\nexec {sys.executable} -m nornir_pools "$@"\n')
    (programs / "nornir-pools").chmod(0o755)
    folder = tmp_path / "tiles"
    folder.mkdir()
    environment = slurm.environment()
    environment |= {"PATH": f"{programs}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    return Reader(folder, environment)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_shows_what_happens(reader: Reader, slurm: Slurm, tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = list(dict.fromkeys(RUN.findall(page)))
    now, place, failed = [], 0, []
    for block in BLOCK.finditer(page):
        kind, text = block.groups()
        if kind == "sh":
            assert reader.type(text) == ""
            continue
        typed = reader.type_all(text, shown)
        now += [page[place : block.start(2)], typed]
        place = block.end(2)
        if re.search(r"^\$ nornir-pools (run|retry) ", text, re.MULTILINE):
            failed.append(json.loads(reader.type("nornir-pools tasks last --json")))
    now.append(page[place:])
    first, again = failed
    assert [(task["name"], task["status"]) for task in first if task["state"] == "failed"] == [
        ("line 17", 3),
        ("line 99", 3),
        ("line 150", 3),
    ]
    assert len(first) == 200
    assert [(task["name"], task["state"]) for task in again] == [
        (name, "succeeded") for name in ("line 17", "line 99", "line 150")
    ]
    written = tmp_path / PAGE.name
    written.write_text("".join(now), encoding="utf-8")
    assert alike("".join(now)) == alike(page), f"the page as it would be now: {written}"
    until(lambda: not slurm.jobs(), "jobs are left", 40)
