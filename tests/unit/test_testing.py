"""What `nornir_pools.testing` gives to tests of users: each scripted end is the error that it stands for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.testing import PretendSlurm

from .. import functions
from ..conftest import until

pytest_plugins = ["nornir_pools.testing"]

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto" / "test-your-code.md"
ERRORS: dict[str, type[pools.PoolError]] = {
    "cancelled": pools.JobCancelledError,
    "lost": pools.JobLostError,
    "node_failed": pools.NodeFailedError,
    "oom": pools.JobOutOfMemoryError,
    "preempted": pools.JobPreemptedError,
    "timeout": pools.JobTimeoutError,
    "worker_died": pools.WorkerDiedError,
}


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL).stdout


def test_each_end_of_a_job_is_the_error_that_it_stands_for(pretend_slurm: PretendSlurm, tmp_path: Path) -> None:
    pool = pretend_slurm.pool(num_threads=8, retries=0, tasks_per_job=1, mem_gb=1)
    for how in ERRORS:
        pretend_slurm.end(how, task=how)
    pretend_slurm.end("oom", task="begun", after=2.0)
    lucky = pool.add_task("lucky", functions.add, 1, 2)
    begun = pool.add_task("begun", functions.touch_and_wait, str(tmp_path / "begun"), str(tmp_path / "never"))
    unlucky = {how: pool.add_task(how, Path.touch, tmp_path / "mark") for how in ERRORS}
    assert {how: type(task.exception(40)) for how, task in unlucky.items()} == ERRORS
    assert lucky.result(20) == 3
    assert not (tmp_path / "mark").exists()
    assert isinstance(begun.exception(40), pools.JobOutOfMemoryError)
    assert (tmp_path / "begun").exists()
    assert pretend_slurm.ends_left == 0
    lost, error = unlucky["lost"].exception(), unlucky["oom"].exception()
    assert isinstance(lost, pools.JobLostError)
    assert lost.state != "COMPLETED"  # nobody knows it
    assert isinstance(error, pools.JobOutOfMemoryError)
    assert error.memory == error.memory_asked == 1024**3


def test_a_preempted_task_is_tried_again(pretend_slurm: PretendSlurm) -> None:
    pretend_slurm.end("preempted", requeue=True)
    assert pretend_slurm.pool().add_task("patient", abs, -1).result(50) == 1
    assert pretend_slurm.ends_left == 0
    first, *others = pretend_slurm.jobs()  # another, unless the first was started anew before the pool had seen its end
    assert first.restarts == 1
    assert {job.node for job in (first, *others)} <= {"pretend1", "pretend2"}


def test_a_job_that_is_requeued_runs_again_with_nobody_looking(pretend_slurm: PretendSlurm, tmp_path: Path) -> None:
    run("sbatch", "--wrap", f'echo $SLURM_RESTART_COUNT >> {tmp_path}/starts; [ -n "$SLURM_RESTART_COUNT" ] || sleep 30')
    until(lambda: (tmp_path / "starts").exists(), "it does not start")
    run("scontrol", "requeue", "1")
    until(lambda: run("squeue", "-h", "-t", "all", "-o", "%T") == "COMPLETED\n", "it does not run again")
    assert (tmp_path / "starts").read_text() == "\n1\n"


def test_the_commands_answer_as_slurms_do(pretend_slurm: PretendSlurm, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(
        '#!/bin/bash\n#SBATCH --array=0-1 --job-name="a b" # two\n#SBATCH -o %x.%A.%a\necho $1 $SLURM_ARRAY_TASK_ID\n'
    )
    assert run("sbatch", "--mem=100M", str(script), "word") == "Submitted batch job 1\n"
    assert run("sbatch", "--parsable", "--begin=now+1hour", "-t", "1-2", "--wrap=true") == "2\n"
    until(lambda: not run("squeue", "-h", "-t", "running", "-o", "%i") and Path("a b.1.1").exists(), "they do not end")
    until(lambda: "RUNNING" not in run("sacct", "-nP", "-o", "State"), "they do not end")
    assert [Path(f"a b.1.{index}").read_text() for index in (0, 1)] == ["word 0\n", "word 1\n"]
    assert run("squeue", "-h", "-r", "-t", "all", "-n", "a b", "-o", "%i|%T|%j|%m") == (
        "1_0|COMPLETED|a b|100M\n1_1|COMPLETED|a b|100M\n"
    )
    assert run("squeue", "-ho", "%.4i %l") == "   2 1-02:00:00\n"  # by default, only what is not over
    assert run("squeue", "--noheader", "--Format=JobArrayID:5,State:10,Nonsense:4") == "2    PENDING   N/A \n"
    assert run("squeue").startswith("JOBID ")
    rows = run("sacct", "-n", "-P", "-D", "-j", "1_1,7", "-o", "JobID,State,ExitCode,MaxRSS,ReqMem").splitlines()
    assert rows == ["1_1|COMPLETED|0:0||100M", "1_1.batch|COMPLETED|0:0||100M"]
    run("scancel", "--state=PENDING", "1_0", "2")
    until(lambda: not run("squeue", "-h"), "it is not cancelled")
    assert [job.state for job in pretend_slurm.jobs()] == ["COMPLETED", "COMPLETED", "CANCELLED"]
    assert "JobState=CANCELLED" in run("scontrol", "-o", "show", "job", "2")
    with pytest.raises(subprocess.CalledProcessError):
        run("scontrol", "show", "job", "99")
    assert run("sinfo", "-h", "-o", "%P %L") == "pretend* n/a\n"


def test_a_time_limit_is_kept(pretend_slurm: PretendSlurm, tmp_path: Path) -> None:
    run("sbatch", "-t", "0:01", "--wrap", f"(trap '' TERM; exec sleep 60) & echo $! > {tmp_path}/pid; wait")
    until(lambda: run("squeue", "-h", "-t", "all", "-o", "%T") == "TIMEOUT\n", "it goes on")
    sleeping = int((tmp_path / "pid").read_text())
    until(lambda: not psutil.pid_exists(sleeping) or psutil.Process(sleeping).status() == "zombie", "what it started lives on")


def test_a_refusal_is_what_the_test_says(pretend_slurm: PretendSlurm) -> None:
    pretend_slurm.refuse("sbatch: error: invalid account")
    with pytest.raises(pools.SubmissionError, match="invalid account"):
        pretend_slurm.pool().add_task("refused", functions.add, 1).result(20)
    with pytest.raises(ValueError, match="there are: cancelled, lost"):
        pretend_slurm.end("flood")


def test_jobs_run_in_pools_that_the_code_under_test_makes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NORNIR_POOLS_EXECUTOR", "debug")  # as its user has it for other work
    monkeypatch.setenv("NORNIR_POOLS_MEM_GB", "3")
    cluster_pool: ClusterPool = request.getfixturevalue("cluster_pool")
    assert cluster_pool.add_task("sum", functions.add, 1, 2).wait_return(30) == 3
    other = pools.GetClusterPool("other")
    assert (other.executor, other.num_threads, cluster_pool.num_threads) == ("local", 2, 2)
    assert other.runs_folder == cluster_pool.runs_folder
    assert other.runs_folder.is_relative_to(tmp_path)
    assert not other.options.job


LEAVES_A_JOB = """
def test_that_leaves_a_job(pretend_slurm):
    import subprocess

    subprocess.run(["sbatch", "--begin=now+1hour", "--wrap=true"], check=True)
"""


@pytest.mark.timeout(150)  # a pytest of its own, with a dozen jobs
def test_the_examples_of_the_howto_pass_and_leave_nothing(tmp_path: Path) -> None:
    text = HOWTO.read_text(encoding="utf-8")
    conftest, *tests = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_mine.py").write_text("\n\n".join([*tests, LEAVES_A_JOB]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'places'}"], capture_output=True, text=True, timeout=140, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{text.count('def test_') + 1} passed" in done.stdout
    until(lambda: not [word for word in _command_lines() if str(tmp_path) in word], "processes are left")


def _command_lines() -> list[str]:
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
