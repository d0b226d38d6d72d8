"""What a wait for a cluster pool shows: why jobs wait, and nothing from inside of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import progress
from nornir_pools.here import here

from .. import functions
from ..conftest import until
from ..lab import Slurm
from ..terminal import Terminal


@pytest.mark.slurm
def test_the_bar_says_what_jobs_wait_for(slurm: Slurm, tmp_path: Path) -> None:
    script = (
        "import nornir_pools as pools\nfrom tests import functions\n"
        f"pool = pools.GetClusterPool('late', executor='slurm', folder={str(tmp_path / 'runs')!r})\n"
        "later = pool.with_options(slurm_additional_parameters={'begin': 'now+1hour'})\n"
        "later.add_task('later', functions.add, 1)\n"
        "with pool: pass\n"
    )
    with Terminal(script, **{**slurm.environment(), "TERM": "xterm", "COLUMNS": "100"}) as terminal:
        terminal.see("0/1 1 waiting (BeginTime)")
        terminal.press("\x03")
        assert terminal.end(30) == -2
    until(lambda: not slurm.jobs(), "jobs are left", 20)


def test_counts_of_a_cluster_pool_know_what_runs(executor: str, tmp_path: Path) -> None:
    pool = pools.GetClusterPool("counted", 1, executor=executor, folder=str(tmp_path / "runs"))
    pool.add_task("bad", functions.fail).exception(60)
    pool.add_task("runs", functions.wait_for_file, "go")
    for number in range(2):
        pool.add_task(f"waits {number}", functions.add, number)
    assert progress.count(pool)[:5] == (4, 1, 1, 2, 1)
    Path("go").touch()
    pool.wait_completion()
    assert progress.count(pool)[:5] == (4, 4, 0, 0, 1)


def shown_in_a_job() -> tuple[bool, float | None]:
    return here.job, progress.Watch(pools.GetThreadPool("inside", 1)).pause


def test_nothing_is_shown_from_inside_of_a_job(executor: str, tmp_path: Path) -> None:
    pool = pools.GetClusterPool("inside", 1, executor=executor, folder=str(tmp_path / "runs"))
    assert pool.add_task("t", shown_in_a_job).wait_return(60) == (True, None)


def test_tasks_of_a_run_taken_over_are_counted(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("left", 1, executor="local", folder=str(tmp_path / "runs"), on_interrupt="detach")
    pool.add_task("bad", functions.fail).exception(60)
    pool.add_task("runs", functions.wait_for_file, "go")
    run = pool.folder
    assert run is not None
    pool.detach()
    again = pools.attach(run)
    assert progress.count(again)[:2] == (2, 1)
    Path("go").touch()
    again.wait_completion()
    assert progress.count(again)[:5] == (2, 2, 0, 0, 1)
