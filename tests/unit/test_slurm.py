"""What is read out of SLURM's words, with stand-ins for its commands."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import OptionError, errors
from nornir_pools.cluster import answers, slurm
from nornir_pools.cluster.slurm import SlurmError

from ..conftest import until

StandIn = Callable[[str, str], dict[str, str]]


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    """Makes a command of this name from shell lines, and gives the environment in which it is found."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name: str, lines: str) -> dict[str, str]:
        (folder / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.calls\n{lines}\n')
        (folder / name).chmod(0o755)
        return {"PATH": f"{folder}:/usr/bin:/bin"}

    return make


@pytest.mark.parametrize(
    ("output", "job"),
    [
        ("Submitted batch job 123\n", "123"),
        ("Submitted batch job 123 on cluster big\n", "123"),
        ("Welcome! Job 99 of the month.\n10 nodes down\nSubmitted batch job 123\nbye\n", "123"),
        ("123\n", "123"),
        ("123;big\n", "123"),
        ("banner of 5 lines\n123\n", "123"),
    ],
)
def test_job_id_is_found_among_a_sites_words(output: str, job: str) -> None:
    assert answers.read_job_id(output) == job


@pytest.mark.parametrize("output", ["", "ok\n", "job 12 was not submitted", "Submitted batch job\n", "-5\n"])
def test_answer_without_a_job_id_is_an_error_that_shows_it(output: str) -> None:
    with pytest.raises(SlurmError, match="holds no job id"):
        answers.read_job_id(output)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", "busy"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", "busy"),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.", "busy"),
        ("sbatch timed out after 60 s", "busy"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", "limit"),
        ("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates", "limit"),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", ""),
        ("sbatch: error: invalid account or account/partition combination specified", ""),
        ("sbatch: unrecognized option '--foo'", ""),
        ("", ""),
    ],
)
def test_refusals_that_may_pass_are_told_from_final_ones(text: str, kind: str) -> None:
    assert answers.is_transient(text) == kind


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("TIMEOUT", errors.JobTimeoutError),
        ("DEADLINE", errors.JobTimeoutError),
        ("OUT_OF_MEMORY", errors.JobOutOfMemoryError),
        ("CANCELLED", errors.JobCancelledError),
        ("CANCELLED by 1000", errors.JobCancelledError),
        ("CANCELLED+", errors.JobCancelledError),
        ("PREEMPTED", errors.JobPreemptedError),
        ("NODE_FAIL", errors.NodeFailedError),
        ("BOOT_FAIL", errors.NodeFailedError),
        ("LAUNCH_FAILED", errors.NodeFailedError),
        ("FAILED", errors.WorkerDiedError),
        ("COMPLETED", errors.JobLostError),
        ("REVOKED", errors.JobLostError),
    ],
)
def test_job_that_is_over_has_its_class_of_error(state: str, kind: type) -> None:
    assert slurm.is_over(state)
    assert slurm.error_class(slurm.Ending(state)) is kind


