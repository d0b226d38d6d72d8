"""joblib's backend "nornir", and dask with a pool for its scheduler: what their users do, on the pools they may use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import joblib
import numpy as np
import pytest
from joblib.parallel import BACKENDS

import nornir_pools as pools
from nornir_pools.base import PoolBase, live_pools
from nornir_pools.joblib import NornirBackend, register_nornir

from .. import functions
from ..conftest import until

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto" / "joblib-and-dask.md"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """joblib knows the backend during the test only."""
    register_nornir()
    monkeypatch.setenv("NORNIR_POOLS_EXECUTOR", "local")
    yield
    del BACKENDS["nornir"]


def parallel(*calls: Any, n_jobs: int = 2, **options: Any) -> Any:
    return joblib.Parallel(n_jobs=n_jobs, **options)(calls)


def square_and_process(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def test_grid_search_runs_on_the_cluster_pool(tmp_path: Path) -> None:
    grid_search(executor="local", folder=str(tmp_path / "runs"))


@pytest.mark.slurm
@pytest.mark.timeout(150)
def test_grid_search_runs_as_jobs_of_slurm(tmp_path: Path, slurm: Any) -> None:
    grid_search(executor="slurm", folder=str(tmp_path / "runs"))
    pools.ClosePools()
    until(lambda: not slurm.jobs(), "jobs are left", 20)


def grid_search(**options: Any) -> None:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    features, classes = load_iris(return_X_y=True)
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0, 10.0]}, cv=2, n_jobs=2, refit=False)
    with joblib.parallel_config(backend="nornir", name="search", num_threads=2, **options):
        search.fit(features, classes)
    assert search.best_score_ > 0.9
    pool = pools.dictKnownPools["search"]
    assert not pool.closed  # warm for the next
    assert [task.name.partition(" ")[0] for task in pool.tasks] in ([], ["_fit_and_score"] * len(pool.tasks))
    assert pool._added == 6


@pytest.mark.parametrize("kind", ["cluster", "processes", "threads", "serial"])
def test_calls_run_on_the_kind_of_pool_asked_for_and_come_back_in_order(kind: str) -> None:
    with joblib.parallel_config(backend="nornir", kind=kind, num_threads=2, name=kind):
        done = parallel(*[joblib.delayed(square_and_process)(n) for n in range(20)], n_jobs=-1)
    assert [value for value, _ in done] == [n * n for n in range(20)]
    processes = {process for _, process in done}
    assert (processes == {os.getpid()}) == (kind in ("threads", "serial"))
    assert len(processes) <= 2


def test_a_pool_of_the_callers_own_is_used_with_its_options_and_left_open() -> None:
    pool = pools.GetMultithreadingPool("mine", 2)
    with joblib.parallel_config(backend="nornir", pool=pool.with_options(mem_gb=1)):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(-2) == 1
        assert joblib.effective_n_jobs(50) == 2
        assert joblib.Parallel()(joblib.delayed(functions.add)(n, 1) for n in range(4)) == [1, 2, 3, 4]  # by default, all of it
    assert not pool.closed
    assert pool._added
    assert list(pools.dictKnownPools) == ["mine"]


def test_a_pool_that_was_closed_meanwhile_is_made_again() -> None:
    with joblib.parallel_config(backend="nornir", kind="threads", num_threads=2):
        for _ in range(2):
            assert parallel(joblib.delayed(abs)(-1), joblib.delayed(abs)(-2)) == [1, 2]
            pools.ClosePools()


def test_wrong_options_are_said_at_once() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"kind": "clusters"}, "there are: cluster, processes"),
        ({"mem": 4}, "did you mean"),
        ({"pool": pools.GetSerialPool("p"), "mem_gb": 4}, "with pool="),
    ]
    for options, words in wrong:
        with pytest.raises(pools.OptionError, match=words):
            joblib.parallel_config(backend="nornir", **options)
    with joblib.parallel_config(backend="nornir"), pytest.raises(ValueError, match="n_jobs == 0"):
        parallel(joblib.delayed(abs)(1), n_jobs=0)


def test_one_job_at_once_needs_no_pool() -> None:
    with joblib.parallel_config(backend="nornir"):
        assert parallel(joblib.delayed(os.getpid)(), n_jobs=1) == [os.getpid()]
    assert not pools.dictKnownPools


def divide(number: int) -> float:
    return 1 / number


def test_an_error_has_its_type_and_the_remote_traceback_and_the_rest_is_taken_back(tmp_path: Path) -> None:
    mark = tmp_path / "go"
    with joblib.parallel_config(backend="nornir", kind="processes", num_threads=2, name="failing"):
        calls = [joblib.delayed(divide)(0), joblib.delayed(functions.wait_for_file)(str(mark), None, 50)]
        with pytest.raises(ZeroDivisionError) as caught:
            parallel(*calls, *calls[1:] * 80, batch_size=1, pre_dispatch="all")
        pool = pools.dictKnownPools["failing"]
        assert pool.num_active_tasks <= 2
        mark.touch()
        assert parallel(joblib.delayed(divide)(1), joblib.delayed(divide)(2)) == [1.0, 0.5]
    assert isinstance(caught.value.__cause__, pools.RemoteTraceback)
    assert "in divide" in str(caught.value.__cause__)


def nested() -> tuple[set[int], set[int], int]:
    inner = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(2))
    register_nornir()
    with joblib.parallel_config(backend="nornir", name="inner"):  # as code that does not ask where it runs
        named = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(2))
    return {pid - os.getpid() for pid in inner}, {pid - os.getpid() for pid in named}, len(live_pools())


@pytest.mark.parametrize("kind", ["cluster", "processes"])
def test_within_a_task_nothing_makes_another_pool(kind: str) -> None:
    with joblib.parallel_config(backend="nornir", num_threads=2, kind=kind):
        assert parallel(*[joblib.delayed(nested)()] * 2) == [({0}, {0}, 0)] * 2


def jobs_at_once() -> int:
    return NornirBackend().effective_n_jobs(-1)


def test_nor_does_a_task_that_joblib_has_not_sent() -> None:
    assert pools.GetClusterPool("direct", 1).submit(jobs_at_once).result(30) == 1


def first_and_writable(array: Any, number: int) -> tuple[float, bool]:
    return float(array[number]), array.flags.writeable


def test_a_large_array_is_written_once_for_all_calls(tmp_path: Path) -> None:
    large, small = np.arange(200_000.0), np.arange(10.0)
    with joblib.parallel_config(backend="nornir", num_threads=2, folder=str(tmp_path / "runs"), keep="all"):
        assert parallel(*[joblib.delayed(first_and_writable)(large, n) for n in range(10)], batch_size=1) == [
            (float(n), False) for n in range(10)
        ]
        assert parallel(*[joblib.delayed(first_and_writable)(small, n) for n in range(2)]) == [(0.0, True), (1.0, True)]
        writable = parallel(*[joblib.delayed(first_and_writable)(large, n) for n in range(2)], mmap_mode=None)
        assert writable == [(0.0, True), (1.0, True)]
    pools.ClosePools()
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    shared = [file for file in (run / "shared").iterdir() if file.stat().st_size >= large.nbytes]
    assert len(shared) == 1


def test_short_calls_are_put_together_by_the_time_they_run_not_by_how_long_they_wait() -> None:
    backend = NornirBackend(kind="serial")

    class Done:
        facts = {"started": 10.0, "finished": 10.01}  # noqa: RUF012

        @staticmethod
        def result() -> list[int]:
            return [1]

    backend.parallel = joblib.Parallel(verbose=0)
    assert backend.retrieve_result_callback(Done) == [1]  # type: ignore[arg-type]
    backend.batch_completed(1, 30.0)  # of which it waited 29.99 s for a job
    assert backend.compute_batch_size() == 2


def test_results_come_one_by_one_if_asked_for() -> None:
    with joblib.parallel_config(backend="nornir", kind="threads", num_threads=4):
        results = joblib.Parallel(n_jobs=4, return_as="generator")(
            joblib.delayed(time.sleep)(seconds) for seconds in (0.0, 0.01, 0.0)
        )
        assert list(results) == [None, None, None]


def test_a_call_from_a_thread_of_its_own_works() -> None:
    seen: list[Any] = []

    def run() -> None:
        with joblib.parallel_config(backend="nornir", kind="threads", num_threads=2):
            seen.extend(parallel(joblib.delayed(abs)(-1), joblib.delayed(abs)(-2)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert seen == [1, 2]


@pytest.mark.timeout(150)  # imports of much, in several processes
def test_the_scripts_of_the_howto_run(tmp_path: Path) -> None:
    text = HOWTO.read_text(encoding="utf-8")
    scripts = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    printed = []
    for number, script in enumerate(scripts):
        (tmp_path / f"script{number}.py").write_text(script.replace("num_threads=8", "num_threads=2"))
        done = subprocess.run(
            [sys.executable, f"script{number}.py"], capture_output=True, text=True, timeout=140, cwd=tmp_path, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert re.fullmatch(r"\{'C': \d+\}\n", printed[0])
    assert printed[1] == "285\n"


# --- dask


def cluster(name: str, count: int) -> PoolBase:
    return pools.GetClusterPool(name, count, executor="local")


@pytest.mark.parametrize("get", [pools.GetThreadPool, pools.GetMultithreadingPool, cluster])
def test_dask_computes_with_a_pool_for_its_scheduler(get: Callable[..., PoolBase]) -> None:
    pool = get("dask", 2)
    squares = [dask.delayed(square_and_process)(n) for n in range(6)]
    total = dask.delayed(lambda done: sum(value for value, _ in done))(squares)
    here, result = dask.compute([pid for _, pid in dask.compute(squares, scheduler=pool)[0]], total, scheduler=pool)
    assert result == sum(n * n for n in range(6))
    assert (set(here) == {os.getpid()}) == (pool.kind is pools.PoolKind.THREAD)
    assert pool._added >= 6
    assert pool._max_workers == 2  # dask goes by it
    with pytest.raises(ZeroDivisionError):
        dask.compute(dask.delayed(divide)(0), scheduler=pool)
