"""Where the environment of jobs comes from at sites: modules, conda, containers, another Python, jobs without any."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.testing import PretendSlurm

from .. import functions
from ..conftest import until
from ..lab import Slurm

pytest_plugins = ["nornir_pools.testing"]

ROOT = Path(pools.__file__).parents[1]  # (where the package is not installed, a job without an environment has none)
Make = Callable[..., ClusterPool]
StandIn = Callable[[str, str], Path]


@pytest.fixture
def make(executor: str, tmp_path: Path) -> Make:
    def get(**options: object) -> ClusterPool:
        return pools.GetClusterPool("environments", 1, executor=executor, folder=str(tmp_path / "runs"), **options)

    return get


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)


def test_a_module_function_of_the_users_shell_is_there_for_setup_lines(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "gcc" / "bin" / "gcc-of-the-module", "#!/bin/sh\necho 13\n")
    monkeypatch.setenv("BASH_FUNC_module%%", f"() {{  export LOADED=$2 PATH={tmp_path}/gcc/bin:$PATH\n}}")
    pool = make(slurm_setup=["module load gcc/13"])
    task = pool.add_process("compile", "gcc-of-the-module; echo $LOADED", check=True)
    assert task.wait_return(50).split() == ["13", "gcc/13"]


def test_a_python_that_a_module_brings_is_found_by_its_name_and_its_path_is_the_jobs(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in /etc/profile.d, which only a login shell reads. What conda activates looks the same to a job.
    (tmp_path / "modules.sh").write_text(f"module() {{ export CONDA_PREFIX={tmp_path}/$2; PATH=$CONDA_PREFIX/bin:$PATH; }}\n")
    write_program(tmp_path / "env" / "bin" / "python-of-sites", f'#!/bin/sh\nexport BEGUN=$0\nexec {sys.executable} "$@"\n')
    pool = make(python="python-of-sites", slurm_setup=[f"source {tmp_path}/modules.sh", "module load env"])
    monkeypatch.setenv("PATH", f"/of/the/client:{os.environ['PATH']}")
    found = pool.add_task("t", functions.surroundings, "CONDA_PREFIX", "BEGUN", "PATH").wait_return(50)
    assert (found["CONDA_PREFIX"], found["BEGUN"]) == (f"{tmp_path}/env", f"{tmp_path}/env/bin/python-of-sites")
    assert found["PATH"].startswith(f"{tmp_path}/env/bin:")
    assert "/of/the/client" not in found["PATH"]


def test_a_container_starts_python(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = '#!/bin/bash\n[ "$1 $2 $3" = "exec --bind=/data 1 image.sif" ] || exit 9\nexport CONTAINER=$3\nexec "${@:4}"\n'
    write_program(tmp_path / "bin" / "apptainer", stand_in)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    pool = make(python=f"apptainer exec '--bind=/data 1' image.sif {sys.executable}")
    assert pool.add_task("t", os.getenv, "CONTAINER").wait_return(50) == "image.sif"


def test_any_text_of_the_shell_may_start_python(make: Make) -> None:
    pool = make(python=f'begun() {{ MARK="it\'s" "$@"; }}; true && begun {sys.executable}')
    assert pool.add_task("t", os.getenv, "MARK").wait_return(50) == "it's"


def python_that_says(version: tuple[int, int], folder: Path) -> str:
    """The command of a Python that takes itself for another version."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.version_info = {version} + tuple(sys.version_info)[2:]\n")
    return f"env PYTHONPATH={folder}:$PYTHONPATH {sys.executable}"


def test_another_minor_version_on_the_node_is_told_with_both(make: Make, tmp_path: Path) -> None:
    mine, other = sys.version_info[:2], (3, 10) if sys.version_info[:2] != (3, 10) else (3, 11)
    pool = make(python=python_that_says(other, tmp_path / "site"))
    words = r"the script runs Python {}\.{} and its jobs Python {}\.{} on ".format(*mine, *other)
    with pytest.raises(pools.PythonMismatchError, match=words):
        pool.add_task("t", functions.add, 1).wait_return(40)


def test_a_python_that_is_too_old_for_the_worker_is_told_with_both(pretend_slurm: PretendSlurm, tmp_path: Path) -> None:
    pool = pretend_slurm.pool(python=python_that_says((3, 6), tmp_path / "site"))
    with pytest.raises(pools.PythonMismatchError, match=r"the script runs Python 3\.\d+ and its jobs Python 3\.6 on pretend"):
        pool.add_task("t", functions.add, 1).wait_return(40)


@pytest.mark.slurm
@pytest.mark.parametrize("how", ["a variable of the site", "an option"])
def test_where_jobs_are_sent_without_an_environment_tasks_have_it(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    options: dict[str, object] = {"slurm_setup": [f"export PYTHONPATH={ROOT}"]}
    if how == "an option":
        options["slurm_additional_parameters"] = {"export": "NONE"}
    else:
        monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("MARK", "mine")
    with pools.GetClusterPool("none", 1, executor="slurm", folder=str(tmp_path / "runs"), **options) as pool:
        monkeypatch.setenv("LATER", "too")
        names = ("MARK", "LATER", "HOME", "SLURM_EXPORT_ENV", "SLURM_JOB_ID")
        found = pool.add_task("t", functions.surroundings, *names).wait_return(60)
        steps = pool.add_process("step", "srun sh -c 'echo $MARK'", check=True).wait_return(60)
    assert (found["MARK"], found["LATER"], found["HOME"]) == ("mine", "too", os.environ["HOME"])
    assert found["SLURM_EXPORT_ENV"] is None
    assert steps == "mine\n"
    assert not [record for record in caplog.records if "without the environment" in record.getMessage()]
    until(lambda: not slurm.jobs(), "jobs are left")


@pytest.mark.slurm
def test_jobs_that_lack_the_environment_are_told_of_once(
    slurm: Slurm, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in("sbatch", 'exec "$REAL" --export=NONE "$@"')  # a site's wrapper
    for number in range(50):  # so that most of the script's variables are missing, however few others there are
        monkeypatch.setenv(f"MARK_{number}", "mine")
    setup = [f"export PYTHONPATH={ROOT}"]
    folder = str(tmp_path / "runs")
    pool = pools.GetClusterPool("bare", 2, executor="slurm", folder=folder, tasks_per_job=1, slurm_setup=setup)
    with caplog.at_level(logging.WARNING), pool:
        tasks = [pool.add_task(str(number), os.getenv, "MARK_1") for number in range(2)]
        assert [task.wait_return(60) for task in tasks] == [None, None]
    told = [record.getMessage() for record in caplog.records if "without the environment of the script" in record.getMessage()]
    assert len(told) == 1
    assert 'it travels with them if slurm_additional_parameters has {"export": "NONE"}' in told[0]
    until(lambda: not slurm.jobs(), "jobs are left")
