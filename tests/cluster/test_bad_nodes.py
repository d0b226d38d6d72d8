"""One bad node does not eat the run: what fails there runs elsewhere, and later jobs are kept away from it."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools.cluster.pool import ClusterPool

from .. import functions
from ..conftest import until
from ..lab import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]
Make = Callable[..., ClusterPool]


def import_on(ledger: str, number: int, module: str = "only_on_good_nodes") -> int:
    """Note where this runs, and compute something with a module."""
    with open(ledger, "a") as file:
        file.write(f"{os.environ['SLURMD_NODENAME']}\n")
    value: int = __import__(module).square(number)
    time.sleep(0.02)
    return value


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module, on the path of the script and so of its tasks."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "only_on_good_nodes.py").write_text("def square(number):\n    return number * number\n")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


def tried(ledger: Path) -> Counter[str]:
    """How many tasks were tried on each node."""
    return Counter(ledger.read_text().split())


def exclusions(pool: ClusterPool, slurm: Slurm) -> list[str]:
    """What each submission of the pool has excluded."""
    assert pool.folder is not None
    entries = [json.loads(line) for line in (pool.folder / "journal.jsonl").read_text().splitlines()]
    shown = [
        slurm.run("scontrol", "show", "job", entry["ids"][0].partition("_")[0]) for entry in entries if entry["t"] == "jobs"
    ]
    return [re.findall(r"ExcNodeList=(\S+)", text)[0] for text in shown]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if "kept away" in (text := record.getMessage())]


def test_what_fails_on_one_node_runs_elsewhere_and_later_jobs_are_kept_away(
    cluster: Make, slurm: Slurm, site: Path, ledger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with slurm.hide("n1", site):
        pool = cluster(3, slurm_exclusive=True, slurm_exclude="n4")
        tasks = [pool.submit(import_on, str(ledger), number) for number in range(500)]
        assert [task.result(100) for task in tasks] == [number * number for number in range(500)]
    nodes = tried(ledger)
    assert nodes.keys() == {"n1", "n2", "n3"}
    assert nodes["n1"] == 2
    assert nodes.total() == 502
    assert exclusions(pool, slurm)[0] == "n4"
    assert set(exclusions(pool, slurm)[1:]) == {"n[1,4]"}
    assert len(told(caplog)) == 1
    assert "node n1 from now on: task 'import_on' has failed there (ModuleNotFoundError: No module named" in told(caplog)[0]
    assert re.search(r"log: .*/jobs/\d+_\d+\.log\), but not on n[23]$", told(caplog)[0])


@pytest.mark.parametrize("options", [{}, {"tasks_per_job": 1, "slurm_exclusive": True}])
def test_no_task_fails_because_of_one_node_in_other_ways_to_use_the_nodes(
    cluster: Make, slurm: Slurm, site: Path, ledger: Path, options: dict[str, int]
) -> None:
    with slurm.hide("n1", site):
        pool = cluster(**options)
        tasks = [pool.submit(import_on, str(ledger), number) for number in range(40)]
        assert [task.result(100) for task in tasks] == [number * number for number in range(40)]
    assert tried(ledger)["n1"] >= 1


def test_a_program_that_one_node_lacks_is_found_elsewhere(
    cluster: Make, slurm: Slurm, tmp_path: Path, ledger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "program").write_text("#!/bin/sh\nsleep 0.05; echo $1\n")
    (tmp_path / "bin" / "program").chmod(0o755)
    with slurm.hide("n1", tmp_path / "bin"):
        pool = cluster(4, slurm_exclusive=True)
        command = f"echo $SLURMD_NODENAME >> {ledger}; exec {tmp_path}/bin/program"
        tasks = [pool.add_process(str(n), f"{command} {n}") for n in range(120)]
        assert [task.wait_return(100).strip() for task in tasks] == [str(n) for n in range(120)]
    assert tried(ledger)["n1"] == 2
    assert "a command that cannot be run" in told(caplog)[0]


def test_a_module_that_is_missing_everywhere_is_the_tasks_own_error(
    cluster: Make, ledger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = cluster(4, slurm_exclusive=True, stop_after=0)
    tasks = [pool.submit(import_on, str(ledger), number, "nonesuch_module") for number in range(8)]
    for task in tasks:
        with pytest.raises(ModuleNotFoundError, match="No module named 'nonesuch_module'") as caught:
            task.result(100)
        assert "in import_on" in str(caught.value.__cause__)
    assert tried(ledger).total() <= 3 * len(tasks)
    assert told(caplog) == []
    assert pool._run is not None
    assert pool._run.watcher.supply.endings._nodes.to_avoid() == frozenset()


def test_a_single_task_with_such_an_error_is_not_run_again(cluster: Make, ledger: Path) -> None:
    task = cluster(1).submit(import_on, str(ledger), 1, "nonesuch_module")
    assert isinstance(task.exception(60), ModuleNotFoundError)
    assert tried(ledger).total() == 1


def test_a_node_that_has_no_other_beside_it_is_used_all_the_same(cluster: Make, ledger: Path) -> None:
    pool = cluster(1, slurm_nodelist="n2", stop_after=0)
    bad = [pool.submit(import_on, str(ledger), number, "nonesuch_module") for number in range(2)]
    assert all(isinstance(task.exception(100), ModuleNotFoundError) for task in bad)
    assert tried(ledger) == {"n2": 6}
    assert pool.submit(functions.add, 1, 2).result(60) == 3


def test_a_node_where_no_worker_comes_up_is_avoided_and_the_others_go_on(
    cluster: Make, slurm: Slurm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with slurm.hide("n1", Path(pools.__file__).parent / "cluster"):
        pool = cluster(4, slurm_exclusive=True)
        tasks = [pool.submit(functions.wait_for_file, str(tmp_path / "go"), number) for number in range(12)]
        until(lambda: exclusions(pool, slurm)[-1:] == ["n1"], "the node is not avoided", 45)
        (tmp_path / "go").touch()
        assert [task.result(60) for task in tasks] == list(range(12))
    assert len(told(caplog)) == 1
    assert "kept away from node n1 from now on: jobs end there before they take a task" in told(caplog)[0]


def test_a_node_where_no_worker_comes_up_does_not_end_a_run_that_waits_for_the_others(
    cluster: Make, slurm: Slurm, caplog: pytest.LogCaptureFixture
) -> None:
    others = [
        slurm.run("sbatch", "--parsable", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 100").strip()
        for node in ("n2", "n3", "n4")
    ]
    try:
        until(lambda: len(slurm.jobs("-t", "running")) == 3, "the other nodes are not taken", 40)
        with slurm.hide("n1", Path(pools.__file__).parent / "cluster"):
            pool = cluster()
            tasks = [pool.submit(functions.add, number) for number in range(5)]
            until(lambda: exclusions(pool, slurm)[-1:] == ["n1"], "the node is not avoided", 45)
            time.sleep(6)  # for jobs that were on their way to that node to be given up
            assert not any(task.done() for task in tasks)
            slurm.run("scancel", *others)
            assert [task.result(40) for task in tasks] == list(range(1, 6))
    finally:
        slurm.run("scancel", *others)
    assert len(told(caplog)) == 1
