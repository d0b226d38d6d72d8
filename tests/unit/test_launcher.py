"""What the launcher relies on in submitit, and the batch script that comes out of it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import submitit

from nornir_pools.cluster import launcher, launching, slurm
from nornir_pools.options import Options
from nornir_pools.testing import PretendSlurm

pytest_plugins = ["nornir_pools.testing"]
Sent = Callable[..., dict[str, str]]


def test_the_parts_of_submitit_that_are_used_are_as_they_were() -> None:
    assert list(inspect.signature(submitit.SlurmExecutor._make_submission_file_text).parameters) == ["self", "command", "uid"]
    assert list(inspect.signature(submitit.SlurmExecutor._convert_parameters).parameters) == ["self", "params"]
    assert isinstance(submitit.SlurmExecutor.__init__, type(lambda: None))
    assert "map_count" in inspect.signature(submitit.slurm.slurm._make_sbatch_string).parameters


LATER = {"begin": "now+1hour"}


@pytest.fixture
def sent(pretend_slurm: PretendSlurm, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Sends two jobs, which do not begin, and gives what they ask for."""

    def send(**options: Any) -> dict[str, str]:
        avoid = options.pop("avoid", ())
        (tmp_path / "jobs").mkdir()
        more = {**LATER, **options.pop("slurm_additional_parameters", {})}
        given = Options.of({"slurm_additional_parameters": more, **options})
        jobs = launcher.SlurmLauncher(tmp_path, os.environ).start(given, 3, 2, "run-name", avoid)
        assert [job.id for job in pretend_slurm.jobs()] == jobs == ["1_0", "1_1"]
        return dict(pretend_slurm.jobs()[0].options)

    return send


def lines_of(folder: Path) -> list[str]:
    return (folder / "jobs" / "run-name.sh").read_text().splitlines()


def test_the_script_asks_for_what_was_given_and_nothing_else(sent: Sent, tmp_path: Path) -> None:
    asked = sent(
        mem_gb=1.5, cpus_per_task=2, slurm_partition="short", slurm_job_name="mine", slurm_setup=["module load gcc"]
    )  # fmt: skip
    assert asked == {
        "array": "0-1%2",
        "begin": "now+1hour",
        "cpus-per-task": "2",
        "job-name": "mine-run-name",
        "mem": "1536MB",
        "nodes": "1",
        "open-mode": "append",
        "output": "%A_%a.log",
        "partition": "short",
        "requeue": "",
        "signal": "CONT@1",
    }
    lines = lines_of(tmp_path)
    assert "module load gcc" in lines
    assert lines[-1 if lines[-1] else -2].startswith("exec ")


def test_a_time_limit_and_a_wckey_are_sent_if_given(sent: Sent) -> None:
    asked = sent(timeout_min=7, slurm_wckey="key")
    assert (asked["time"], asked["wckey"]) == ("7", "key")


def test_lines_after_the_worker_run(sent: Sent, tmp_path: Path) -> None:
    sent(slurm_teardown=["echo over"])
    assert "echo over" in lines_of(tmp_path)
    assert not any(line.startswith("exec ") for line in lines_of(tmp_path))


def test_a_worker_is_told_its_group_and_how_long_to_stay(tmp_path: Path) -> None:
    command = launching.worker_command(tmp_path / "it's here", Options.of({"tasks_per_job": 1, "gpus_per_node": 1}), 4)
    assert command.endswith(" --group 4 --idle 0 --task-timeout 0 --one")
    assert launching.worker_command(tmp_path, Options(python="apptainer exec i.sif python"), 0).startswith("apptainer exec ")


AVOID = ("n2", "n1")


@pytest.mark.parametrize(
    ("options", "merged"),
    [
        ({}, "n1,n2"),
        ({"slurm_exclude": "n[7-8]"}, "n[7-8],n1,n2"),
        ({"slurm_additional_parameters": {"exclude": "n9"}, "slurm_exclude": "n8"}, "n9,n1,n2"),
    ],
)
def test_nodes_to_avoid_are_excluded_beside_the_users_own(
    sent: Sent, pretend_slurm: PretendSlurm, options: dict[str, Any], merged: str
) -> None:
    pretend_slurm.set_nodes(["n1", "n2", "n3"])
    assert sent(avoid=AVOID, **options)["exclude"] == merged


def test_no_node_is_excluded_if_there_would_be_none_left(sent: Sent, pretend_slurm: PretendSlurm) -> None:
    pretend_slurm.set_nodes(["n1", "n2"])
    assert sent(avoid=AVOID, slurm_exclude="n8")["exclude"] == "n8"


def test_a_job_that_only_an_excluded_node_could_take_is_sent_without(sent: Sent, pretend_slurm: PretendSlurm) -> None:
    pretend_slurm.set_nodes(["n1", "n2", "n3"])
    pretend_slurm.refuse("sbatch: error: Batch job submission failed: Requested node configuration is not available")
    assert "exclude" not in sent(avoid=AVOID)


def test_a_controller_that_is_busy_is_not_asked_again_at_once(sent: Sent, pretend_slurm: PretendSlurm) -> None:
    pretend_slurm.set_nodes(["n1", "n2", "n3"])
    pretend_slurm.refuse("sbatch: error: Socket timed out")
    with pytest.raises(slurm.SlurmError, match="Socket"):
        sent(avoid=AVOID)
    assert not pretend_slurm.jobs()


def test_local_jobs_may_come_up_while_it_is_asked_how_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_alive(pid: int, born: str) -> bool:
        local.note_up(f"L{len(local._processes)}", pid, born)
        return True

    (tmp_path / "jobs").mkdir()
    local = launcher.LocalLauncher(tmp_path, os.environ)
    local.note_up("L0", os.getpid(), "")
    monkeypatch.setattr(launcher, "is_alive", is_alive)
    assert local.states() == {"L0": "RUNNING"}
    local.close()
