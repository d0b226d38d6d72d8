"""A dead script loses nothing: another process takes its run over, with its tasks and its jobs."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster import adopting, lease, places
from nornir_pools.cluster.folder import Folder
from nornir_pools.cluster.pool import ClusterPool
from nornir_pools.cluster.spool import Spool
from nornir_pools.cluster.supply import Supply
from nornir_pools.cluster.watcher import Watcher

from .. import functions
from ..conftest import until
from ..lab import Slurm
from .conftest import workers

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(120)


def run_and_die(executor: str, body: str, *, die: bool = True, **environment: str) -> Path:
    """Run a script with a `pool` of two jobs that kills itself after `body`; returns the run's folder."""
    text = f"""
import os, signal, time
import nornir_pools as pools
from tests import functions
pool = pools.GetClusterPool("work", 2, executor={executor!r}, folder="runs")
{textwrap.dedent(body)}
{"os.kill(os.getpid(), signal.SIGKILL)" if die else ""}
"""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == (-signal.SIGKILL if die else 0), done.stderr
    (run,) = Path("runs").absolute().iterdir()
    return run


def by_name(pool: ClusterPool) -> dict[str, pools.Task]:
    return {task.name: task for task in pool.tasks}


def journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def test_finished_and_unfinished_tasks_come_back(executor: str) -> None:
    run = run_and_die(
        executor,
        """
        pool.add_task("sum", functions.add, 1, 2).wait_return(40)
        pool.add_process("command", "echo out; echo err >&2; exit 3").wait_return(40)
        failed = pool.add_task("failed", functions.fail, ValueError, "why")
        failed.exception(40)
        pool.add_task("running", functions.touch_and_wait, "mark", "go")
        while not os.path.exists("mark"):
            time.sleep(0.01)
        for n in range(40):
            pool.add_task(f"waiting {n}", functions.add, n)
        """,
    )
    pool = pools.attach("work")
    assert pool.folder == run
    tasks = by_name(pool)
    assert len(tasks) == 44
    assert [tasks[name].done() for name in ("sum", "command", "failed", "running")] == [True, True, True, False]
    assert tasks["sum"].wait_return() == 3
    command = tasks["command"]
    assert isinstance(command, pools.CommandTask)
    assert (command.returncode, command.stdoutdata, command.stderrdata) == (3, "out\n", "err\n")
    assert command.cmd == "echo out; echo err >&2; exit 3"
    with pytest.raises(ValueError, match="why") as caught:
        tasks["failed"].wait_return()
    assert "Task 'failed' failed in process" in str(caught.value.__cause__)
    assert str(run / "jobs") in str(caught.value.__cause__)
    assert [tasks[f"waiting {n}"].wait_return(40) for n in range(40)] == list(range(1, 41))
    Path("go").touch()
    tasks["running"].wait_return(40)
    assert pool.add_task("new", functions.add, 2, 2).wait_return(40) == 4
    pool.shutdown()
    assert pools.runs()[-1].state == "closed"


def test_without_its_script_all_tasks_of_a_run_end(executor: str, tmp_path: Path) -> None:
    body = 'for n in range(60): pool.add_task(str(n), functions.append_line, "ledger", n)\n'
    run_and_die(executor, body + "while not os.path.exists('ledger'): time.sleep(0.01)")
    ledger = tmp_path / "ledger"
    until(lambda: sorted(map(int, ledger.read_text().split())) == list(range(60)), "tasks do not go on", 40)
    pool = pools.attach("work")
    until(lambda: not pool.num_active_tasks, "what was done is not found", 20)
    assert sorted(map(int, ledger.read_text().split())) == list(range(60))


def test_cancelled_and_given_up_tasks_come_back_as_they_were(executor: str) -> None:
    run_and_die(
        executor,
        """
        running = [pool.add_task(f"running {n}", functions.touch_and_wait, f"mark{n}", "go") for n in range(2)]
        while not (os.path.exists("mark0") and os.path.exists("mark1")):
            time.sleep(0.01)
        cancelled = pool.add_task("cancelled", functions.touch, "ran")
        assert cancelled.cancel()
        error = pools.JobTimeoutError("too long", job_id="7", state="TIMEOUT", tries=("a", "b"))
        pool._run.watcher.ledger.give_up(1, error)
        """,
    )
    pool = pools.attach()
    tasks = by_name(pool)
    assert tasks["cancelled"].cancelled()
    error = tasks["running 0"].exception(5)
    assert isinstance(error, pools.JobTimeoutError)
    assert (str(error), error.job_id, error.state, list(error.tries)) == ("too long", "7", "TIMEOUT", ["a", "b"])
    Path("go").touch()
    tasks["running 1"].wait_return(40)
    assert not Path("ran").exists()


