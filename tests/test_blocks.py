"""Every block of README, the tutorials and the how-tos is run by a test. What cannot be run is listed here, with the reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli
import typer.main

from nornir_pools.cli import app
from nornir_pools.options import check_names

ROOT = Path(__file__).resolve().parents[1]
READ = [ROOT / "README.md", *(path for place in ("tutorial", "howto") for path in sorted((ROOT / "docs" / place).glob("*.md")))]
OTHERS = [path for place in ("docs/explanation", "docs/reference", "slurm") for path in sorted((ROOT / place).rglob("*.md"))]
PAGES = [*READ, *OTHERS]

# Blocks that tests elsewhere run: how many of that language the page has, and which tests.
RUN_BY = {
    ("README", "console"): (1, "cli/test_tutorial.py"),
    ("README", "diff"): (1, "test_docs.py"),
    ("README", "python"): (2, "test_docs.py"),
    ("README", "text"): (3, "test_docs.py"),
    ("README", "toml"): (1, "test_docs.py"),
    ("first-pool", "python"): (4, "test_docs.py"),
    ("first-pool", "text"): (4, "test_docs.py"),
    ("cluster", "console"): (5, "cli/test_tutorial.py"),
    ("cluster", "python"): (1, "cli/test_tutorial.py"),
    ("command-line", "console"): (10, "cli/test_tutorial.py"),
    ("command-line", "sh"): (3, "cli/test_tutorial.py"),
    ("joblib-and-dask", "python"): (2, "unit/test_joblib.py"),
    ("test-your-code", "python"): (3, "unit/test_testing.py"),
    ("write-a-template", "bash"): (1, "cluster/test_templates.py"),
}
NOT_RUN = {
    (
        "README",
        "sh",
    ): "they make environments: .ci/run runs the tests by the second; unit/test_demo.py has the demo of the first",
    ("mosaic", "sh"): "the same as README's first",
    ("slurm-at-my-site", "sh"): "partitions and accounts are those of somebody's site",
    ("whole-nodes", "sh"): "cluster/test_allocation.py has scripts under salloc",
    ("write-a-template", "sh"): "the test of the template sends it, with fewer jobs",
}
SHELL = ("configure", "why-did-it-fail", "run-commands")  # how-tos whose commands are typed here, in this order

# What stands before and after the programs of how-tos, which are parts of somebody's script.
AROUND = {
    ("come-back-to-a-run", 0): (
        "before = pools.GetClusterPool('tiles')\nbefore.add_task('tile 1', abs, -1)\nbefore.detach()\n",
        "assert values == {'tile 1': 1}",
    ),
    ("come-back-to-a-run", 1): (
        "from os.path import basename as segment\npaths = ['tiles/a', 'tiles/b']\n",
        "assert [task.wait_return() for task in tasks] == ['a', 'b']",
    ),
    ("choose-a-pool", 0): ("load_model = len\n", "assert pool.submit(abs, -1).result() == 1"),
    ("end-a-stage", 0): ("align, paths = len, ['a', 'bc']\n", "assert [task.result() for task in tasks] == [1, 2]"),
    ("large-arrays", 0): (
        "import numpy\narray, pool = numpy.ones((200, 3)), pools.GetMultithreadingPool('volumes', 2)\n"
        "def segment(volume, z): return volume[z].sum()\n",
        "assert [task.wait_return() for task in tasks] == [3] * 200",
    ),
    ("run-commands", 0): (
        "import pathlib, shlex\npaths = ['a.png', 'b c.png']\n",
        "assert all(pathlib.Path(f'{path}.small.png').exists() for path in paths)",
    ),
    ("why-did-it-fail", 0): (
        "from tests.functions import fail\n"
        "task = pools.GetSerialPool('tiles').add_task('tile', fail, pools.JobOutOfMemoryError, 'it was killed')\n",
        "",
    ),
}


@dataclass(frozen=True)
class Block:
    """A block of code in a page, and which one of its language it is."""

    page: str
    language: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks_of(path: Path) -> list[Block]:
    seen: Counter[str] = Counter()
    found = []
    for _, language, text in re.findall(
        r"^( *)```(\w+)\n(.*?)^\1```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        found.append(Block(path.stem, language, seen[language], textwrap.dedent(text)))
        seen[language] += 1
    return found


BLOCKS = [block for path in READ for block in blocks_of(path)]
HOWTOS = {path.stem for path in READ if path.parent.name == "howto"}
PROGRAMS = [
    block for block in BLOCKS if block.page in HOWTOS and block.language == "python" and (block.page, "python") not in RUN_BY
]


def test_no_block_is_left_out() -> None:
    counts = Counter((block.page, block.language) for block in BLOCKS)
    here = {(block.page, "python") for block in PROGRAMS} | {(page, "sh") for page in SHELL}
    here |= {key for key in counts if key[1] == "toml" and key[0] in HOWTOS}
    assert counts.keys() == RUN_BY.keys() | NOT_RUN.keys() | here, "a block that no test runs, or none where one was"
    assert {key: counts[key] for key in RUN_BY} == {key: number for key, (number, _) in RUN_BY.items()}
    for (page, _), (_, tests) in RUN_BY.items():
        text = (ROOT / "tests" / tests).read_text(encoding="utf-8")
        assert f"{page}.md" in text, f"{tests} has nothing to do with {page}.md"


def programs(folder: Path) -> str:
    """A PATH with the programs that pages name."""
    folder.mkdir()
    lines = {
        "convert": ': > "$4"',
        "nornir-pools": f'exec {sys.executable} -m nornir_pools "$@"',
        "python": f'exec {sys.executable} "$@"',
    }
    for name, line in lines.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_of_a_howto_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "programs"))
    monkeypatch.setenv("NORNIR_POOLS_EXECUTOR", "local")
    before, after = AROUND.get((block.page, block.number), ("", ""))
    program = f"import nornir_pools as pools\n{before}{block.text}\n{after}"
    exec(compile(program, f"{block}.py", "exec"), {"__name__": "__main__"})


SCRIPT = """
import nornir_pools as pools
pool = pools.GetClusterPool("tiles")
task = pool.add_task("tile 17", int, "no number")
print(pool.executor, type(task.exception()).__name__)
"""


def test_the_commands_of_the_howtos_run(tmp_path: Path) -> None:
    Path("script.py").write_text(SCRIPT)
    Path("tiles.txt").write_text("true\nexit 3\n")
    environment = {
        **os.environ,
        "PATH": programs(tmp_path / "programs"),
        "PYTHONPATH": str(ROOT),
        "NORNIR_POOLS_EXECUTOR": "local",
    }
    printed = []
    for page in SHELL:
        text = "".join(block.text for block in BLOCKS if block.page == page and block.language == "sh")
        done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, timeout=50, check=False)
        printed.append((done.returncode, done.stdout))
    (_, configured), (status, why), (failed, ran) = printed
    assert configured == "debug ValueError\nlocal ValueError\nlocal ValueError\n"
    assert "no number" in why
    assert ran.startswith("2 tasks in ")
    assert (status, failed) == (0, 1)


def test_options_in_files_exist() -> None:
    for path in PAGES:
        for block in blocks_of(path):
            if block.language == "toml":
                check_names(tomli.loads(block.text), block.page)


def commands_in(text: str) -> set[str]:
    """The calls of nornir-pools in a page: in blocks of shell, and between backticks."""
    found = set(re.findall(r"(?<!`)`(nornir-pools [^`\n]+)`(?!`)", text))
    for kind, block in re.findall(r"^ *```(sh|console|bash)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        found.update(
            re.findall(
                r"^\$ (?:\S*/)?(nornir-pools .*)$" if kind == "console" else r"^ *(nornir-pools .*)$", block, re.MULTILINE
            )
        )
    return {re.split(r" [|>#&;]|\)", command)[0] for command in found}


def test_every_command_is_one_that_there_is() -> None:
    group: Any = typer.main.get_command(app)
    named = {(path.name, command) for path in PAGES for command in commands_in(path.read_text(encoding="utf-8"))}
    for page, command in named:
        words = command.split()[1:]
        if words[0].startswith("-") or words[0] == "COMMAND":
            continue
        assert words[0] in group.commands, f"{page}: {command}"
        known = group.commands[words[0]]
        options = {name for param in known.params for name in [*param.opts, *param.secondary_opts]} | {"-h", "--help"}
        assert {word for word in words if word.startswith("-")} <= options, f"{page}: {command}"
