"""What is built of the project: sdist and wheel hold what they should and nothing else, and the wheel needs no checkout."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nornir_pools as pools

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = pools.__version__

FOLDERS = (".ci", "docs", "nornir_pools", "slurm", "tests")
FILES = (".gitignore", ".pre-commit-config.yaml", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml")
# What may lie about in a checkout.
CACHES = ("__pycache__", ".*_cache", ".coverage*", ".nornir_pools", "build", "dist", "*.egg-info", ".venv", ".tox")
LITTER = (
    "nornir_pools/__pycache__/api.cpython-310.pyc",
    "nornir_pools/demo/.nornir_pools/run/journal",
    "nornir_pools.egg-info/SOURCES.txt",
    "slurm/.nornir_pools/run/journal",
    "tests/.mypy_cache/cache.json",
    "tests/.coverage.1",
    "docs/build/index.html",
    "build/lib/nornir_pools/old.py",
    ".venv/bin/activate",
    ".tox/3.10/pyvenv.cfg",
    "notes.txt",
)


class Built(NamedTuple):
    files: set[str]
    """What the checkout has, but for litter."""
    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a command prints that has to succeed, and does not get to know of the checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SLURM_CONF")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def templates() -> set[str]:
    return {path.name for path in (ROOT / "slurm").iterdir() if path.is_file() and path.name != "README.md"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of a checkout with litter, and the wheel that pip makes of it, with what is installed here."""
    pytest.importorskip("hatchling")
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    source.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns(*CACHES))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    for name in LITTER:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", place, cwd=source)
    (sdist,) = place.glob("*.tar.gz")
    options = ("-q", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", place, sdist, cwd=place)
    (wheel,) = place.glob("*.whl")
    return Built(files, sdist, wheel)


@pytest.fixture(scope="module")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel.

    What the wheel needs is lent from the environment that runs the tests, so nothing is downloaded. That folder only goes on
    the path, as the last: a checkout that is installed there as editable is not found.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    options = ("-q", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", *options, built.wheel, cwd=place)
    (packages,) = place.glob("lib/python*/site-packages")
    lent = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "lent.pth").write_text("\n".join(lent), encoding="utf-8")
    return place


@pytest.mark.timeout(180)
def test_the_sdist_has_the_checkout_without_litter(built: Built) -> None:
    top = f"nornir_pools-{VERSION}"
    with tarfile.open(built.sdist) as file:
        members = {member.name.removeprefix(f"{top}/"): member for member in file.getmembers()}
    assert built.sdist.name == f"{top}.tar.gz"
    assert set(members) == built.files | {"PKG-INFO"} | {f"nornir_pools/cli/templates/{name}" for name in templates()}
    assert all(member.isfile() for member in members.values())
    assert members["slurm/lab/start"].mode & stat.S_IXUSR


@pytest.mark.timeout(180)
def test_the_wheel_has_the_package_and_nothing_else(built: Built) -> None:
    information = f"nornir_pools-{VERSION}.dist-info"
    with zipfile.ZipFile(built.wheel) as file:
        members = {info.filename: info for info in file.infolist()}
        for name in templates():
            assert file.read(f"nornir_pools/cli/templates/{name}") == (ROOT / "slurm" / name).read_bytes()
    own = {name for name in built.files if name.startswith("nornir_pools/")}
    assert {"nornir_pools/py.typed", "nornir_pools/cli/report/page.css", "nornir_pools/cli/report/page.js"} <= own
    told = {f"{information}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert set(members) == own | told | {f"nornir_pools/cli/templates/{name}" for name in templates()}
    assert (members["nornir_pools/cli/templates/retry.sh"].external_attr >> 16) & stat.S_IXUSR


@pytest.mark.timeout(180)
def test_the_wheel_says_what_it_is(environment: Path) -> None:
    (information,) = environment.glob("lib/python*/site-packages/*.dist-info")
    wheel = importlib.metadata.Distribution.at(information)
    assert (wheel.metadata["Name"], wheel.version) == ("nornir_pools", VERSION)
    assert wheel.metadata["Requires-Python"] == PROJECT["project"]["requires-python"]
    assert wheel.metadata["License-Expression"] == "BSD-3-Clause"
    assert set(wheel.metadata.get_all("Provides-Extra") or ()) == {"bench", "demo", "docs", "joblib", "test"}
    needed = [line for line in wheel.requires or () if "extra ==" not in line]
    assert len(needed) == len(PROJECT["project"]["dependencies"])
    (command,) = wheel.entry_points
    assert (command.group, command.name) == ("console_scripts", "nornir-pools")


@pytest.mark.timeout(180)
def test_the_demo_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    python = environment / "bin" / "python"
    run(python, "-m", "nornir_pools", "demo", "--size", "384", cwd=tmp_path, NORNIR_POOLS_EXECUTOR="local")
    assert (tmp_path / "mosaic-demo" / "mosaic.png").stat().st_size
    found = run(python, "-c", "import nornir_pools, sys; print(nornir_pools.__file__, *sys.path, sep='\\n')", cwd=tmp_path)
    assert Path(found.splitlines()[0]).is_relative_to(environment)
    assert str(ROOT) not in found.splitlines()


@pytest.mark.timeout(180)
def test_the_command_line_has_its_files_in_the_wheel(environment: Path, tmp_path: Path) -> None:
    def command(*words: str) -> str:
        return run(environment / "bin" / "nornir-pools", *words, cwd=tmp_path, NORNIR_POOLS_EXECUTOR="local")

    assert command("--version") == f"nornir-pools {VERSION}\n"
    assert command("template", "array") == (ROOT / "slurm" / "array.sbatch").read_text(encoding="utf-8")
    (tmp_path / "list.txt").write_text("true\n", encoding="utf-8")
    command("run", "list.txt")
    command("report", "last", "-o", "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    for name in ("page.css", "page.js"):
        assert (ROOT / "nornir_pools" / "cli" / "report" / name).read_text(encoding="utf-8").strip() in page


def test_the_changelog_and_the_citation_are_of_this_version() -> None:
    changelog = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == VERSION
    citation = dict(re.findall(r"^([a-z-]+): *(.*)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE))
    # The required keys of Citation File Format 1.2.0, and those of its others that are of use here.
    required = {"cff-version", "message", "title", "authors"}
    assert required <= set(citation) <= required | {"abstract", "keywords", "license", "type", "version"}
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (citation["title"], citation["version"]) == (PROJECT["project"]["name"], VERSION)
    assert citation["license"] == PROJECT["project"]["license"]


def test_tox_has_every_python_and_the_lowest_versions_that_are_allowed() -> None:
    project, tox = PROJECT["project"], PROJECT["tool"]["tox"]
    lines = [
        line.rpartition(" ")[2] for line in project["classifiers"] if line.startswith("Programming Language :: Python :: ")
    ]
    assert tox["env_list"] == lines
    assert project["requires-python"] == f">={lines[0]}"
    lowest = tox["env"]["lowest"]
    assert lowest["base_python"] == lines[:1]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["demo"], *extras["joblib"]]
    bounds = [re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", line) for line in asked]
    assert lowest["deps"] == [*bounds, "click==8.1.8"]


def test_the_hooks_check_what_ci_checks() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    linters = dict(re.findall(r'^step "[\w ]+" (?:\.venv/bin/)?(ruff \w+|mypy|shellcheck)(.*)$', ci, re.MULTILINE))
    assert [re.sub(" --.*", "", entry) for entry in re.findall(r"entry: (.*)", hooks)] == list(linters)

    names = [str(path.relative_to(ROOT)) for top in (".ci", "slurm") for path in (ROOT / top).rglob("*") if path.is_file()]
    firsts = {name: (ROOT / name).read_text(encoding="utf-8").partition("\n")[0] for name in names}
    scripts = {name for name, first in firsts.items() if re.match(r"#!.*\bbash$|# shellcheck shell=bash", first)}
    assert set(run("bash", "-c", f"printf '%s\\n' {linters['shellcheck']}", cwd=ROOT).split()) == scripts
    (pattern,) = re.findall(r"files: (.*)", hooks)
    assert {name for name in names if re.search(pattern, name)} == scripts
