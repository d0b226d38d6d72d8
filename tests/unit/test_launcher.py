"""What the launcher relies on in submitit, and the batch script that comes out of it."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import submitit

import nornir_pools as pools
from nornir_pools.cluster import launcher, launching, local_launcher, slurm
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
    local = local_launcher.LocalLauncher(tmp_path, os.environ)
    local.note_up("L0", os.getpid(), "")
    monkeypatch.setattr(local_launcher, "is_alive", is_alive)
    assert local.states() == {"L0": "RUNNING"}
    local.close()


def write_sbatch(folder: Path, lines: str) -> dict[str, str]:
    """An sbatch made of shell lines, and the environment in which it is found."""
    (folder / "bin").mkdir()
    (folder / "jobs").mkdir()
    (folder / "bin" / "sbatch").write_text(f"#!/bin/bash\n{lines}\n")
    (folder / "bin" / "sbatch").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}/bin:/usr/bin:/bin"}


def test_what_a_site_has_set_for_every_job_is_asked_for_unless_an_option_says_otherwise(tmp_path: Path) -> None:
    mine = {"SBATCH_ACCOUNT": "a", "SBATCH_QOS": "q", "SBATCH_PARTITION": "p", "SBATCH_EXPORT": "NONE", "SBATCH_WAIT": "1"}
    environment = write_sbatch(tmp_path, f"env | grep ^SBATCH_ | sort > {tmp_path}/seen; echo 7")
    options = Options.of({"slurm_qos": "other", "slurm_additional_parameters": {"partition": "other"}})
    jobs = launcher.SlurmLauncher(tmp_path, {**environment, **mine}).start(options, 0, 1, "run")
    assert (jobs, (tmp_path / "seen").read_text()) == (["7_0"], "SBATCH_ACCOUNT=a\n")


def test_neither_aliases_nor_functions_of_the_users_shell_stand_in_for_sbatch(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("alias sbatch=false\nsbatch() { exit 9; }\n")
    mine = {"BASH_FUNC_sbatch%%": "() {  exit 9\n}", "BASH_ENV": str(tmp_path / "profile"), "ENV": str(tmp_path / "profile")}
    environment = write_sbatch(tmp_path, "echo Submitted batch job 7; echo 'see https://site/job 8'")
    assert launcher.SlurmLauncher(tmp_path, {**environment, **mine}).start(Options(), 0, 1, "run") == ["7_0"]


UNKNOWN = (
    "f() {{ echo \"sbatch: unrecognized option '--$1'\" >&2; exit 1; }}; for o in {0}; do ! grep -q -- --$o $1 || f $o; done"
)


def test_options_of_ours_that_an_sbatch_does_not_know_are_left_out_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = write_sbatch(tmp_path, UNKNOWN.format("signal open-mode") + "; echo 7")
    sites = launcher.SlurmLauncher(tmp_path, environment)
    assert [sites.start(Options(), 0, 1, name) for name in ("first", "second")] == [["7_0"], ["7_0"]]
    told = [record.getMessage() for record in caplog.records if "does not know" in record.getMessage()]
    names = ("signal", "open-mode")
    assert told == [f"run first: sbatch does not know --{name} here, so jobs are sent without it" for name in names]


@pytest.mark.parametrize("name", ["signal", "nonesuch"])
def test_an_unknown_option_that_was_asked_for_is_refused(tmp_path: Path, name: str) -> None:
    environment = write_sbatch(tmp_path, UNKNOWN.format(name) + "; echo 7")
    options = Options.of({"slurm_additional_parameters": {name: "TERM@9"}})
    with pytest.raises(slurm.SlurmError, match=f"unrecognized option '--{name}'"):
        launcher.SlurmLauncher(tmp_path, environment).start(options, 0, 1, "run")


def test_a_wckey_that_is_refused_is_told_at_once(pretend_slurm: PretendSlurm) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid wckey specification"
    pretend_slurm.refuse(words)
    with pytest.raises(pools.SubmissionError, match=words):
        pretend_slurm.pool(slurm_wckey="nonesuch").add_task("t", len, "").wait_return(20)


@pytest.mark.parametrize("place", ["variable", "file"])
def test_slurms_commands_are_found_where_the_option_says(
    pretend_slurm: PretendSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    folder = str(pretend_slurm.folder / "bin")
    (tmp_path / "tools").mkdir()  # what jobs need, and no srun, for which submitit would look
    for name in ("bash", "sh"):
        (tmp_path / "tools" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    with pytest.raises(pools.OptionError, match=r"sbatch is not on PATH; .*slurm_bin="):
        pools.GetClusterPool("none", executor="auto")
    if place == "file":
        Path("nornir_pools.toml").write_text(f'slurm_bin = "{folder}"\n')
        Path("nornir_pools.toml").chmod(0o600)
    else:
        monkeypatch.setenv("NORNIR_POOLS_SLURM_BIN", folder)
    assert pools.IsClusterAvailable()
    pool = pretend_slurm.pool(num_threads=1, tasks_per_job=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where there is no such file
    assert pool.add_task("t", os.getenv, "PATH").wait_return(40) == str(tmp_path / "tools")
    pretend_slurm.end("cancelled")
    assert isinstance(pool.add_task("cancelled", len, "").exception(40), pools.JobCancelledError)


def test_accounting_that_lacks_a_column_is_told_of_once_and_ends_are_told_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = write_sbatch(tmp_path, "")
    (tmp_path / "bin" / "sbatch").rename(tmp_path / "bin" / "sacct")
    (tmp_path / "bin" / "sacct").write_text(
        "#!/bin/sh\necho 'sacct: error: Invalid field requested: \"NodeList\"' >&2; exit 1\n"
    )
    site = launcher.SlurmLauncher(tmp_path, environment)
    with caplog.at_level(logging.INFO, "nornir_pools"):
        for _ in range(2):
            site._accounting_after = 0.0
            assert site.endings({"7_0": "TIMEOUT"}) == {"7_0": slurm.Ending("TIMEOUT")}
    (told,) = [record.getMessage() for record in caplog.records]
    assert "Invalid field requested" in told


@pytest.mark.parametrize("whose", ["python", "starter"])
def test_local_jobs_that_end_before_they_come_up_are_an_error_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whose: str
) -> None:
    if whose == "starter":
        monkeypatch.setattr(local_launcher, "_STARTER", "raise SystemExit('no room')")
    python = "/bin/false" if whose == "python" else ""
    pool = pools.GetClusterPool("stillborn", 1, executor="local", folder=str(tmp_path / "runs"), python=python)
    error = pool.add_task("t", len, "").exception(local_launcher.START_SECONDS - 5)
    assert isinstance(error, pools.PoolError)
    assert "the jobs do not start" in str(error)
    told = "on this machine could not be started" in caplog.text and "FailedJobError: no room" in caplog.text
    assert told == (whose == "starter")
