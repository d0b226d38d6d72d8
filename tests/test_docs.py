"""README and docs hold true: the example prints what is shown, on a cluster as well, and commands and links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

import nornir_pools as pools
from nornir_pools import errors, here, progress, settings
from nornir_pools.cli import app
from nornir_pools.options import JOB_OPTIONS, Options, check_names

from . import functions
from .conftest import until
from .imports import MODULES, own_imports, tree_of
from .lab import Slurm

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *(path for place in ("docs", "slurm", "tests") for path in sorted((ROOT / place).rglob("*.md")))]

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


def test_every_program_of_the_first_tutorial_is_run() -> None:
    text = (ROOT / "docs" / "tutorial" / "first-pool.md").read_text(encoding="utf-8")
    assert text.count("```python") == 4 == len(shown("tutorial/first-pool.md"))


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


def test_the_bar_shown_is_the_one_that_is_drawn() -> None:
    watch = progress.Watch(pools.GetThreadPool("tiles", 1))
    watch._since, watch._before = time.monotonic() - 412 / 8.1, 0
    words = ", ".join(watch._words(progress.Counts(1000, 412, 32, 556, 3, "Priority")))
    assert re.fullmatch(rf"tiles [━╸]+ 412/1000 {re.escape(words)}\n", blocks("text")[2])


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
    """A name is documented by its docstring, where its module or itself is named, or in words."""
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"(?:auto\w+:: nornir_pools[\w.]*\.|`)(\w+)\b", text)) | {*errors.__all__}
    for name in re.findall(r"automodule:: (nornir_pools\.\w+)", text):
        module = importlib.import_module(name)
        told |= {name for name in module.__all__ if callable(value := getattr(module, name)) and value.__doc__}
        told |= set(re.findall(r'^(\w+)\b.* = .*\n"""', Path(module.__file__ or "").read_text(encoding="utf-8"), re.MULTILINE))
    assert not {name for name in pools.__all__ if name not in told and not name.startswith("_")}


def constants() -> set[str]:
    """All texts in the package's code, docstrings left out."""
    found = set()
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            inner = [child for child in ast.iter_child_nodes(node) if not isinstance(node, ast.Expr)]
            found |= {child.value for child in inner if isinstance(child, ast.Constant) and isinstance(child.value, str)}
    return found


def test_the_settings_tell_of_every_variable_that_is_read_and_of_no_other() -> None:
    table = set(re.findall(r"^([A-Z][A-Z_]+)\*? ", settings.__doc__ or "", re.MULTILINE))
    used = constants()
    assert {"MAX_PYTHON_THREADS", "NORNIR_POOLS_", "SCRATCH"} <= table <= used
    between_processes = {here.PROFILES, here.MANAGER_ADDRESS, here.MANAGER_KEY}
    options = {f"NORNIR_POOLS_{name}" for name in ("EXECUTOR", "FOLDER", "MAX_JOBS", "SLURM_BIN")}  # told as NORNIR_POOLS_*
    assert {name for name in used if re.fullmatch("NORNIR_[A-Z_]+", name)} - between_processes - options <= table
    read = {
        name
        for path in MODULES.values()
        for names in re.findall(
            r"""environ(?:\.\w+\(|\[)"([A-Z_]+)"|"([A-Z_]+)" in os\.environ""", path.read_text(encoding="utf-8")
        )
        for name in names
    } - {"", "USER", "COMPUTERNAME", "PATH"}  # (the system's own)
    of_the_job = {name for name in read if name.startswith(("SLURM", "PRETEND_SLURM"))}
    assert not {name for name in read - of_the_job if name not in (settings.__doc__ or "")}


def test_the_page_of_the_configuration_has_all_of_it() -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert "automodule:: nornir_pools.settings" in text
    left_out = set(re.findall(r"\w+", re.findall(r":exclude-members:(.*)", text)[0]))
    assert not left_out & {item.name for item in fields(Options)}
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == JOB_OPTIONS


def test_the_page_of_a_run_s_files_has_all_of_them() -> None:
    pool = pools.GetClusterPool("files", 1, executor="local", keep="all")
    first = pool.add_task("fails", functions.fail)
    pool.add_task("waits", functions.add, pool.add_task("one", functions.add, 1))
    pool.wait_completion()
    assert first.exception() is not None
    assert pool.folder is not None
    there = {path.name for path in pool.folder.iterdir()}
    text = (ROOT / "docs" / "reference" / "run-folder.md").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE))
    assert not {name for name in there if not re.search(rf"`{re.escape(name)}(/|`)", named)}
    assert {"failed", "held", "journal.jsonl", "todo"} <= there


def made() -> Any:
    """What makes parts of the pages."""
    spec = importlib.util.spec_from_file_location("made", ROOT / "docs" / "made.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_architecture_shows_the_imports() -> None:
    parts = made()
    (picture,) = [part for mark, make in parts.PARTS.items() if "digraph" in (part := make())]
    assert "<!-- the picture -->" in (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    modules = set(MODULES) - {"local", "cluster"}
    places = {module: parts.group_of(module) for module in modules}  # a new module needs a place in docs/made.py
    order = list(parts.GROUPS)
    drawn = set(re.findall(r'^"([^"]+)" -> "([^"]+)";$', picture, re.MULTILINE))
    for module in modules:
        for other in own_imports(module):
            upper, lower = places[module], places[other]
            assert order.index(upper) <= order.index(lower), f"{module} imports {other}, which stands above it"
            assert upper == lower or leads(drawn, upper, lower), f"no arrow for {module} -> {other}"
    for arrow in drawn:
        assert any(arrow == (places[module], places[other]) for module in modules for other in own_imports(module)), arrow
        assert not leads(drawn - {arrow}, *arrow), f"{arrow} says nothing new"
    assert set(parts.PLACES) <= set(MODULES), "the picture has modules that there are not"


def leads(arrows: set[tuple[str, str]], upper: str, lower: str) -> bool:
    """Whether a way along arrows leads from one group to the other."""
    return any(start == upper and (end == lower or leads(arrows, end, lower)) for start, end in arrows)


def test_the_reference_of_the_command_line_has_every_command() -> None:
    text = made().PARTS["<!-- the commands -->"]()
    assert "<!-- the commands -->" in (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    commands: Any = typer.main.get_command(app)
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(commands.commands)
    for row in ("| `-n, --jobs N` | Most jobs at once. |", "| `--wait, --detach` | Wait here, or go on in the background. |"):
        assert f"{row}\n" in text
    assert "```text\nnornir-pools why [OPTIONS] RUN TASK\n```" in text


def anchors(page: Path) -> set[str]:
    """What links may lead to in a page: its headings, and those of what it includes."""
    text = page.read_text(encoding="utf-8")
    included = [page.parent / name for name in re.findall(r"^```\{include\} (\S+)$", text, re.MULTILINE)]
    headings = re.findall(r"^#{1,3} (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    found = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    return found.union(*map(anchors, included))


def test_links_lead_to_files_and_headings() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            target, _, anchor = link.partition("#")
            path = (page.parent / target).resolve() if target else page
            if "://" in link:
                continue
            if not path.exists() or not path.is_relative_to(ROOT) or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", index) == records
    assert [name[:4] for name in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
