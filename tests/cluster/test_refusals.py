"""sbatch refuses, is in doubt, or says more than it should: told at once or tried again, and never a second copy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import nornir_pools as pools
from nornir_pools.cluster import slurm as commands
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]
Make = Callable[..., ClusterPool]
StandIn = Callable[[str, str], Path]
TIMED_OUT = 'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1'


def array_of(_: object = None) -> str:
    return os.environ["SLURM_ARRAY_JOB_ID"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slurm_partition": "nonesuch"}, "invalid partition specified: nonesuch"),
        ({"slurm_partition": "tiny", "timeout_min": 5}, "never start it .PartitionTimeLimit"),
        ({"slurm_additional_parameters": {"array": "0-3x"}}, "array"),
        ({"mem_gb": 1000}, "Requested node configuration is not available"),
        ({"slurm_additional_parameters": {"nonesuch-option": 3}}, "nonesuch-option"),
    ],
)
def test_a_refusal_has_sbatchs_own_words_at_once(cluster: Make, options: dict[str, Any], words: str) -> None:
    pool = cluster(2)
    begun = time.monotonic()
    task = pool.with_options(**options).add_task("refused", array_of)
    with pytest.raises(pools.SubmissionError, match=words):
        task.wait_return(20)
    assert time.monotonic() - begun < 10
    assert pool.add_task("good", functions.add, 1, 2).wait_return(40) == 3


def copies(slurm: Slurm) -> set[str]:
    """The arrays in the queue, of those that are not over."""
    return {job.split("_")[0] for job in slurm.jobs()}


@pytest.mark.parametrize("how", ["says so", "hangs", "says so while nobody answers"])
def test_a_job_that_was_accepted_though_sbatch_timed_out_is_not_sent_twice(
    cluster: Make, slurm: Slurm, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(commands, "TIME_LIMIT", 3.0)
    end = {"hangs": "sleep 1357"}.get(how, TIMED_OUT)
    sent = stand_in("sbatch", f'"$REAL" "$@" >/dev/null && {{ {end}; }}')
    if how == "says so while nobody answers":
        stand_in("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    pool = cluster(3)
    tasks = [pool.submit(functions.wait_for_file, str(tmp_path / "go"), i) for i in range(3)]
    until(lambda: len(slurm.jobs("-t", "running")) == 3, "jobs are not sent", 40)
    until(lambda: pool.tasks.qsize() == 0, "workers are not up", 40)
    time.sleep(8)  # another submission would be made by now
    stand_in("squeue", 'exec "$REAL" "$@"')
    time.sleep(6)
    assert len(copies(slurm)) == 1
    (tmp_path / "go").touch()
    assert [task.result(20) for task in tasks] == [0, 1, 2]
    assert len(sent.read_text().splitlines()) == 1
    pool.shutdown()
    assert ["sleep", "1357"] not in [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]


def test_no_job_is_left_that_was_sent_in_doubt(
    cluster: Make, slurm: Slurm, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = stand_in("sbatch", f'"$REAL" "$@" >/dev/null; {TIMED_OUT}')
    stand_in("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    pool = cluster(3, slurm_additional_parameters={"begin": "now+1hour"})
    task = pool.submit(functions.add, 1)
    until(lambda: len(sent.read_text().splitlines()) == 1 and bool(slurm.jobs()), "no job is sent", 20)
    assert task.cancel()
    pool.shutdown()
    assert not slurm.jobs()


@pytest.mark.parametrize("banner", ["Welcome to job 99 of the month!", "Submitted 7 batch jobs today"])
def test_a_sites_banner_around_the_id_does_no_harm(cluster: Make, stand_in: StandIn, banner: str) -> None:
    stand_in("sbatch", f'echo "{banner}"; "$REAL" "$@" && echo "Your quota is 123 h" && echo "job 5 is next"')
    pool = cluster(1)
    task = pool.add_task("t", array_of)
    array = task.wait_return(40)
    assert pool.folder is not None
    assert f'"ids": ["{array}_0"]' in (pool.folder / "journal.jsonl").read_text()
