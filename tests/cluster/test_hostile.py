"""Names, paths and options with characters that a shell, a format or sbatch would take for something else."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

Make = Callable[..., ClusterPool]
HOSTILE = "a b'c\"d;e$(touch pwned)`touch pwned`${HOME}&|<>*?[x]~#%j%A%t%a%%\\n\\ ünï☃\n#SBATCH --exclusive\n\tz"
QUOTES = "\\' --exclusive '\\"  # ends the quotes for whom a backslash inside them counts
STRANGE = [" ", "'", '"', "$(touch pwned)", "`touch pwned`", "%j_%a%%", "\n#SBATCH --exclusive", "ü☃", "\\", "-x", ";#"]


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes pools with one job each, on this machine or on SLURM; afterwards nothing that was named was run."""
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None

    def get(name: str, **options: Any) -> ClusterPool:
        return pools.GetClusterPool(name, 1, **{"executor": request.param, "folder": str(tmp_path / "runs"), **options})

    yield get
    pools.ClosePools()
    assert not list(tmp_path.rglob("pwned"))
    if slurm is not None:
        until(lambda: not slurm.jobs(), "jobs are left", 20)


def place(folder: Path, name: str) -> Path:
    path = folder / name.replace("/", "_")
    path.mkdir()
    return path


def try_it_all(pool: ClusterPool, folder: Path) -> None:
    """A call, a command, a shared value and an error, from that working folder."""
    call = pool.add_task(HOSTILE, functions.surroundings)
    command = pool.add_process(HOSTILE, "pwd -P; echo $0", check=True)
    shared = pool.add_task(HOSTILE, functions.echo, pool.share(HOSTILE))
    failed = pool.add_task(HOSTILE, functions.fail, ValueError, HOSTILE)
    assert call.wait_return(50)["cwd"] == str(folder)
    assert str(folder) in str(command.wait_return(50))
    assert shared.wait_return(50) == ((HOSTILE,), {})
    error = failed.exception(timeout=50)
    assert isinstance(error, ValueError)
    assert error.args == (HOSTILE,)
    log = Path(failed.facts["log"])
    assert pool.folder is not None
    assert log.parent == pool.folder / "jobs"
    assert log.exists()


def test_everything_may_have_a_strange_name(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = place(tmp_path, HOSTILE)
    monkeypatch.chdir(work)
    pool = make(HOSTILE, folder=str(work / HOSTILE.replace("/", "_")))
    try_it_all(pool, work)
    assert pool.folder is not None
    assert json.loads((pool.folder / "run.json").read_text())["pool"] == HOSTILE
    assert pool.folder.parent.parent == work
    pool.shutdown()
    assert {path.name for path in tmp_path.iterdir()} - {"data"} == {work.name}  # and nothing beside it, but the index of runs


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", STRANGE)
def test_a_folder_may_have_this_in_its_name(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    work = place(tmp_path, f"x{name}y")
    monkeypatch.chdir(work)
    try_it_all(make(name, folder=str(work / f"{name}runs")), work)


def test_a_name_that_is_no_text_of_this_locale_will_do(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = place(tmp_path, os.fsdecode(b"latin-1 \xfc"))
    monkeypatch.chdir(work)
    pool = make("bytes", folder=str(work / "runs"))
    assert pool.add_task("t", functions.surroundings).wait_return(50)["cwd"] == str(work)


@pytest.mark.slurm
def test_values_of_options_reach_slurm_as_they_are_and_nothing_else_does(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = HOSTILE.replace("\n", " ").replace("\t", " ")
    pool = pools.GetClusterPool(
        "options",
        1,
        executor="slurm",
        folder=str(tmp_path / "runs"),
        slurm_comment=value + QUOTES,
        slurm_job_name=value + "/../../--wrap=x,y",
        slurm_additional_parameters={"wckey": QUOTES},
    )
    task = pool.add_task("t", functions.wait_for_file, str(tmp_path / "go"), 1)
    until(lambda: bool(slurm.jobs()), "no job is sent")
    (job,) = slurm.jobs()
    shown = slurm.run("squeue", "-h", "-r", "-j", job, "-o", "%w|%h|%k|%j")
    assert shown.startswith(f"{QUOTES}|OK|{value}{QUOTES}|{value}/../../--wrap=x,y-options-")  # OK: not exclusive
    (tmp_path / "go").touch()
    assert task.wait_return(50) == 1
    pool.shutdown()
    assert not list(tmp_path.rglob("pwned"))
    assert {path.parent for path in tmp_path.rglob("*.sh")} <= {tmp_path / "runs"}


@pytest.mark.parametrize(
    "options",
    [
        {"slurm_additional_parameters": {"comment=x --exclusive": True}},
        {"slurm_additional_parameters": {"comment\n#SBATCH --exclusive": 1}},
        {"slurm_additional_parameters": {"-exclusive": True}},
        {"slurm_additional_parameters": {"": 1}},
        {"slurm_additional_parameters": {1: 1}},
        {"slurm_additional_parameters": {"comment": "a\n#SBATCH --exclusive"}},
        {"slurm_additional_parameters": {"comment": "a\0b"}},
        {"slurm_comment": "a\r\n#SBATCH --exclusive"},
        {"slurm_job_name": "a\nrm -rf"},
        {"python": "python\nrm -rf"},
    ],
)
def test_options_that_would_be_more_than_one_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(pools.OptionError):
        pools.GetClusterPool("refused", **options)


def test_the_shell_lines_and_the_interpreter_are_shell_text_as_documented(make: Make, tmp_path: Path) -> None:
    python = f'env ALSO="$MADE" {shlex.quote(sys.executable)}'
    pool = make("shell", slurm_setup=["export MADE=$(echo by the shell)"], python=python)
    found = pool.add_task("t", functions.surroundings, "MADE", "ALSO").wait_return(50)
    assert (found["MADE"], found["ALSO"]) == ("by the shell", "by the shell")
