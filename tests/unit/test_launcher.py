"""What the launcher relies on in submitit, and the batch script that comes out of it."""

from __future__ import annotations

import contextlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import submitit

from nornir_pools.cluster import launcher, launching, slurm
from nornir_pools.options import Options


def test_the_parts_of_submitit_that_are_used_are_as_they_were() -> None:
    assert list(inspect.signature(submitit.SlurmExecutor._make_submission_file_text).parameters) == ["self", "command", "uid"]
    assert list(inspect.signature(submitit.SlurmExecutor._convert_parameters).parameters) == ["self", "params"]
    assert isinstance(submitit.SlurmExecutor.__init__, type(lambda: None))
    assert "map_count" in inspect.signature(submitit.slurm.slurm._make_sbatch_string).parameters


def script_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[list[str], list[str]]:
    """The script for two jobs, and what sbatch was called with."""
    calls: list[str] = []

    def answer(command: list[str], environment: object, *, folder: str | None = None, seconds: float = 0) -> str:
        calls.extend([*command, str(folder)])
        return "Submitted batch job 7\n" if command[0] == "sbatch" else ""

    monkeypatch.setattr(slurm, "run", answer)
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    (tmp_path / "jobs").mkdir()
    jobs = launcher.SlurmLauncher(tmp_path, {}).start(Options.of(options), 3, 2, "run-name")
    assert jobs == ["7_0", "7_1"]
    return (tmp_path / "jobs" / calls[-2]).read_text().splitlines(), calls


def test_the_script_asks_for_what_was_given_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, calls = script_of(
        tmp_path, monkeypatch, mem_gb=1.5, cpus_per_task=2, slurm_partition="short", slurm_job_name="mine",
        slurm_setup=["module load gcc"], slurm_additional_parameters={"begin": "now+1hour"},
    )  # fmt: skip
    asked = sorted(line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH"))
    assert asked == [
        "array=0-1%2",
        "begin=now+1hour",
        "cpus-per-task=2",
        "job-name=mine-run-name",
        "mem=1536MB",
        "nodes=1",
        "open-mode=append",
        "output=%A_%a.log",
        "partition=short",
        "requeue",
        "signal=CONT@1",
    ]
    assert "module load gcc" in lines
    assert lines[-1 if lines[-1] else -2].startswith("exec ")
    assert calls[-1] == str(tmp_path / "jobs")


def test_a_time_limit_and_a_wckey_are_sent_if_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = script_of(tmp_path, monkeypatch, timeout_min=7, slurm_wckey="key")
    assert "#SBATCH --time=7" in lines
    assert "#SBATCH --wckey=key" in lines


def test_lines_after_the_worker_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = script_of(tmp_path, monkeypatch, slurm_teardown=["echo over"])
    assert "echo over" in lines
    assert not any(line.startswith("exec ") for line in lines)


def test_a_worker_is_told_its_group_and_how_long_to_stay(tmp_path: Path) -> None:
    command = launching.worker_command(tmp_path / "it's here", Options.of({"tasks_per_job": 1, "gpus_per_node": 1}), 4)
    assert command.endswith(" --group 4 --idle 0 --one")
    assert launching.worker_command(tmp_path, Options(python="apptainer exec i.sif python"), 0).startswith("apptainer exec ")


def excluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: str, refusal: str = "", **options: Any) -> list[str]:
    """What is excluded in each script that is sent, of jobs to be kept away from n1 and n2; `nodes` are all there are."""
    sent: list[str] = []

    def answer(command: list[str], environment: object, *, folder: str | None = None, seconds: float = 0) -> str:
        if command[0] == "sinfo":
            return "".join(f"{node}|idle|debug*\n" for node in nodes.split())
        if command[0] == "sbatch":
            text = (tmp_path / "jobs" / command[-1]).read_text()
            sent.append("".join(re.findall(r"^#SBATCH --exclude='?([^'\n]*)", text, re.MULTILINE)))
            if refusal and sent[-1]:
                raise slurm.SlurmError(refusal)
            return "Submitted batch job 7\n"
        return ""

    monkeypatch.setattr(slurm, "run", answer)
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    (tmp_path / "jobs").mkdir()
    with contextlib.suppress(slurm.SlurmError):
        launcher.SlurmLauncher(tmp_path, {}).start(Options.of(options), 3, 2, "run-name", {"n2", "n1"})
    return sent


@pytest.mark.parametrize(
    ("options", "merged"),
    [
        ({}, "n1,n2"),
        ({"slurm_exclude": "n[7-8]"}, "n[7-8],n1,n2"),
        ({"slurm_additional_parameters": {"exclude": "n9"}, "slurm_exclude": "n8"}, "n9,n1,n2"),
    ],
)
def test_nodes_to_avoid_are_excluded_beside_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], merged: str
) -> None:
    assert excluded(tmp_path, monkeypatch, "n1 n2 n3", **options) == [merged]


def test_no_node_is_excluded_if_there_would_be_none_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert excluded(tmp_path, monkeypatch, "n1 n2", slurm_exclude="n8") == ["n8"]


def test_a_job_that_only_an_excluded_node_could_take_is_sent_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    assert excluded(tmp_path, monkeypatch, "n1 n2 n3", refusal) == ["n1,n2", ""]


def test_a_controller_that_is_busy_is_not_asked_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert excluded(tmp_path, monkeypatch, "n1 n2 n3", "sbatch: error: Socket timed out") == ["n1,n2"]