@pytest.mark.parametrize(
    "state", ["PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "STAGE_OUT", "NEW_IN_26", ""]
)
def test_any_other_state_counts_as_alive_and_stands_for_nothing(state: str) -> None:
    assert not slurm.is_over(state)
    assert slurm.error_class(slurm.Ending(state)) is errors.JobLostError


def test_states_are_those_of_this_users_jobs_one_by_one(stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in("squeue", "echo 'banner'; echo '12_0|RUNNING|None'; echo ' 12_1|PENDING|Priority '")
    assert slurm.states(environment) == {"12_0": "RUNNING", "12_1": "PENDING Priority"}
    assert f"-u {os.geteuid()}" in (tmp_path / "squeue.calls").read_text()


def test_ids_of_any_form_are_taken_as_they_come(stand_in: StandIn) -> None:
    ids = ["123_[0-9%3]", "123_[1,4-5]", "123_7", "123.batch", "123+1"]
    environment = stand_in("squeue", "; ".join(f"echo '{job}|RUNNING|None'" for job in ids))
    assert slurm.states(environment) == dict.fromkeys(ids, "RUNNING")
    assert slurm.find_by_name("n", stand_in("squeue", "echo '123_[0-9%3]|n'")) == "123"


def test_a_job_is_found_by_its_name_behind_the_users_own(stand_in: StandIn) -> None:
    environment = stand_in("squeue", "echo '7_0|mosaic-run-1'; echo '8_0|run-12'; echo '9_0|other run-1'; echo '99|x_y'")
    assert slurm.find_by_name("run-1", environment) == "7"
    assert slurm.find_by_name("n-1", environment) is None


def test_jobs_that_cannot_be_cancelled_do_not_keep_others_from_it(stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in("scancel", 'case " $* " in *" 7_0 "*) echo "Invalid job id" >&2; exit 1;; esac')
    with pytest.raises(SlurmError, match="Invalid job id"):
        slurm.cancel([f"7_{number}" for number in range(600)], environment)
    assert sorted(line.split()[0] for line in (tmp_path / "scancel.calls").read_text().splitlines()) == ["7_0", "7_500"]


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "InvalidAccount"])
def test_a_job_that_will_never_start_is_told_from_one_that_waits(stand_in: StandIn, reason: str) -> None:
    lines = (f"1_0|PENDING|{reason}", "1_1|PENDING|Resources", "1_2|PENDING|None", "1_3|RUNNING|None")
    states = slurm.states(stand_in("squeue", "; ".join(f"echo '{line}'" for line in lines)))
    assert states == {"1_0": f"PENDING {reason}", "1_1": "PENDING Resources", "1_2": "PENDING", "1_3": "RUNNING"}
    assert [slurm.is_hopeless(state.partition(" ")[2]) for state in states.values()] == [True, False, False, False]


def test_job_is_found_by_its_name_and_the_newest_counts(stand_in: StandIn) -> None:
    jobs = "echo '9_0|a,b-1'; echo '10_1|a,b-1'; echo '11_0|b-1'; echo '12_0|a'"
    assert slurm.find_by_name("a,b-1", stand_in("squeue", jobs)) == "10"
    assert slurm.find_by_name("n", stand_in("squeue", "true")) is None


def test_many_jobs_are_cancelled_by_few_calls(stand_in: StandIn, tmp_path: Path) -> None:
    slurm.cancel((f"1_{n}" for n in range(1200)), stand_in("scancel", ""), pending_only=True)
    calls = (tmp_path / "scancel.calls").read_text().splitlines()
    assert sorted(len(call.split()) for call in calls) == [201, 501, 501]
    assert all(call.startswith("--state=PENDING 1_") for call in calls)
    (tmp_path / "scancel.calls").unlink()
    slurm.cancel([], stand_in("scancel", ""))
    assert not (tmp_path / "scancel.calls").exists()


def test_array_size_is_the_sites_if_it_is_known(stand_in: StandIn) -> None:
    assert slurm.max_array_size(stand_in("scontrol", "echo 'MaxArraySize            = 4001'")) == 4001
    assert slurm.max_array_size(stand_in("scontrol", "echo 'MaxArraySize = 0'")) == 1
    assert slurm.max_array_size(stand_in("scontrol", "echo nothing")) == 0
    assert slurm.max_array_size(stand_in("scontrol", "exit 1")) == 0
    assert slurm.max_array_size({"PATH": "/no/such/folder"}) == 0


def test_accounting_tells_the_last_state_on_record_or_nothing(stand_in: StandIn) -> None:
    rows = ["12_0|NODE_FAIL|0:0||100M|n1", "12_0|CANCELLED by 0|0:9||100M|n2", "12_0.batch|CANCELLED|0:9|150000K||n2"]
    environment = stand_in("sacct", "; ".join(f"echo '{row}'" for row in rows))
    ending = slurm.Ending("CANCELLED by 0", "0:9", 150_000 * 1024, 100 * 1024**2, "n2")
    assert slurm.accounting(["12_0", "12_1"], environment) == {"12_0": ending}
    assert slurm.accounting(["12_0"], stand_in("sacct", "true")) == {}
    with pytest.raises(slurm.SlurmError, match="disabled"):
        slurm.accounting(["12_0"], stand_in("sacct", "echo disabled >&2; exit 1"))


def test_accounting_is_asked_about_many_jobs_by_few_calls(stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in("sacct", "echo '1_7|FAILED|1:0|||'; echo '1_7.batch|FAILED|1:0|5K||'; echo '1_8|RUNNING|0:0|||'")
    jobs = [f"{array}_{index}" for array in range(60) for index in range(1000)]
    assert slurm.accounting(jobs, environment) == {"1_7": slurm.Ending("FAILED", "1:0", 5 * 1024)}
    calls = (tmp_path / "sacct.calls").read_text().split("MaxRSS,ReqMem")[:-1]
    assert all(" -j " in call for call in calls)  # by id: else only jobs of today would be told
    assert len(calls) == 120
    assert max(map(len, calls)) < 10_000


@pytest.mark.parametrize(
    ("text", "size"),
    [("3584K", 3584 * 1024), ("3.50M", 3584 * 1024), ("100M", 100 * 2**20), ("4Gn", 4 * 2**30), ("0", 0), ("", 0), ("?", 0)],
)
def test_sizes_are_read_as_each_sacct_writes_them(text: str, size: int) -> None:
    assert slurm._bytes(text) == size


def test_signal_9_of_a_job_over_its_memory_is_out_of_memory() -> None:
    over = slurm.Ending("FAILED", "0:9", 150, 100)
    assert slurm.error_class(over) is errors.JobOutOfMemoryError
    assert slurm.error_class(slurm.Ending("CANCELLED by 0", "0:9", 150, 100)) is errors.JobOutOfMemoryError
    assert slurm.error_class(slurm.Ending("FAILED", "0:9", 90, 100)) is errors.WorkerDiedError
    assert slurm.error_class(slurm.Ending("FAILED", "1:0", 150, 100)) is errors.WorkerDiedError


def test_failed_command_says_its_own_words(stand_in: StandIn) -> None:
    for lines, words in [
        ("echo out; echo err >&2; exit 1", "^err$"),
        ("echo out; exit 1", "^out$"),
        ("exit 3", "squeue gave exit status 3"),
        ("printf 'a\\377' >&2; exit 1", "^a\ufffd$"),
    ]:
        with pytest.raises(SlurmError, match=words):
            slurm.states(stand_in("squeue", lines))


def test_missing_command_is_an_error_that_names_it() -> None:
    with pytest.raises(SlurmError, match="squeue cannot be started"):
        slurm.states({"PATH": "/no/such/folder"})


def test_command_that_hangs_is_given_up_and_that_may_pass(stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in("sbatch", f"sleep 50 & echo $! > {tmp_path}/pid; wait")  # as a site's wrapper of sbatch does
    start = time.monotonic()
    with pytest.raises(SlurmError, match=r"sbatch timed out after 0\.3 s") as caught:
        slurm.run(["sbatch"], environment, seconds=0.3)
    assert time.monotonic() - start < 10
    assert answers.is_transient(str(caught.value)) == "busy"
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), "it lives on")


def test_command_reads_no_stdin_and_runs_in_the_folder_asked_for(stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in("sbatch", "cat; pwd")
    assert slurm.run(["sbatch"], environment, folder=str(tmp_path / "bin")) == f"{tmp_path}/bin\n"


def test_cluster_is_available_where_sbatch_is(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert pools.IsClusterAvailable() is False
    monkeypatch.setenv("PATH", stand_in("sbatch", "")["PATH"])
    monkeypatch.setenv("SLURM_CONF", __file__)
    assert pools.IsClusterAvailable() is True


def test_executor_is_slurm_where_it_is_and_else_this_machine_with_a_warning(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert pools.GetClusterPool("a").executor == "local"
    assert ["no SLURM here" in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(OptionError, match="sbatch is not on PATH"):
        pools.GetClusterPool("b", executor="slurm")
    monkeypatch.setenv("PATH", stand_in("sbatch", "")["PATH"])
    monkeypatch.setenv("SLURM_CONF", __file__)
    assert pools.GetClusterPool("c").executor == "slurm"
    assert pools.GetClusterPool("c").num_threads == 256


def test_login_node_without_slurms_commands_on_path_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(OptionError, match='executor="local"'):
        pools.GetClusterPool("a")
    assert not pools.dictKnownPools
    assert pools.GetClusterPool("a", executor="local").executor == "local"
