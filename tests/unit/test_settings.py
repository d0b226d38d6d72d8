"""Settings: each source is read when it is used, and a mistake in it is named with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import OptionError, settings


def write_file(text: str | bytes, folder: Path | None = None) -> Path:
    path = (folder or Path()) / "nornir_pools.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o644)
    return path


def test_thread_limit_holds_and_none_stays_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (pools.ApplyOSThreadLimit(1000), pools.ApplyOSThreadLimit(None)) == (1000, None)
    monkeypatch.setenv("MAX_PYTHON_THREADS", "4")
    assert [pools.ApplyOSThreadLimit(number) for number in (3, 4, 5, None)] == [3, 4, 4, None]


@pytest.mark.parametrize("text", ["abc", "0", "-3", "2.5", ""])
def test_wrong_thread_limit_is_named_and_no_pool_is_made(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_PYTHON_THREADS", text)
    for get in (pools.GetMultithreadingPool, pools.GetLocalMachinePool):
        with pytest.raises(OptionError, match=f"MAX_PYTHON_THREADS must be a whole number of at least 1, not '{text}'"):
            get("limited", 2)
    assert not pools.dictKnownPools


def test_thread_limit_bounds_pools_of_worker_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_PYTHON_THREADS", "1")
    assert pools.GetMultithreadingPool("a", 8).num_threads == 1
    assert pools.GetLocalMachinePool("b").num_threads == 1


def test_cpus_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert settings.usable_cpus() == 3


@pytest.mark.parametrize(("text", "count"), [("2", 2), ("64", 3), ("0", 3), ("", 3), ("many", 3)])
def test_inside_a_job_cpus_are_those_of_the_job(text: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
    assert settings.usable_cpus() == count


def test_options_of_the_environment_are_read_as_json_or_text(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "SLURM_PARTITION": ("long", "long"),
        "MEM_GB": ("4.5", 4.5),
        "SLURM_SETUP": ('["module load x"]', ["module load x"]),
        "SLURM_EXCLUSIVE": ("true", True),
    }
    for name, (text, _) in given.items():
        monkeypatch.setenv(f"NORNIR_POOLS_{name}", text)
    read = settings.environment_options()
    assert {name: value for name, (value, _) in read.items()} == {name.lower(): value for name, (_, value) in given.items()}
    assert read["mem_gb"][1] == "the environment variable NORNIR_POOLS_MEM_GB"


def test_name_made_of_digits_is_a_text_where_a_text_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORNIR_POOLS_SLURM_ACCOUNT", "12345")
    monkeypatch.setenv("NORNIR_POOLS_SLURM_JOB_NAME", "true")
    pool = pools.GetClusterPool("digits", executor="debug")
    assert (pool.options.job["slurm_account"], pool.options.job["slurm_job_name"]) == ("12345", "true")


def test_without_a_file_there_are_no_options() -> None:
    assert settings.file_options() == {}


def test_file_of_the_working_folder_goes_before_the_users(tmp_path: Path) -> None:
    write_file("mem_gb = 2", tmp_path / "config" / "nornir_pools")
    assert settings.file_options()["mem_gb"][0] == 2
    place = write_file("mem_gb = 1")
    assert settings.file_options() == {"mem_gb": (1, str(place.absolute()))}


def test_arguments_go_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file("mem_gb = 1\ncpus_per_task = 1\ntimeout_min = 1")
    monkeypatch.setenv("NORNIR_POOLS_CPUS_PER_TASK", "2")
    monkeypatch.setenv("NORNIR_POOLS_TIMEOUT_MIN", "2")
    pool = pools.GetClusterPool("three", executor="debug", timeout_min=3)
    assert dict(pool.options.job) == {"mem_gb": 1, "cpus_per_task": 2, "timeout_min": 3}


@pytest.mark.parametrize("text", ["mem_gb = 1\nslurm_partition = long", b"mem_gb = 1\nslurm_comment = '\xff'"])
def test_broken_file_is_named_with_its_line(text: str | bytes) -> None:
    path = write_file(text)
    with pytest.raises(OptionError, match=f"{path.absolute()} .*line 2"):
        pools.GetClusterPool("broken", executor="debug")
    assert not pools.dictKnownPools


def test_unknown_or_wrong_option_of_a_file_names_the_file() -> None:
    path = write_file("mem_bg = 1")
    with pytest.raises(OptionError, match=f"unknown option 'mem_bg' in {path.absolute()}; did you mean 'mem_gb'"):
        pools.GetClusterPool("broken", executor="debug")
    write_file('mem_gb = "much"')
    with pytest.raises(OptionError, match=f"'mem_gb' in {path.absolute()} must be a number above 0, not 'much'"):
        pools.GetClusterPool("broken", executor="debug")


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_file_that_others_can_write_is_refused(mode: int) -> None:
    path = write_file("mem_gb = 1")
    path.chmod(mode)
    with pytest.raises(OptionError, match=f"can be written by others and is not read; run: chmod go-w {path.absolute()}"):
        settings.file_options()


def test_file_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file("mem_gb = 1")
    owner = path.stat().st_uid
    if owner == 0:  # root's files may be read by all
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(OptionError, match="belongs to another user"):
        settings.file_options()


def test_where_slurms_commands_are_is_known_without_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    write_file("slurm_bin = '~/slurm/bin'")
    assert settings.slurm_bin({}) == "~/slurm/bin"
    assert settings.slurm_bin({"NORNIR_POOLS_SLURM_BIN": "/opt/slurm/bin"}) == "/opt/slurm/bin"
    assert settings.slurm_bin({"NORNIR_POOLS_SLURM_BIN": ""}) == ""
    write_file("slurm_bin = 5")
    with pytest.raises(OptionError, match=r"'slurm_bin' in .* must be a text, not 5"):
        settings.slurm_bin({})


def test_folder_in_place_of_the_file_is_told() -> None:
    Path("nornir_pools.toml").mkdir()
    with pytest.raises(OptionError, match=r"nornir_pools\.toml"):
        settings.file_options()
