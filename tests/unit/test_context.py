"""What travels with a task, and whose word wins in a job."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nornir_pools.cluster.context import ContextReader, Surroundings, beside, fingerprints, for_submission, leave_step


@pytest.fixture(autouse=True)
def surroundings_are_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environment, path, mask = dict(os.environ), list(sys.path), os.umask(0o022)
    folder = os.getcwd()
    yield
    os.umask(mask)
    os.chdir(folder)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)


def read(base: dict[str, str] | None = None) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(ContextReader(dict(os.environ) if base is None else base).read())
    return result


def test_context_is_that_of_the_moment(tmp_path: Path) -> None:
    reader = ContextReader(os.environ)
    (tmp_path / "sub").mkdir()
    os.chdir(tmp_path / "sub")
    os.umask(0o027)
    os.environ["ADDED"] = "new"
    os.environ.pop("PATH")
    sys.path.insert(0, "")
    context = json.loads(reader.read())
    assert (context["cwd"], context["umask"]) == (str(tmp_path / "sub"), 0o027)
    assert context["environment"] == {"ADDED": "new", "PATH": None}
    assert context["path"][0] == str(tmp_path / "sub")


def test_same_context_is_the_same_bytes() -> None:
    reader = ContextReader(os.environ)
    first = reader.read()
    os.environ["B"] = "1"
    os.environ["A"] = "1"
    changed = reader.read()
    os.environ.pop("A")
    os.environ["A"] = "1"
    assert reader.read() == changed != first
    os.environ.pop("A")
    os.environ.pop("B")
    assert reader.read() == first


def test_umask_is_read_without_a_moment_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    os.umask(0o031)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", lambda mask: pytest.fail("was changed"))
        assert read()["umask"] == 0o031


def test_what_belongs_to_a_job_never_travels() -> None:
    names = ["SLURM_JOB_ID", "SBATCH_PARTITION", "SRUN_X", "PMI_RANK", "PMIX_X", "TMPDIR", "HOSTNAME", "CUDA_VISIBLE_DEVICES"]
    base = dict(os.environ)
    os.environ.update(dict.fromkeys(names, "mine"))
    os.environ["KEPT"] = "mine"
    assert read(base)["environment"] == {"KEPT": "mine"}


def test_folder_that_is_gone_is_an_error_when_the_task_is_added(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OSError, match="No such file"):
        read()


def test_submission_is_free_of_the_outer_job() -> None:
    environment = {"SLURM_JOB_ID": "1", "SBATCH_QOS": "q", "PMI_RANK": "0", "SLURM_CONF": "c", "SLURM_CLUSTERS": "d", "A": "b"}
    assert for_submission(environment) == {"SLURM_CONF": "c", "SLURM_CLUSTERS": "d", "A": "b"}


def test_outside_of_jobs_what_is_set_for_every_job_is_kept_but_does_not_win_over_options() -> None:
    environment = {"SBATCH_QOS": "q", "SBATCH_ACCOUNT": "a", "SBATCH_WAIT": "1", "SRUN_X": "1", "A": "b"}
    kept = for_submission(environment)
    assert kept == {"SBATCH_QOS": "q", "SBATCH_ACCOUNT": "a", "A": "b"}
    script = "#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --qos=mine\necho --account=none"
    assert beside(script, kept) == {"SBATCH_ACCOUNT": "a", "A": "b"}


def test_a_worker_in_a_step_leaves_it() -> None:
    names = ["SLURM_STEP_ID", "SLURM_STEP_NODELIST", "SLURM_CPU_BIND_LIST", "SLURM_PROCID", "SRUN_DEBUG", "PMI_RANK", "PMIX_X"]
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "100", "PATH": "p"}
    environment = {**job, **dict.fromkeys(names, "1"), "SLURM_EXPORT_ENV": "NONE"}
    leave_step(environment)
    assert environment == job
    batch = {**job, "SLURM_PROCID": "0", "SLURM_NODEID": "0"}  # of a script that is in no step
    kept = dict(batch)
    leave_step(kept)
    assert kept == batch


def test_where_jobs_begin_without_the_environment_all_of_it_travels() -> None:
    os.environ.update(MARK="mine", SLURM_JOB_ID="7")
    reader = ContextReader(os.environ, exported=False)
    os.environ.pop("PATH")
    travels = json.loads(reader.read())["environment"]
    assert travels["MARK"] == "mine"
    assert "SLURM_JOB_ID" not in travels
    assert "PATH" not in travels
    assert reader.base["MARK"] == "mine"


def test_fingerprints_hold_no_secret() -> None:
    prints = fingerprints({"TOKEN": "secret", "OTHER": "secret", "EMPTY": "", "BYTES": "\udcff"})
    assert "secret" not in json.dumps(prints)
    assert prints["TOKEN"] == prints["OTHER"] != prints["EMPTY"]


def enter(worker: Surroundings, **changes: Any) -> None:
    worker.enter({"cwd": os.getcwd(), "path": list(sys.path), "umask": 0o022, "environment": {}, **changes})


def test_task_finds_its_context_whatever_the_one_before_has_left(tmp_path: Path) -> None:
    worker = Surroundings(fingerprints(os.environ), 1)
    os.environ["LEFT"] = "behind"
    os.environ.pop("PATH")
    os.umask(0o077)
    os.chdir("/")
    sys.path.insert(0, "/left/behind")
    enter(worker, cwd=str(tmp_path), environment={"MARK": "m", "HOME": None}, path=["/of/the/script"], umask=0o027)
    assert os.getcwd() == str(tmp_path)
    assert "LEFT" not in os.environ
    assert "HOME" not in os.environ
    assert (os.environ["MARK"], "PATH" in os.environ) == ("m", True)
    assert (sys.path[0], "/left/behind" in sys.path) == ("/of/the/script", False)
    mask = os.umask(0)
    assert mask == 0o027
    enter(worker)
    assert "MARK" not in os.environ
    assert "HOME" in os.environ


def test_job_has_the_last_word_where_it_has_one() -> None:
    script = fingerprints(os.environ)
    os.environ["OF_THE_SITE"] = "site"
    os.environ["SLURM_JOB_ID"] = "7"
    worker = Surroundings(script, 1)
    changes = {"OF_THE_SITE": "script", "SLURM_JOB_ID": None, "TMPDIR": "script", "OTHER": "script"}
    enter(worker, environment=changes)
    assert (os.environ["OF_THE_SITE"], os.environ["SLURM_JOB_ID"], os.environ["OTHER"]) == ("site", "7", "script")
    assert os.environ.get("TMPDIR") != "script"


def test_jobs_own_python_stands_where_the_scripts_stood() -> None:
    sys.path[:] = ["/job/lib", "/job/site"]
    worker = Surroundings({}, 1)
    enter(worker, path=["/before", None, None, "/after"])
    assert sys.path == ["/before", "/job/lib", "/job/site", "/after"]
    enter(worker, path=["/job/site", "/only"])
    assert sys.path == ["/job/site", "/only", "/job/lib"]


def test_folder_that_cannot_be_entered_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        enter(Surroundings({}, 1), cwd="/no/such/folder")


def test_closed_streams_do_not_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as closed:
        pass
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", closed)
    Surroundings({}, 1).leave()
