"""What travels with a task: folder, environment, search path, umask; here on real jobs and on the local fallback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions

Make = Callable[..., ClusterPool]


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    if request.param == "slurm":
        request.getfixturevalue("slurm")

    def get(**options: object) -> ClusterPool:
        return pools.GetClusterPool("travels", 1, executor=request.param, folder=str(tmp_path / "runs"), **options)

    yield get
    pools.ClosePools()


def test_folder_umask_path_and_environment_are_those_of_the_moment(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOVED", "yes")
    pool = make()
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    monkeypatch.setenv("MARK", "changed")
    monkeypatch.delenv("REMOVED")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    before = os.umask(0o027)
    try:
        task = pool.add_task("t", functions.surroundings, "MARK", "REMOVED", "HOME")
    finally:
        os.umask(before)
    monkeypatch.setenv("MARK", "later")
    found = task.wait_return(50)
    assert found["cwd"] == str(other)
    assert found["umask"] == 0o027
    assert (found["MARK"], found["REMOVED"], found["HOME"]) == ("changed", None, os.environ["HOME"])
    assert found["path"][0] == str(tmp_path / "modules")


def test_a_function_from_a_module_beside_the_script_is_found(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_script.py").write_text("def f(x): return x + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import beside_the_script  # type: ignore[import-not-found]

    assert make().add_task("t", beside_the_script.f, 1).wait_return(50) == 2
    del sys.modules["beside_the_script"]


def test_what_a_task_changes_is_put_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", "mine")
    pool = make()
    before = pool.add_task("before", functions.surroundings, "MARK", "LEFT_BEHIND").wait_return(50)
    pool.add_task("disturb", functions.disturb_surroundings).wait(50)
    after = pool.add_task("after", functions.surroundings, "MARK", "LEFT_BEHIND").wait_return(50)
    assert before == after
    assert after["MARK"] == "mine"


def test_setup_lines_run_and_what_they_set_wins(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODULE_PATH", "before")
    pool = make(slurm_setup=["export MODULE_PATH=from-setup", "export OTHER=set"])
    monkeypatch.setenv("MODULE_PATH", "changed in the script")
    found = pool.add_task("t", functions.surroundings, "MODULE_PATH", "OTHER").wait_return(50)
    assert (found["MODULE_PATH"], found["OTHER"]) == ("from-setup", "set")


def test_variables_of_an_outer_job_stay_behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SBATCH_PARTITION"):
        monkeypatch.setenv(name, "77")
    pool = make()
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet,mask_cpu:0x1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    found = pool.add_task("t", functions.surroundings, "SLURM_CPU_BIND", "SBATCH_PARTITION", "CUDA_VISIBLE_DEVICES")
    values = found.wait_return(50)
    assert values["SLURM_CPU_BIND"] is None
    assert values["CUDA_VISIBLE_DEVICES"] is None


def test_what_a_task_prints_stands_in_the_log_and_nowhere_else(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    pool = make(keep="all")
    task = pool.add_task("talks", print, "Submitted batch job 999", "said by the task")
    assert task.wait_return(50) is None
    log = Path(task.facts["log"]).read_bytes()
    assert b"said by the task" in log[task.facts["log_start"] : task.facts["log_end"]]
    assert "said by the task" not in "".join(capfd.readouterr())
