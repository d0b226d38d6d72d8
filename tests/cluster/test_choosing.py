"""Which executor a pool takes, where its runs live, and from where its options come."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster import run as cluster_run

from .. import functions


@pytest.fixture
def no_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without SLURM."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SLURM_CONF", raising=False)


@pytest.mark.usefixtures("no_sbatch")
def test_without_sbatch_jobs_are_processes_of_this_machine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING):
        pool = pools.GetClusterPool("fallback")
        assert pool.add_task("t", functions.add, 1, 2).wait_return(50) == 3
    warnings = [record.getMessage() for record in caplog.records]
    assert [text for text in warnings if "no SLURM here" in text] == warnings
    assert pool.num_threads == len(os.sched_getaffinity(0))
    assert pool.folder is not None
    assert pool.folder.parent == Path.cwd() / ".nornir_pools"
    assert not pools.IsClusterAvailable()


def test_packages_of_slurm_without_a_cluster_are_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name, said in (("sbatch", ""), ("scontrol", "fatal: Could not establish a configuration source")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "no.conf"))
    assert not pools.IsClusterAvailable()
    assert pools.GetClusterPool("packages").executor == "local"
    (tmp_path / "no.conf").touch()
    assert pools.IsClusterAvailable()
    assert pools.GetClusterPool("configured").executor == "slurm"


@pytest.mark.usefixtures("no_sbatch")
def test_a_cluster_machine_without_sbatch_on_path_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(pools.OptionError, match='executor="local"'):
        pools.GetClusterPool("evident")
    with pytest.raises(pools.OptionError, match="sbatch is not on PATH"):
        pools.GetClusterPool("asked for", executor="slurm")
    assert not pools.dictKnownPools


def test_options_come_from_code_then_environment_then_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nornir_pools.toml").write_text('executor = "local"\ntimeout_min = 5\nmem_gb = 1\ncpus_per_task = 2\n')
    (tmp_path / "nornir_pools.toml").chmod(0o600)
    monkeypatch.setenv("NORNIR_POOLS_MEM_GB", "2.5")
    monkeypatch.setenv("NORNIR_POOLS_CPUS_PER_TASK", "3")
    options = pools.GetClusterPool("c", cpus_per_task=4).options
    assert options.executor == "local"
    assert dict(options.job) == {"timeout_min": 5, "mem_gb": 2.5, "cpus_per_task": 4}


def test_the_folder_for_runs_is_the_setting_else_scratch_else_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder_of(**options: str) -> Path:
        with pools.GetClusterPool("f", 1, executor="local", **options) as pool:
            pool.add_task("t", functions.add, 1).wait(50)
            assert pool.folder is not None
            return pool.folder.parent

    assert folder_of() == tmp_path / ".nornir_pools"
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    assert folder_of() == tmp_path / "scratch" / "nornir_pools"
    monkeypatch.setenv("NORNIR_POOLS_FOLDER", str(tmp_path / "set"))
    assert folder_of() == tmp_path / "set"
    assert folder_of(folder=str(tmp_path / "given")) == tmp_path / "given"


def test_nothing_is_written_before_the_first_task(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("unused", executor="local")
    assert pool.folder is None
    pool.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_other_options_under_a_known_name_are_an_error() -> None:
    pool = pools.GetClusterPool("known", executor="debug", mem_gb=2)
    assert pools.GetClusterPool("known") is pool
    assert pools.GetClusterPool("known", 7, mem_gb=2) is pool
    with pytest.raises(pools.PoolKindError, match=r"mem_gb=2.*mem_gb=4"):
        pools.GetClusterPool("known", mem_gb=4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timout_min": 5}, "timout_min.*did you mean 'timeout_min'"),
        ({"executor": "slum"}, "must be one of auto, slurm, local, allocation, debug, not 'slum'"),
        ({"timeout_min": 0}, "0 would mean without limit"),
        ({"cpus_per_task": 1.5}, "whole number"),
        ({"slurm_partition": "a\n#SBATCH --exclusive"}, "one line"),
        ({"slurm_additional_parameters": {"comment": "a\nrm -rf"}}, "one line"),
        ({"slurm_setup": "module load x"}, "list of shell lines"),
    ],
)
def test_a_wrong_option_changes_nothing_and_says_what_is_right(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pools.OptionError, match=words):
        pools.GetClusterPool("wrong", **options)
    assert not pools.dictKnownPools
    assert list(Path.cwd().iterdir()) == []


def test_a_call_with_large_arguments_is_told_with_its_size_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster_run, "_LARGE_CALL", 1_000_000)
    pool = pools.GetClusterPool("large", 1, executor="local")
    sizes = [pool.add_task(f"part {n}", len, ["x" * 2_000_000]) for n in range(2)]
    assert [task.wait_return(50) for task in sizes] == [1, 1]
    (text,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert text.startswith("task 'part 0' of pool 'large': its arguments take 2 MB, which are written for each such task; pass")