def test_a_run_that_is_held_is_refused_with_who_holds_it(executor: str) -> None:
    pool = pools.GetClusterPool("held", 1, executor=executor, folder="runs")
    assert pool.add_task("t", functions.add, 1).wait_return(40) == 2
    assert pools.attach("held") is pool  # this process's own
    done = subprocess.run(
        [sys.executable, "-c", f"import nornir_pools as pools; pools.attach({str(pool.folder)!r})"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"RunBusyError: the run {pool.folder.name} is held by process {os.getpid()} on" in done.stderr  # type: ignore[union-attr]
    assert pool.add_task("t", functions.add, 2).wait_return(40) == 3


def test_leaving_a_run_and_coming_back(executor: str, caplog: pytest.LogCaptureFixture) -> None:
    pool = pools.GetClusterPool("work", 1, executor=executor, folder="runs")
    task = pool.add_task("running", functions.touch_and_wait, "mark", "go")
    until(Path("mark").exists, "the task does not start", 40)
    pool.detach()
    assert "1 jobs go on; to come back to them: nornir_pools.attach(" in caplog.text
    with pytest.raises(pools.PoolClosedError, match="whose tasks go on"):
        task.wait_return(5)
    with pytest.raises(pools.PoolClosedError):
        pool.add_task("late", functions.add, 1)
    assert [run.state for run in pools.runs()] == ["left"]
    again = pools.attach("work")
    assert again is not pool
    Path("go").touch()
    by_name(again)["running"].wait_return(40)


def test_a_run_that_was_closed_has_nothing_to_give(executor: str) -> None:
    run = run_and_die(executor, 'pool.add_task("t", functions.add, 1).wait_return(40)', die=False)
    with pytest.raises(pools.RunNotFoundError, match=f"{run.name} was closed"):
        pools.attach(run)
    assert (run / "journal.jsonl").exists()
    assert not (run / "holder").exists()


@pytest.mark.slurm
def test_jobs_whose_submission_was_not_answered_yet_are_found(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "bin" / "sbatch").write_text(f'#!/bin/sh\n{real} "$@" >/dev/null\nkill -9 $PPID\n')
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    body = 'for n in range(2): pool.add_task(str(n), functions.touch_and_wait, f"mark{n}", "go")\ntime.sleep(30)'
    run = run_and_die("slurm", body, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert [entry["t"] for entry in journal(run) if entry["t"] in ("sending", "jobs")] == ["sending"]
    pool = pools.attach(run)
    until(lambda: any(entry["t"] == "jobs" for entry in journal(run)), "they are not looked for")
    (sent,) = [entry for entry in journal(run) if entry["t"] == "jobs"]
    assert len(sent["ids"]) == 2
    Path("go").touch()
    for task in pool.tasks:
        task.wait_return(40)
    assert [entry["t"] for entry in journal(run) if entry["t"] == "sending"] == ["sending"]  # no second submission
    pool.shutdown()
    until(lambda: not slurm.jobs(), "jobs are left", 20)


@pytest.mark.slurm
def test_a_preempted_job_comes_back_without_its_script(slurm: Slurm) -> None:
    options = 'pool = pool.with_options(slurm_nodelist="n2", slurm_exclusive=True)\n'
    body = 'pool.add_task("preempted", functions.touch_and_wait, "mark", "go", 7)\n'
    run_and_die("slurm", options + body + "while not os.path.exists('mark'): time.sleep(0.01)")
    (job,) = slurm.jobs()
    Path("mark").unlink()
    slurm.run("sbatch", "-p", "urgent", "-w", "n2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    until(Path("mark").exists, "it does not come back", 90)
    assert job in slurm.jobs()
    pool = pools.attach("work")
    Path("go").touch()
    assert by_name(pool)["preempted"].wait_return(40) == 7
    pool.shutdown()
    until(lambda: not slurm.jobs(), "jobs are left", 20)


# --- on this machine only: what the scheduler has no part in


@pytest.fixture
def dead_run() -> Path:
    """A run of two finished tasks whose script has died."""
    body = "[pool.add_task(str(n), functions.add, n) for n in range(2)]\nfor task in pool.tasks: task.wait_return(40)"
    return run_and_die("local", body)


def test_runs_are_found_by_pool_name_beginning_path_and_last(dead_run: Path) -> None:
    for word in ("work", "last", dead_run.name, dead_run.name[:-3], str(dead_run)):
        assert places.find_run(word) == dead_run
    (info,) = pools.runs()
    assert (info.name, info.pool, info.path, info.state) == (dead_run.name, "work", dead_run, "left")
    assert abs(info.started - time.time()) < 60
    assert re.fullmatch(r"process \d+ on \S+", info.holder)


def test_an_unknown_or_ambiguous_name_is_an_error_that_lists_what_there_is(dead_run: Path) -> None:
    with pytest.raises(pools.RunNotFoundError, match=f"no run 'other'; the newest ones are: {dead_run.name}"):
        pools.attach("other")
    twin = dead_run.with_name(dead_run.name[:-6] + "000000")
    subprocess.run(["cp", "-r", dead_run, twin], check=True)
    places.note_run(twin)
    with pytest.raises(pools.RunNotFoundError, match="more than one"):
        pools.attach("work-")


def test_a_journal_that_breaks_off_is_read_as_far_as_it_goes(dead_run: Path) -> None:
    with (dead_run / "journal.jsonl").open("a") as file:
        file.write('{"t": "task", "n": 3, "na')
    pool = pools.attach(dead_run)
    assert sorted(by_name(pool)) == ["0", "1"]
    assert pool.add_task("new", functions.add, 5).wait_return(40) == 6
    pool.detach()
    assert sorted(by_name(pools.attach(dead_run))) == ["0", "1", "new"]


def test_a_run_whose_script_died_before_the_first_line_has_no_tasks(dead_run: Path) -> None:
    (dead_run / "journal.jsonl").unlink()
    pool = pools.attach(dead_run)
    assert len(pool.tasks) == 0
    assert pool.add_task("new", functions.add, 1).wait_return(40) == 2


def test_a_task_that_was_never_published_is_told_and_left_out(dead_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (dead_run / "journal.jsonl").open("a") as file:
        file.write('{"t": "task", "n": 3, "name": "half", "group": 0}\n')
    assert sorted(by_name(pools.attach(dead_run))) == ["0", "1"]
    assert "the task 'half' is not in it: its script died while it was being added" in caplog.text


def test_an_outcome_that_was_put_away_but_not_journalled_is_found() -> None:
    run = run_and_die("local", 'pool.add_task("large", bytes, 100_000).wait_return(40)')
    text = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(line for line in text if '"done"' not in line))
    assert by_name(pools.attach(run))["large"].wait_return(10) == bytes(100_000)


def test_a_withdrawn_task_whose_fate_was_not_journalled_waits_again() -> None:
    run = run_and_die(
        "local",
        """
        for n in range(2):
            pool.add_task(str(n), functions.touch_and_wait, f"mark{n}", "go")
        while not (os.path.exists("mark0") and os.path.exists("mark1")):
            time.sleep(0.01)
        pool.add_task("2", functions.add, 1)
        """,
    )
    (shard,) = [path for path in (run / "todo" / "0").iterdir() if path.name.isdigit()]
    (waiting,) = shard.iterdir()
    waiting.rename(run / "todo" / "0" / f".withdrawn.{waiting.name}")
    Path("go").touch()
    assert by_name(pools.attach(run))["2"].wait_return(40) == 2


def test_a_claim_that_was_seized_is_judged_again_if_the_journal_does_not_say_why() -> None:
    body = 'pool.add_task("t", functions.touch_and_wait, "mark", "go", 3)\nwhile not os.path.exists("mark"): time.sleep(0.01)'
    run = run_and_die("local", body)
    (claim,) = (run / "claimed").glob("*/0*")
    claim.rename(claim.with_name(f".seized.{claim.name}"))
    for process in workers(run):
        process.kill()
    Path("go").touch()
    assert by_name(pools.attach(run))["t"].wait_return(40) == 3


def pretend(run: Path, age: float, **facts: Any) -> None:
    """Have the run's lease say something else, and be that many seconds old."""
    file = run / "holder"
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))
    os.utime(file, (time.time() - age, time.time() - age))


def test_a_holder_on_another_machine_is_dead_after_a_minute_without_a_sign_of_life(dead_run: Path) -> None:
    pretend(dead_run, 30, place="another machine", host="login2")
    with pytest.raises(
        pools.RunBusyError, match=r"on login2: it gave a sign of life 3\d s ago; if it is dead, try again"
    ) as caught:
        pools.attach(dead_run)
    assert (caught.value.host, caught.value.run) == ("login2", str(dead_run))
    pretend(dead_run, 80)
    assert len(pools.attach(dead_run).tasks) == 2


def test_a_process_that_has_got_the_holders_id_since_is_not_the_holder(dead_run: Path) -> None:
    pretend(dead_run, 0, pid=os.getpid())
    assert len(pools.attach(dead_run).tasks) == 2


@pytest.mark.parametrize("number", [38, 37])  # ENOSYS, ENOLCK
def test_a_filesystem_without_locks_will_do(dead_run: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    pool = pools.attach(dead_run)
    assert pool.add_task("new", functions.add, 5).wait_return(40) == 6
    with pytest.raises(pools.RunBusyError, match=f"held by process {os.getpid()}"):
        lease.Lease(Folder(dead_run)).take()


def test_of_two_that_find_a_dead_holder_one_gets_the_run(dead_run: Path) -> None:
    folders = [Folder(dead_run) for _ in range(8)]
    leases = [lease.Lease(folder) for folder in folders]
    got: list[bool] = []
    barrier = threading.Barrier(len(leases))

    def take(one: lease.Lease) -> None:
        barrier.wait()
        try:
            one.take()
        except pools.RunBusyError:
            got.append(False)
        else:
            got.append(True)

    threads = [threading.Thread(target=take, args=(one,)) for one in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]
    for one, folder in zip(leases, folders, strict=True):
        one.release()
        folder.close()
    assert not (dead_run / "holder").exists()


def test_who_has_lost_the_run_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED", 0.0)
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    task = pool.add_task("running", functions.touch_and_wait, "mark", "go")
    until(Path("mark").exists, "the task does not start", 40)
    assert pool.folder is not None
    pretend(pool.folder, 0, token="another", host="login2", place="another machine")
    with pytest.raises(pools.RunBusyError, match="on login2"):
        task.wait_return(20)
    with pytest.raises(pools.RunBusyError, match="on login2"):
        pool.add_task("late", functions.add, 1)
    pool.shutdown()
    assert (pool.folder / "holder").exists()
    assert "closed" not in [entry["t"] for entry in journal(pool.folder)]
    pretend(pool.folder, 100)
    Path("go").touch()
    by_name(pools.attach("work"))["running"].wait_return(40)


def test_a_run_is_held_while_its_jobs_are_ended_and_left_alone_if_it_is_lost_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "RENEWED", 0.0)
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    assert pool.add_task("done", functions.add, 1).wait_return(40) == 2
    run, end = pool.folder, Supply.end
    assert run is not None
    ages: list[float] = []

    def take_long(supply: Supply, collect: Callable[[], object], **how: bool) -> None:
        os.utime(run / "holder", (0, 0))
        end(supply, collect, **how)
        ages.append(time.time() - (run / "holder").stat().st_mtime)
        pretend(run, 0, token="another", host="login2", place="another machine")

    monkeypatch.setattr(Supply, "end", take_long)
    pool.shutdown()
    assert ages[0] < 60
    assert (run / "holder").exists()
    assert "closed" not in [entry["t"] for entry in journal(run)]
    assert "held by process" in caplog.text


@pytest.mark.parametrize("before", ["end", "_stop_workers"])
def test_jobs_of_a_run_that_is_lost_while_it_is_closed_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: str
) -> None:
    monkeypatch.setattr(lease, "RENEWED", 0.0)
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    task = pool.add_task("running", functions.touch_and_wait, "mark", "go")
    until(Path("mark").exists, "the task does not start", 40)
    run = pool.folder
    assert run is not None
    step = getattr(Supply, before)

    def lose(ending: Supply, *how: Any, **more: Any) -> None:
        pretend(run, 0, token="another", host="login2", place="another machine")
        step(ending, *how, **more)

    monkeypatch.setattr(Supply, before, lose)
    pool.abandon()
    with pytest.raises(CancelledError):
        task.wait_return(20)
    assert "held by process" in caplog.text
    assert "were cancelled" not in caplog.text
    pretend(run, 100)
    Path("mark").unlink()
    Path("go").touch()
    by_name(pools.attach("work"))["running"].wait_return(40)
    assert not Path("mark").exists()  # it was not run again


def test_a_cancelled_task_does_not_run_though_the_script_died_before_its_call_was_removed() -> None:
    run = run_and_die(
        "local",
        """
        running = [pool.add_task(f"running {n}", functions.touch_and_wait, f"mark{n}", "go") for n in range(2)]
        while not (os.path.exists("mark0") and os.path.exists("mark1")):
            time.sleep(0.01)
        pool._run.spool.drop = lambda *how, **more: os.kill(os.getpid(), signal.SIGKILL)
        pool.add_task("cancelled", functions.touch, "ran").cancel()
        """,
    )
    pool = pools.attach(run)
    assert by_name(pool)["cancelled"].cancelled()
    assert not list((run / "todo" / "0").glob(".withdrawn.*"))
    Path("go").touch()
    pool.wait_completion()
    assert pool.add_task("new", functions.add, 1).wait_return(40) == 2
    assert not Path("ran").exists()


def test_an_outcome_that_is_gone_is_an_error_of_its_task_alone() -> None:
    run = run_and_die(
        "local",
        """
        pool.add_task("large", bytes, 100_000).wait_return(40)
        pool.add_task("small", functions.add, 1).wait_return(40)
        """,
    )
    (large,) = (run / "packs").glob("0*/*")
    large.unlink()
    tasks = by_name(pools.attach(run))
    assert tasks["small"].wait_return(10) == 2
    with pytest.raises(pools.SpoolError, match=f"task 'large' of run {run.name} has ended, but its outcome cannot be read"):
        tasks["large"].wait_return(10)


def test_a_run_that_could_not_be_taken_over_is_let_go(dead_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(adopting, "_places", lambda *how: os.environ["STRANGE"])
        with pytest.raises(KeyError, match="STRANGE"):
            pools.attach(dead_run)
    assert sorted(by_name(pools.attach(dead_run))) == ["0", "1"]


def test_a_run_that_is_refused_leaves_nothing_open(dead_run: Path) -> None:
    facts = json.loads((dead_run / "run.json").read_text())
    pretend(dead_run, 0, place="another machine")
    for python, error in ((facts["python"], pools.RunBusyError), ("3.9", pools.PythonMismatchError)):
        (dead_run / "run.json").write_text(json.dumps({**facts, "python": python}))
        for _ in range(2):
            before = os.listdir("/proc/self/fd")
            with pytest.raises(error):
                ClusterPool.of_run(dead_run)
        assert len(os.listdir("/proc/self/fd")) == len(before)  # (the first time modules may be imported)


def test_a_run_that_cannot_be_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "describe", lambda self, facts: (_ for _ in ()).throw(pools.SpoolError("no room")))
        with pytest.raises(pools.SpoolError, match="no room"):
            pool.add_task("t", functions.add, 1)
    assert not list((tmp_path / "runs").iterdir())
    assert pool.add_task("t", functions.add, 1).wait_return(40) == 2


@pytest.mark.parametrize(("place", "step"), [(Spool, "publish"), (Watcher, "expect")])
def test_what_was_taken_back_leaves_no_call(monkeypatch: pytest.MonkeyPatch, place: type[Any], step: str) -> None:
    pool = pools.GetClusterPool("work", 1, executor="local", folder="runs")
    parent = pool.add_task("parent", functions.touch_and_wait, "mark", "go", 1)
    until(Path("mark").exists, "the task does not start", 40)
    held = pool.add_task("held", functions.add, parent)
    assert held.cancel()
    real = getattr(place, step)

    def interrupted(*call: Any) -> None:
        real(*call)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.add_task("interrupted", functions.add, 1)
    assert pool.folder is not None
    assert not [path for name in ("held", "todo") for path in (pool.folder / name).rglob("*") if path.is_file()]
    assert pool._run is not None
    assert len(pool._run.watcher.ledger) == 1
    Path("go").touch()
    pool.shutdown()
    with pytest.raises(pools.PoolClosedError, match="'work' was shut down"):
        pool.share(1)


def test_another_python_is_refused(dead_run: Path) -> None:
    facts = json.loads((dead_run / "run.json").read_text())
    (dead_run / "run.json").write_text(json.dumps({**facts, "python": "3.9"}))
    with pytest.raises(pools.PythonMismatchError, match=r"begun with Python 3\.9, and this is 3\."):
        pools.attach(dead_run)


def test_a_run_of_another_version_is_refused(dead_run: Path) -> None:
    facts = json.loads((dead_run / "run.json").read_text())
    (dead_run / "run.json").write_text(json.dumps({**facts, "format": 1}))
    with pytest.raises(pools.PoolError, match="begun with another version of nornir_pools"):
        pools.attach(dead_run)


def test_local_jobs_of_another_machine_are_refused(dead_run: Path) -> None:
    facts = json.loads((dead_run / "run.json").read_text())
    (dead_run / "run.json").write_text(json.dumps({**facts, "host": "login2"}))
    with pytest.raises(pools.PoolError, match="processes of the machine login2: attach to it there"):
        pools.attach(dead_run)


def test_another_run_under_a_name_that_is_open_here_is_refused(dead_run: Path) -> None:
    pools.GetClusterPool("work", 1, executor="local", folder="runs")
    with pytest.raises(pools.PoolKindError, match="a pool 'work' is open in this process"):
        pools.attach(dead_run)
