"""Pools of worker processes: what is sent when, what a death costs, and that workers nest."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import weakref
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest

import nornir_pools as pools
from nornir_pools import ArgumentError, TaskExitError, WorkerDiedError
from nornir_pools.calls import dump_call
from nornir_pools.local.companion import Companion
from nornir_pools.local.pipe import Channel

from .. import functions
from ..conftest import until


def test_pool_without_tasks_has_no_workers_not_even_when_it_is_closed() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    pool = pools.GetMultithreadingPool("p", 2)
    assert pool.tasks.qsize() == 0
    pool.shutdown()
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_call_sees_the_values_of_the_moment_it_was_added() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    blocker = pool.add_task("b", functions.wait_for_file, str(Path("go").absolute()))
    values = [1]
    task = pool.add_task("t", functions.echo, values)
    values.append(2)
    Path("go").touch()
    assert task.wait_return() == (([1],), {})
    blocker.wait()


def test_arguments_are_let_go_once_they_are_sent() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    pool.add_task("b", functions.wait_for_file, str(Path("go").absolute()))
    counter = functions.Counter(1)
    watch = weakref.ref(counter)
    task = pool.add_task("t", counter.plus, 1)
    del counter
    gc.collect()
    assert watch() is None
    Path("go").touch()
    assert task.wait_return() == 2
    assert task._parts == ()


@pytest.mark.parametrize("what", [threading.Lock(), functions.RefusesToBeSent(), (n for n in range(3))])
def test_call_that_cannot_be_sent_is_refused_at_once_and_leaves_nothing(what: Any) -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    for args, kwargs in [((what,), {}), ((), {"a": what})]:
        with pytest.raises(ArgumentError, match="task 'mine' of pool 'p': the function or an argument cannot be sent"):
            pool.add_task("mine", functions.add, *args, **kwargs)
    assert isinstance(ArgumentError(), TypeError)
    assert (pool.num_active_tasks, pool.tasks.qsize(), len(pool.tasks)) == (0, 0, 0)
    assert pool.add_task("t", functions.add, 1).wait_return() == 2


def test_many_short_tasks_are_each_completed_however_threads_are_switched() -> None:
    pool = pools.GetMultithreadingPool("p", 2)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert [task.wait_return(20) for task in [pool.submit(abs, -n) for n in range(300)]] == list(range(300))
    finally:
        sys.setswitchinterval(interval)


def test_as_many_workers_are_used_as_there_may_be() -> None:
    pool = pools.GetMultithreadingPool("p", 3)
    here = Path.cwd()
    tasks = [pool.add_task("t", meet, str(here), n) for n in range(3)]
    assert len({task.wait_return() for task in tasks}) == 3
    assert len({task.wait_return() for task in [pool.submit(os.getpid) for _ in range(20)]}) <= 3


def meet(folder: str, number: int) -> int:
    Path(folder, f"here{number}").touch()
    for other in range(3):
        functions.wait_for_file(f"{folder}/here{other}")
    return os.getpid()


@pytest.mark.parametrize(("how", "words"), [("SIGKILL", "SIGKILL"), ("os._exit", "status 3"), ("segfault", "SIGSEGV")])
def test_death_of_a_worker_costs_only_the_task_it_ran(how: str, words: str) -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    first = pool.add_task("good", functions.process_id)
    bad, good = pool.add_task("bad", functions.die, how), pool.add_task("good", functions.process_id)
    with pytest.raises(WorkerDiedError, match=f"task 'bad' of pool 'p': the worker process .*{words}") as caught:
        bad.wait(10)
    assert caught.value.exitcode == {"SIGKILL": -9, "os._exit": 3, "segfault": -11}[how]
    assert good.wait_return() != first.wait_return()


def test_death_of_an_idle_worker_costs_nothing() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    worker = pool.add_task("t", functions.process_id).wait_return()
    os.kill(worker, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE, "it lives")
    assert pool.add_task("t", functions.process_id).wait_return(10) != worker


def test_child_that_a_dead_worker_leaves_does_not_hide_its_death(tmp_path: Path) -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    with pytest.raises(WorkerDiedError):
        pool.add_task("bad", functions.leave_child_and_die, str(tmp_path / "go")).wait(15)
    (tmp_path / "go").touch()


def test_worker_outlives_exit_and_interrupt_of_a_task() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    worker = pool.add_task("t", functions.process_id).wait_return()
    with pytest.raises(TaskExitError):
        pool.add_task("t", functions.exit_with, 3).wait()
    os.kill(worker, signal.SIGINT)  # as Ctrl-C of a terminal does, for the whole group
    assert pool.add_task("t", functions.process_id).wait_return() == worker


def test_threads_that_wait_for_one_worker_see_how_it_ended() -> None:
    for _ in range(10):
        companion = Companion("killed", dict(os.environ))
        barrier = threading.Barrier(4)

        def wait(companion: Companion = companion, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            companion.wait(5)

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        companion.process.kill()
        for thread in threads:
            thread.join()
        assert companion.end() == -signal.SIGKILL


def test_terminated_workers_fail_their_tasks_and_the_pool_goes_on() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    task = pool.add_task("t", functions.touch_and_wait, str(Path("started").absolute()), "never")
    until(Path("started").exists, "no start")
    pool.terminate_workers()
    with pytest.raises(WorkerDiedError, match="SIGTERM"):
        task.wait(10)
    assert pool.add_task("t", functions.add, 1).wait_return(10) == 2


def test_worker_starts_with_the_folder_and_environment_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    pools.GetMultithreadingPool("before", 1).add_task("t", functions.add, 1).wait()  # the fork server runs by now
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    monkeypatch.setenv("MARK", "m")
    got = pools.GetMultithreadingPool("p", 1).add_task("t", functions.surroundings, "MARK").wait_return()
    assert (got["cwd"], got["MARK"]) == (str(Path.cwd()), "m")


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_pools_can_be_used_inside_a_worker(kind: str) -> None:
    assert pools.GetMultithreadingPool("p", 1).add_task("t", functions.pool_inside, kind).wait_return(30) == 3


def test_pool_left_open_in_a_worker_ends_with_it() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    inner = pool.add_task("t", leave_pool_open).wait_return(30)
    pool.shutdown()
    until(lambda: not psutil.pid_exists(inner), "the inner worker lives on")


def leave_pool_open() -> Any:
    return pools.GetMultithreadingPool("inside", 1).add_task("t", functions.process_id).wait_return()


@pytest.mark.parametrize("sizes", [[], [0], [10, 0, 20], [1 << 16], [(1 << 16) + 1, 5], [3_000_000, 7, 100_000]])
def test_messages_through_the_pipe_arrive_whole(sizes: list[int]) -> None:
    ours, theirs = map(Channel, Pipe())
    parts = [os.urandom(size) for size in sizes]
    labels: list[Any] = [{"any": ["plain", 1]}, "second", ("third", 3)]
    sender = threading.Thread(target=theirs.send, args=([(label, parts) for label in labels],))
    sender.start()
    got = [ours.receive() for _ in labels]
    sender.join()
    assert [label for label, _ in got] == labels
    assert [[bytes(part) for part in received] for _, received in got] == [parts] * 3
    theirs.close()
    with pytest.raises((EOFError, OSError)):
        ours.receive()
    ours.close()


@pytest.mark.parametrize("cut", [3, 12, 70_000])
def test_message_that_breaks_off_is_no_message(cut: int) -> None:
    source, end = Pipe()
    sink = Channel(end)
    sender = threading.Thread(target=sink.send, args=([("label", [b"x" * 100_000])],))
    sender.start()
    written = b""
    while len(written) < 100_000:
        written += os.read(source.fileno(), 1 << 16)
    sender.join()
    ours, theirs = Pipe()
    os.write(theirs.fileno(), written[:cut])
    theirs.close()
    channel = Channel(ours)
    with pytest.raises(EOFError):
        channel.receive()
    for each in (channel, source, sink):
        each.close()


def test_short_tasks_behind_a_long_one_of_their_group_are_taken_back(tmp_path: Path) -> None:
    pool = pools.GetMultithreadingPool("p", 2)
    for task in [pool.submit(functions.add, i) for i in range(500)]:  # the pool learns that tasks are short
        task.result(30)
    go = str(tmp_path / "go")
    tasks = [pool.submit(functions.add, i) for i in range(300)]
    long = pool.submit(functions.wait_for_file, go, "long")
    tasks += [pool.submit(functions.add, i) for i in range(300)]
    assert [task.result(30) for task in tasks] == [*range(1, 301), *range(1, 301)]
    assert not long.done()
    Path(go).touch()
    assert long.result(30) == "long"


def test_tasks_behind_a_long_one_of_their_group_can_be_cancelled_and_it_can_be_ended(tmp_path: Path) -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    for task in [pool.submit(functions.add, i) for i in range(500)]:
        task.result(30)
    before = [pool.submit(functions.add, i) for i in range(300)]
    long = pool.submit(functions.touch_and_wait, str(tmp_path / "up"), str(tmp_path / "never"))
    behind = [pool.submit(functions.add, i) for i in range(200)]
    functions.wait_for_file(str(tmp_path / "up"))
    assert [task.result(30) for task in before] == list(range(1, 301))
    until(long.running, "it does not run")
    assert not any(task.running() for task in behind)
    assert all(task.cancel() for task in behind[::2])
    assert not long.cancel()
    assert pool.cancel(long, running=True)
    assert [task.result(30) for task in behind[1::2]] == list(range(2, 201, 2))


def test_a_worker_that_has_begun_nothing_keeps_one_task() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    companion = Companion("alone", dict(os.environ))
    os.kill(companion.process.pid, signal.SIGSTOP)  # it begins nothing while tasks are taken back
    tasks = [pools.Task(pool, str(i), functions.add, (i,), {}) for i in range(4)]
    companion.send([(task, dump_call(task)) for task in tasks])
    assert companion.take_back() == tasks[1:]
    assert companion.take_back() == []
    os.kill(companion.process.pid, signal.SIGCONT)
    answer = companion.receive()
    assert answer is not None
    assert answer[0] is tasks[0]
    assert companion.outstanding == 0
    assert companion.end() == 0


def test_the_tickets_are_not_closed_while_a_thread_takes_tasks_back() -> None:
    companion = Companion("ended", dict(os.environ))
    ending = threading.Thread(target=companion.end)
    with companion._lock:  # as `take_back` has it
        ending.start()
        ending.join(0.2)
        assert companion._unread is not None
        assert not companion._unread.closed
    ending.join()
    assert companion.take_back() == []


def test_a_death_in_a_group_costs_one_task_and_each_other_runs_once(tmp_path: Path) -> None:
    pool = pools.GetMultithreadingPool("p", 2)
    for task in [pool.submit(functions.add, i) for i in range(500)]:
        task.result(30)
    log = str(tmp_path / "log")
    tasks = [pool.submit(note, log, -1 if i % 100 == 50 else i) for i in range(600)]
    dead = [task for task in tasks if isinstance(task.exception(30), pools.WorkerDiedError)]
    assert len(dead) == 6
    lines = Path(log).read_text().split()
    assert sorted(map(int, lines)) == sorted(i for i in range(600) if i % 100 != 50)


def note(path: str, i: int) -> None:
    if i < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    with open(path, "a") as file:
        file.write(f"{i}\n")


def test_large_results_of_a_group_do_not_block_it() -> None:
    pool = pools.GetMultithreadingPool("p", 2)
    for task in [pool.submit(functions.add, i) for i in range(500)]:
        task.result(30)
    tasks = [pool.submit(multiply, "x" * 3_000, 100) for _ in range(300)]
    assert {len(task.result(30)) for task in tasks} == {300_000}


def multiply(text: str, times: int) -> str:
    return text * times


def test_workers_that_cannot_be_started_are_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Companion:
        raise OSError("AF_UNIX path too long")

    pool = pools.GetMultithreadingPool("p", 2)
    with monkeypatch.context() as patched:
        patched.setattr("nornir_pools.local.limited.Companion", refuse)
        tasks = [pool.add_task(str(i), functions.add, i) for i in range(4)]
        for task in tasks:
            with pytest.raises(WorkerDiedError, match=r"no worker process can be started.*TMPDIR"):
                task.wait_return(20)
    assert pool.add_task("later", functions.add, 1).wait_return(20) == 2


def test_a_callback_may_wait_for_a_task_that_was_sent_with_its_own() -> None:
    pool = pools.GetMultithreadingPool("p", 1)
    blocker = pool.submit(functions.wait_for_file, str(Path("go").absolute()))
    tasks = [pool.submit(abs, number) for number in range(200)]
    got: list[int] = []

    def wait_for_next(number: int) -> None:
        got.append(tasks[number + 1].result(10))

    for number in range(0, 200, 2):
        tasks[number].add_done_callback(functools.partial(lambda number, _: wait_for_next(number), number))
    Path("go").touch()
    blocker.wait()
    pool.wait_completion()
    assert sorted(got) == list(range(1, 200, 2))
