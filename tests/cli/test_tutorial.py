"""README and tutorials hold true: what they show is typed again, on a real SLURM, and what comes is compared.

If something has changed, the page as it would be now is written to a file whose name the failure tells.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import until
from ..lab import Slurm
from .conftest import ROOT

PAGE = ROOT / "docs" / "tutorial" / "command-line.md"
BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"^Save this script as `(\w+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"\b(?:tiles|cells)-\d{8}-\d{6}-[0-9a-f]{6}\b|\bRUN\d\b")
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
    """Types what stands in a page, in a folder that the page calls `shown`."""

    def __init__(self, folder: Path, shown: str, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.swaps: dict[str, str] = {}  # what stands in the page -> what it is called, or typed, here
        self.runs: list[str] = []
        self.shown = shown

    def type(self, command: str) -> str:
        """What a command prints, as the page would show it."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        self.runs += [run for run in dict.fromkeys(RUN.findall(done.stdout)) if run not in self.runs]
        out = done.stdout if command != "nornir-pools doctor" else _shown_of_doctor(done.stdout)
        out = _OF_TESTS.sub("", out).replace(str(self.folder), self.shown)
        for there, here in self.swaps.items():
            out = out.replace(here, there)
        return re.sub(rf"\b{re.escape(os.uname().nodename)}\b", "login", out)

    def type_all(self, block: str, shown: list[str]) -> str:
        """The commands of a block, each with what it prints. `shown`: the runs of the page."""
        text = ""
        for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            for there, here in zip(shown, self.runs, strict=False):
                command = command.replace(there, here)
            typed = command
            for there, here in self.swaps.items():
                typed = typed.replace(there, here)
            text += f"$ {command}\n{self.type(typed)}"
        return text

    def type_page(self, page: str, then: Callable[[str], None] = lambda block: None) -> str:
        """The page as it would be now, all in it having been typed. `then` is called after each transcript."""
        for name, script in SAVED.findall(page):
            (self.folder / name).write_text(script, encoding="utf-8")
        shown = list(dict.fromkeys(RUN.findall(page)))
        now, place = [], 0
        for block in BLOCK.finditer(page):
            kind, text = block.groups()
            if kind == "sh":
                assert self.type(text) == ""
                continue
            now += [page[place : block.start(2)], self.type_all(text, shown)]
            place = block.end(2)
            then(text)
        return "".join([*now, page[place:]])


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


def compare(now: str, page: str, written: Path) -> None:
    """Fail if they differ in what does not vary."""
    written.write_text(now, encoding="utf-8")
    assert alike(now) == alike(page), f"the page as it would be now: {written}"


def make_programs(folder: Path, **programs: str) -> Path:
    """A folder of programs, each a line of shell."""
    folder.mkdir()
    for name, line in programs.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    return folder


@pytest.fixture
def reader(slurm: Slurm, tmp_path: Path) -> Reader:
    """A newcomer with a login node."""
    programs = make_programs(
        tmp_path / "programs",
        nornir_pools=f'exec {sys.executable} -m nornir_pools "$@"',
        python3=f'exec {sys.executable} "$@"',
        segment='case $1 in tile17.png | tile99.png | tile150.png) echo "segment: $1 has no channel 3" >&2; exit 3 ;; esac',
    )
    folder = tmp_path / "tiles"
    folder.mkdir()
    environment = slurm.environment()
    environment |= {"PATH": f"{programs}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    return Reader(folder, "/scratch/tiles", environment)


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_shows_what_happens(reader: Reader, slurm: Slurm, tmp_path: Path) -> None:
    page, failed = PAGE.read_text(encoding="utf-8"), []

    def note(block: str) -> None:
        if re.search(r"^\$ nornir-pools (run|retry) ", block, re.MULTILINE):
            failed.append(json.loads(reader.type("nornir-pools tasks last --json")))

    now = reader.type_page(page, note)
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
    compare(now, page, tmp_path / PAGE.name)
    until(lambda: not slurm.jobs(), "jobs are left", 40)


@pytest.mark.slurm
def test_the_readme_shows_what_happens(reader: Reader, slurm: Slurm, tmp_path: Path) -> None:
    page = re.sub(r"^```sh\n.*?^```$", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (reader.folder / "tiles.txt").write_text("".join(f"segment tile{number}.png\n" for number in range(1, 201)))
    now = re.sub(r"^\d+/200 done.*\n", "", reader.type_page(page), flags=re.MULTILINE)  # a terminal shows a bar meanwhile
    compare(now, page, tmp_path / "README.md")
    until(lambda: not slurm.jobs(), "jobs are left", 40)


@pytest.mark.slurm
@pytest.mark.timeout(120)
def test_five_commands_lead_from_a_checkout_to_a_job(reader: Reader, slurm: Slurm, tmp_path: Path) -> None:
    lab = Path(slurm.conf).parents[1]
    port = re.search(r"^port_base=(\d+)$", (lab / "options").read_text(), re.MULTILINE) if (lab / "options").exists() else None
    if port is None or os.geteuid() != 0:
        pytest.skip("the commands are those of root, and of slurm/lab")
    for name in ("pyproject.toml", "README.md", "LICENSE", "nornir_pools", "slurm"):
        (reader.folder / name).symlink_to(ROOT / name)
    reader.shown = "/scratch/nornir_pools"
    # No network: the new environment finds what the package needs in that of the tests.
    reader.environment |= {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    reader.swaps = {
        "pip install ": "pip install --no-deps --no-build-isolation ",
        "slurm/lab/start": f"slurm/lab/start --dir {lab} --port-base {port[1]} >told && sinfo && tail -n 1 told",  # it runs
        "/tmp/nornir-pools-lab": str(lab),
    }
    until(lambda: set(slurm.run("sinfo", "-h", "-o", "%T").split()) == {"idle"}, "nodes are not idle", 30)
    page = (ROOT / "docs" / "tutorial" / "cluster.md").read_text(encoding="utf-8")
    compare(reader.type_page(page), page, tmp_path / "cluster.md")
    assert len(re.findall(r"^\$ ", page, re.MULTILINE)) == 5
    until(lambda: not slurm.jobs(), "jobs are left", 40)
