"""``nornir-pools template``: the templates of slurm/, wherever the package is installed."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ..conftest import until
from ..lab import Slurm
from .conftest import ROOT, Cli

PLACE = ROOT / "slurm"
SCRIPTS = sorted([*PLACE.glob("*.sbatch"), *PLACE.glob("*.sh")])
SITE = """\
slurm_account = "microscopy"
slurm_partition = "short"
slurm_setup = ["module load gcc/12", "export WORDS='a \\\\1 b'"]
"""


def test_all_templates_are_listed_with_what_they_do(here: Cli) -> None:
    listed = {fact["name"]: fact["about"] for fact in here.data("template", "--list")}
    assert sorted(listed) == sorted([*(path.name for path in SCRIPTS), "site.toml"])
    assert all(len(words) > 20 for words in listed.values())
    told = here("template", "--list")
    assert re.search(r"^packed\.sbatch +Runs all lines of a list of commands in one job", told, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_template_is_printed_as_it_is(here: Cli, path: Path) -> None:
    process = here.start("template", path.stem)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, path.read_text())
    assert bool(err) == (path.suffix == ".sh"), "what has to stand beside it is told"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_template_gets_what_the_site_wants(here: Cli, path: Path) -> None:
    Path("site.toml").write_text(SITE)
    process = here.start("template", path.name, "--site", "site.toml")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.startswith("#!/bin/bash\n")
    if path.suffix == ".sbatch":
        head = out[: out.index("\n# ")].splitlines()
        assert head[-2:] == ["#SBATCH --account=microscopy", "#SBATCH --partition=short"]
        assert all(line.startswith("#SBATCH ") for line in head[1:])
        assert "\nmodule load gcc/12\nexport WORDS='a \\1 b'\n" in out
        assert "SITE_SETUP" not in out
    else:
        assert "\nexport SBATCH_ACCOUNT=microscopy\nexport SBATCH_PARTITION=short\nexport SITE_SETUP='module load" in out
    subprocess.run(["bash", "-n"], input=out, text=True, check=True)


@pytest.mark.slurm
def test_a_printed_template_runs_with_the_setup_of_the_site(slurm: Slurm, here: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("site.toml").write_text("slurm_setup = [\"export WORDS='from the site'\"]\n")
    Path("list").write_text('echo "$WORDS" > said\nfalse\n')
    for name, file in (("array", "array.sbatch"), ("retry", "retry.sh")):
        process = here.start("template", name, "--site", "site.toml")
        Path(file).write_text(process.communicate(timeout=20)[0])
    slurm.run("bash", "retry.sh", "list", "--mem=300M", "--time=5")
    until(lambda: not slurm.jobs(), "jobs do not end", 60)
    assert Path("said").read_text() == "from the site\n"
    assert [path.name for path in Path("list.done").iterdir()] == ["1"]


def test_wrong_use_is_told(here: Cli) -> None:
    assert "there is no template 'arry', but array, command" in here("template", "arry", status=2)
    assert "template --list lists them" in here("template", status=2)
    assert "no-site.toml cannot be read" in here("template", "array", "--site", "no-site.toml", status=2)
    for content, words in (
        ("mem_gb = 3", "no use for mem_gb"),
        ("slurm_account = 'a b'", "slurm_account cannot be 'a b'"),
        ("slurm_qos = 3", "slurm_qos cannot be 3"),
        ("slurm_setup = 'module load'", "a list of shell lines"),
        ("slurm_setup = [", "site.toml: "),
    ):
        Path("site.toml").write_text(content)
        assert words in here("template", "array", "--site", "site.toml", status=2)
    Path("site.toml").write_text(SITE)
    assert "it is one" in here("template", "site", "--site", "site.toml", status=2)


@pytest.mark.timeout(180)
def test_a_wheel_has_the_templates_and_what_a_report_needs(tmp_path: Path) -> None:
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    if int(version.partition(".")[0]) < 77:
        pytest.skip("a wheel is built by setuptools from 77 on, which is not installed")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("nornir_pools", "slurm"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    command += ["-w", "wheel", "./source"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        assert not [name for name in file.namelist() if "/lab" in name]
        modes = {info.filename.rpartition("/")[2]: info.external_attr >> 16 for info in file.infolist()}
        file.extractall(installed)
    assert modes["retry.sh"] & stat.S_IXUSR
    cli = Cli("local", {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    cli.environment["PYTHONPATH"] = str(installed)
    for path in (*SCRIPTS, PLACE / "site.toml"):
        assert cli("template", path.name).startswith(path.read_text())
    Path("list.txt").write_text("true\n")
    cli("run", "list.txt")
    cli("report", "last", "-o", "run.html")
    assert "prefers-color-scheme" in Path("run.html").read_text()
