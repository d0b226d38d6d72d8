"""``nornir-pools template``: the templates of slurm/, wherever the package is installed."""

from __future__ import annotations

import re
import subprocess
import sys
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
