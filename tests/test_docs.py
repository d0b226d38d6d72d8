"""README and docs hold true: the example prints what is shown, on a cluster as well, and commands and links lead somewhere."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import errors, settings
from nornir_pools.options import check_names

from .conftest import until
from .lab import Slurm

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
EXAMPLE = next(content for language, content in BLOCKS if language == "python")
OUTPUT = next(content for language, content in BLOCKS if language == "text")
COMMANDS = [content.strip() for language, content in BLOCKS if language == "sh"]


def blocks(language: str) -> list[str]:
    return [content for name, content in BLOCKS if name == language]


def on_cluster() -> str:
    """The example with the lines of README's diff exchanged."""
    script = EXAMPLE
    (diff,) = blocks("diff")
    old = [line[1:] for line in diff.splitlines() if line.startswith("-")]
    new = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    assert len(old) == len(new)
    for before, after in zip(old, new, strict=True):
        assert script.count(f"{before}\n") == 1, f"README's diff takes away a line that the example does not have: {before}"
        script = script.replace(f"{before}\n", f"{after}\n")
    return script


def run_script(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a reader would: from a file in a folder of its own."""
    (folder / "example.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "example.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_example_prints_what_is_shown(tmp_path: Path) -> None:
    done = run_script(EXAMPLE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT, "")


def test_the_run_of_the_example_is_found_when_its_script_was_killed(tmp_path: Path) -> None:
    start, _, _ = on_cluster().partition("for task in tasks:")
    killed = run_script(
        f"{start}\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", tmp_path, NORNIR_POOLS_EXECUTOR="local"
    )
    assert killed.returncode == -9
    (again,) = [content for content in blocks("python") if "attach" in content]
    done = run_script(again, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"tiles-[\w-]+ left", first)
    assert lines == ["tile 0 15.0", "tile 1 40.0", "tile 2 this tile is empty", "count 2", ""]


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_the_example_prints_the_same_as_jobs_of_this_machine(tmp_path: Path, executor: str) -> None:
    done = run_script(on_cluster(), tmp_path, NORNIR_POOLS_EXECUTOR=executor)
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT, "")


@pytest.mark.slurm
def test_the_example_prints_the_same_on_slurm(tmp_path: Path, slurm: Slurm) -> None:
    done = run_script(on_cluster(), tmp_path, NORNIR_POOLS_EXECUTOR="slurm", **slurm.environment())
    assert (done.returncode, done.stdout) == (0, OUTPUT), done.stderr
    until(lambda: not slurm.jobs(), "jobs are left")


def shown(page: str) -> list[tuple[str, str]]:
    """The programs of a page, each with the output that is shown after it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$(?:(?!^```).)*?^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(4))
def test_the_first_tutorial_shows_what_happens(tmp_path: Path, number: int) -> None:
    script, output = shown("tutorial/first-pool.md")[number]
    done = run_script(script, tmp_path, LC_ALL="C")
    assert (done.returncode, done.stdout + done.stderr) == (0, output)


@pytest.mark.slurm
def test_the_tutorial_of_the_cluster_shows_what_happens(tmp_path: Path, slurm: Slurm) -> None:
    ((script, output),) = shown("tutorial/cluster.md")
    done = run_script(script, tmp_path, **slurm.environment())
    assert (done.returncode, done.stdout) == (0, output), done.stderr
    until(lambda: not slurm.jobs(), "jobs are left")


def test_every_program_of_a_tutorial_is_run() -> None:
    for page, count in (("first-pool", 4), ("cluster", 1)):
        text = (ROOT / "docs" / "tutorial" / f"{page}.md").read_text(encoding="utf-8")
        assert text.count("```python") == count == len(shown(f"tutorial/{page}.md"))


def test_the_error_shown_is_one_that_the_package_gives() -> None:
    (name, text) = blocks("text")[1].split(": ", 1)
    assert issubclass(getattr(pools, name), pools.PoolError)
    worker = (ROOT / "nornir_pools" / "cluster" / "worker.py").read_text(encoding="utf-8")
    deaths = (ROOT / "nornir_pools" / "deaths.py").read_text(encoding="utf-8")
    for words in ("the process ", " that ran it on ", "; the job's log: "):
        assert words in text
        assert words in worker
    for words in (": out of memory, says the kernel", "it used ", "the limit is ", "; give the task more memory"):
        assert words in text
        assert words in deaths


def test_the_configuration_shown_is_taken() -> None:
    (text,) = blocks("toml")
    Path("nornir_pools.toml").write_text(text, encoding="utf-8")
    Path("nornir_pools.toml").chmod(0o600)
    options = pools.GetClusterPool("configured", executor="debug").options.job
    assert list(options) == re.findall(r"^(\w+) = ", text, re.MULTILINE)


def test_the_options_and_functions_named_exist() -> None:
    for name in set(re.findall(r"\bGet\w+Pool\b", README)):
        assert hasattr(pools, name), name
    for arguments in re.findall(r"(?:GetClusterPool|with_options)\(([^)]*)\)", README):
        check_names(dict.fromkeys(re.findall(r"(\w+)=", arguments)))


def test_the_two_commands_set_up_all_they_need() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = project.split("\n[project.optional-dependencies]\n")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", table, re.MULTILINE))
    demo, tests = COMMANDS
    for command in COMMANDS:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        (named,) = re.findall(r"'\.\[([\w,]+)\]'", command)
        assert set(named.split(",")) <= extras
    assert demo.endswith(" && .venv/bin/python -m nornir_pools demo")
    assert tests.endswith(" && .venv/bin/python -m pytest")  # .ci/run looks for the line that ends so


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    modules = [importlib.import_module(name) for name in re.findall(r"automodule:: (nornir_pools\.\w+)", text)]
    listed = {"__version__", *errors.__all__, *(name for module in modules for name in module.__all__)}
    assert not {name for name in pools.__all__ if name not in listed and not re.search(rf"nornir_pools\.{name}\b", text)}


def test_the_settings_tell_of_every_variable_that_is_read() -> None:
    read = {
        name
        for path in (ROOT / "nornir_pools").rglob("*.py")
        for names in re.findall(
            r"""environ(?:\.\w+\(|\[)"([A-Z_]+)"|"([A-Z_]+)" in os\.environ""", path.read_text(encoding="utf-8")
        )
        for name in names
    } - {"", "USER", "COMPUTERNAME"}  # (the system's own)
    of_the_job = {name for name in read if name.startswith(("SLURM", "PRETEND_SLURM"))}
    assert {"MAX_PYTHON_THREADS", "SCRATCH"} <= read
    assert not {name for name in read - of_the_job if name not in (settings.__doc__ or "")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            path = (page.parent / target.split("#")[0]).resolve()
            assert path.exists(), f"{page.name} links to {target}"
            assert path.is_relative_to(ROOT), f"{page.name} links to {target}, outside the checkout"


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index) == records
    assert [name[:4] for name in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
