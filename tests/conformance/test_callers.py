"""What upstream's callers do with pools: one test for each of the needs that were found in their code, numbered as these are.

A test does what the caller does: its arguments, the attributes it sets on tasks, its loops, the order of its calls, and the
exceptions it expects. It runs on each pool that has what the caller needs; callers that mutate their own objects, or wait for
tasks of the same pool inside of a task, are thread pools' (as upstream).
"""

from __future__ import annotations

import gc
import os
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nornir_pools as pools
from nornir_pools import IPool, Task
from nornir_pools.base import PoolBase

from .. import callers, functions
from ..backends import Backend
from ..callers import Locked, Pair, Registrar, Tile
from ..conftest import until

SECONDS = 40.0


def look_until_done(tasks: list[Any]) -> None:
    """Poll `iscompleted` of all of them, as callers do, until each is over."""
    until(lambda: all(task.iscompleted for task in tasks), "they are never done", SECONDS)


def test_01_tasks_with_a_returncode_are_read_and_the_others_waited_for(pool: PoolBase, tmp_path: Path) -> None:
    """A caller deletes the input of a task whose `returncode` is above 0, reading it without having waited."""
    inputs = [tmp_path / f"{number}.png" for number in range(4)]
    for path in inputs:
        path.write_text("an image")
    good, bad, missing = (
        pool.add_process("good", f"sleep 0.2; cp {inputs[0]} {tmp_path}/0.out && exit"),
        pool.add_process("bad", "sleep 0.2; exit 2"),
        pool.add_process("missing", "no_such_program_zz x.png"),
    )
    called: Any = pool.add_task("shrink", callers.shrink, str(inputs[3]), str(tmp_path / "3.out"))
    for task, path in zip((good, bad, missing, called), inputs, strict=True):
        if hasattr(task, "returncode"):
            if task.returncode > 0:
                path.unlink()
        else:
            task.wait()
    assert [path.exists() for path in inputs] == [True, False, False, True]
    assert (tmp_path / "3.out").read_text() == "an i"


@pytest.mark.needs("survives")
def test_01_the_death_of_a_worker_is_never_a_returncode(pool: PoolBase, tmp_path: Path) -> None:
    image = tmp_path / "0.png"
    image.write_text("an image")
    task: Any = pool.with_options(retries=0).add_task("shrink", functions.die, "SIGKILL")
    if hasattr(task, "returncode"):
        image.unlink()
    with pytest.raises(pools.WorkerDiedError):
        task.wait()
    assert image.exists()


def test_02_any_exception_of_wait_has_the_image_looked_at(pool: PoolBase, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_text("an image")
    tasks = [
        pool.add_task(f"{broken}", callers.shrink, str(tmp_path / "0.png"), str(tmp_path / f"{broken}.out"), broken)
        for broken in (False, True)
    ]
    checked = []
    for task in tasks:
        try:
            task.wait()
        except Exception as error:  # an infrastructure's failure would be another class
            checked.append((task.name, type(error), str(error)))
    assert checked == [("True", OSError, f"cannot read {tmp_path}/0.png")]


def test_03_statuses_are_read_after_wait_completion_without_a_wait(pool: PoolBase, tmp_path: Path) -> None:
    """The cluster's one live caller: a command for every tile, then `returncode == 0` of each."""
    tasks = []
    for number in range(40):
        name = "no_such_magick_zz" if number % 10 == 3 else "echo"
        tasks.append(pool.add_process(f"{number}.png", f"{name} {number}.png {number}.jpg", shell=True))
    pool.wait_completion()
    assert [number for number, task in enumerate(tasks) if task.returncode != 0] == [3, 13, 23, 33]


def test_03_statuses_are_read_at_once(pool: PoolBase) -> None:
    """With Async=True nothing is waited for: upstream's 0 of a command that still ran let the others be lost."""
    tasks = [pool.add_process(f"{status}", f"sleep 0.1; exit {status}") for status in (0, 1)]
    assert [task.returncode for task in tasks] == [0, 1]


def test_04_polled_every_16_submits_and_deleted_while_others_run(pool: PoolBase, tmp_path: Path) -> None:
    memmap = np.memmap(tmp_path / "image.npy", dtype=np.float64, mode="w+", shape=(1000,))
    memmap[:] = 2.0
    image, statistics = np.array(memmap), Registrar(0.5)
    running: list[Any] = []
    best: list[Registrar] = []
    slowest = 0.0

    def collect() -> None:
        nonlocal slowest
        for number in range(len(running) - 1, -1, -1):
            before = time.perf_counter()
            done = running[number].iscompleted
            slowest = max(slowest, time.perf_counter() - before)
            if done:
                best.append(running[number].wait_return())
                del running[number]

    for number in range(48):
        running.append(pool.add_task("align", callers.brute, image, statistics, angle=float(number)))
        if number % 16 == 15:
            collect()
    end = time.monotonic() + SECONDS
    while running:
        assert time.monotonic() < end
        collect()
        time.sleep(0.02)
    pool.wait_completion()
    del memmap
    (tmp_path / "image.npy").unlink()
    assert sorted(record.mean for record in best) == [2.5 + number for number in range(48)]
    assert slowest < 0.5  # no command of a scheduler is run for it


def test_05_keyword_only_calls_with_attributes_polled_backwards(pool: PoolBase, tmp_path: Path) -> None:
    tasks: list[Any] = []
    for number in range(60):
        task: Any = pool.add_task(
            f"Assemble {number}", callers.assemble, transform=number, imagefullpath=f"/tiles/{number}.png", folder=str(tmp_path)
        )
        task.transform = task.regionToRender = task.scaled_region = number
        tasks.append(task)
    found: dict[int, str] = {}
    end = time.monotonic() + SECONDS
    while tasks:
        assert time.monotonic() < end
        for index in range(len(tasks) - 1, -1, -1):
            if tasks[index].iscompleted:
                task = tasks.pop(index)
                found[task.transform] = Path(task.wait_return()).read_text()
        time.sleep(0.01)
    assert found == {number: f"{number}.png {number}" for number in range(60)}


def test_06_wait_completion_and_then_each_value(pool: PoolBase) -> None:
    image = np.arange(200_000.0)
    image.flags.writeable = False
    tasks = [pool.add_task("region", callers.add_up, image, (first, first + 1000)) for first in range(0, 20_000, 1000)]
    pool.wait_completion()
    assert [task.wait_return() for task in tasks] == [
        float(image[first : first + 1000].sum()) for first in range(0, 20_000, 1000)
    ]


def test_07_the_original_exception_is_handled_and_the_rest_goes_on(pool: PoolBase) -> None:
    errors = {3: FloatingPointError, 7: OSError}
    tasks: list[Any] = []
    for number in range(10):
        task: Any = pool.add_task(f"Align {number}", callers.offset, Pair(number, 2 * number), errors.get(number))
        task.tile_overlap, task.A, task.B, task.ID, task.coord, task.TargetROI = Pair(0, 1), 1, 2, number, (number, 0), None
        tasks.append(task)
    offsets, skipped = {}, []
    for task in tasks:
        try:
            offsets[task.ID] = task.wait_return()
        except (OSError, FloatingPointError) as error:
            skipped.append((task.coord, type(error), str(error)))
    pool.wait_completion()  # must not raise what was handled
    assert offsets == {number: number for number in range(10) if number not in errors}
    assert skipped == [((3, 0), FloatingPointError, "no overlap of 3 and 6"), ((7, 0), OSError, "no overlap of 7 and 14")]


def test_08_bound_methods_class_methods_builtins_and_classes(pool: PoolBase, tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    tile = Tile(5)
    measured = pool.add_task("method", tile.measure)
    calls: list[tuple[Any, tuple[Any, ...], Any]] = [
        (Tile.named, ("7",), 7),
        (Tile.area, (2, 3), 6),
        (os.path.basename, ("a/b",), "b"),
        (complex, (1, 2), 1 + 2j),
        callers.hidden(4) and (callers.hidden(4)[0], (4,), 5),
    ]
    tasks = [pool.add_task(str(func), func, *args) for func, args, _ in calls]
    removed = pool.add_task("remove", os.remove, str(tmp_path / "old"))
    assert measured.wait_return() == 2.5
    assert [task.wait_return() for task in tasks] == [value for _, _, value in calls]
    removed.wait()
    assert not (tmp_path / "old").exists()
    made = pool.add_task("class", Pair, 1, 2).wait_return()
    assert (type(made), made.a, made.b) == (Pair, 1, 2)


@pytest.mark.needs("crosses")
def test_09_pools_are_used_inside_of_tasks(pool: PoolBase) -> None:
    tasks = [pool.add_task("warp", callers.warp, [number, 1, 2, 3]) for number in range(4)]
    assert [task.wait_return(SECONDS) for task in tasks] == [[2 * max(number, 1), 6] for number in range(4)]


@pytest.mark.needs("nested")
def test_09_two_tasks_that_each_wait_for_a_third_of_their_pool(pool: PoolBase) -> None:
    """With two threads upstream stops for ever."""
    both = threading.Barrier(2)

    def coefficients(number: int) -> float:
        both.wait(SECONDS)
        return float(pool.add_task("solve", callers.offset, Pair(1, number)).wait_return())

    tasks = [pool.add_task("axis", coefficients, number) for number in (3, 4)]
    assert [task.wait_return(SECONDS) for task in tasks] == [2.0, 3.0]


@pytest.mark.needs("instant")
def test_10_a_separate_pool_by_name_and_the_errors_of_a_parser(pool: PoolBase, backend: Backend) -> None:
    linked: list[Any] = []
    other = backend.get("links", 2)
    assert other is not pool
    for number in range(6):
        task: Any = other.add_task(f"Load {number}", callers.load, number, {2: OSError, 4: ElementTree.ParseError}.get(number))
        task.link_node = f"node {number}"
        linked.append(task)
    loaded, failed = [], []
    for task in linked:
        try:
            loaded.append((task.link_node, ElementTree.fromstring("<a/>").tag, task.wait_return()))
        except OSError:
            failed.append(("missing", task.link_node))
        except ElementTree.ParseError:
            failed.append(("broken", task.link_node))
    assert len(loaded) == 4
    assert failed == [("missing", "node 2"), ("broken", "node 4")]


def test_11_back_pressure_by_the_pools_own_queue(pool: PoolBase) -> None:
    """Either attribute will do, and both are there."""
    first_of_row: Any = None
    for number in range(60):
        task = pool.add_process(f"{number}", f"echo {number}")
        first_of_row = first_of_row or task
        if hasattr(pool, "tasks"):
            if pool.tasks.qsize() > 16:
                first_of_row.wait()
                first_of_row = None
        elif hasattr(pool, "ActiveTasks") and pool.ActiveTasks > 32:
            first_of_row.wait()
            first_of_row = None
    assert isinstance(pool.ActiveTasks, int)
    pool.wait_completion()
    assert (pool.tasks.qsize(), pool.ActiveTasks) == (0, 0)


def test_12_commands_end_in_exit_and_are_told_by_their_output(
    pool: PoolBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "section 1").mkdir()
    monkeypatch.chdir(tmp_path / "section 1")
    monkeypatch.setenv("LEVEL", "4")
    Path("in put.txt").write_text("12.5\n")
    asked = pool.add_process("identify", 'cat "in put.txt"' + " && exit", shell=True)
    pool.add_process("convert", "cp 'in put.txt' \"out $LEVEL.txt\" && exit", shell=True)  # nobody keeps it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEVEL", "5")
    assert float(asked.wait_return()) == 12.5
    pools.WaitOnAllPools()
    assert (tmp_path / "section 1" / "out 4.txt").read_text() == "12.5\n"


def test_13_fire_and_forget_then_wait_on_all_pools(pool: PoolBase, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "0.png").write_text("an image")
    for number in range(20):
        pool.add_task(
            f"Convert {number}", callers.shrink, str(tmp_path / "0.png"), str(tmp_path / f"{number}.out"), number == 9
        )
    pools.WaitOnAllPools()
    assert len(list(tmp_path.glob("*.out"))) == 19
    assert ["OSError: cannot read" in message for message in caplog.messages if "nobody asked" in message] == [True]
    gc.collect()
    assert pool.num_active_tasks == len(pool.tasks) == 0  # nothing of them is kept


def test_14_pools_are_closed_in_the_middle_to_free_memory(pool: PoolBase, backend: Backend) -> None:
    held = pool
    assert held.add_task("before", callers.offset, Pair(1, 3)).wait_return() == 2
    pools.ClosePools()
    again = backend.get("conformance", 2)
    assert again is not held
    assert again.add_task("after", callers.offset, Pair(1, 4)).wait_return() == 3
    with pytest.raises(RuntimeError, match="conformance"):
        held.add_task("late", callers.offset, Pair(1, 5))
    held.wait_completion()
    held.shutdown()
    assert pools.dictKnownPools["conformance"] is again
    again.shutdown()


def test_15_a_named_pool_is_made_waited_for_and_shut_down_again_and_again(pool: PoolBase, backend: Backend) -> None:
    own = pool
    for round_ in range(3):
        own = backend.get("conformance", 2) if own.closed else own
        for number in range(3):
            own.add_task("cut", callers.offset, Pair(number, round_))
        own.wait_completion()
        own.shutdown()
        assert own.closed
        assert "conformance" not in pools.dictKnownPools


@pytest.mark.needs("in_process")
def test_16_the_serial_pool_is_another_pool(pool: PoolBase) -> None:
    """An error comes from the wait, where it is caught, and not from `add_task`; on every pool of this process."""
    tasks: list[Any] = []
    for number in range(4):
        task: Any = pool.add_task(f"Histogram {number}", callers.load, number, OSError if number == 2 else None)
        task.imagepath = f"{number}.png"
        tasks.append(task)
    missing = []
    for task in tasks:
        task_is_done = isinstance(task.iscompleted, bool)
        assert task_is_done
        try:
            task.wait()
            task.wait_return()
        except OSError:
            missing.append(task.imagepath)
    pool.wait_completion()
    pool.shutdown()
    assert missing == ["2.png"]


@pytest.mark.needs("bounded")
def test_17_large_arrays_are_bounded_by_a_queue_that_blocks(pool: PoolBase, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    blockers = [pool.add_task("block", functions.wait_for_file, go) for _ in range(2)]
    until(lambda: pool.tasks.qsize() == 0, "the workers do not begin")
    added: list[Any] = []

    def produce() -> None:
        for _ in range(100):
            added.append(pool.add_task("array", callers.sizes_of, np.ones(1000)))

    producer = threading.Thread(target=produce)
    producer.start()
    until(lambda: len(added) == 64, "not so many are taken")
    producer.join(0.2)
    assert (len(added), producer.is_alive()) == (64, True)  # 32 a thread
    Path(go).touch()
    producer.join(SECONDS)
    assert {task.wait_return() for task in added} == {8000}
    assert [blocker.wait_return() for blocker in blockers] == [None, None]


def test_18_a_bare_except_around_wait_return(pool: PoolBase) -> None:
    tasks = [pool.add_task("AddTransforms", callers.transform_all, list(range(count))) for count in (2, 5, 3)]
    added, failed = [], 0
    for task in tasks:
        try:
            added.append(task.wait_return())
        except:  # noqa: E722 - is what the caller has
            failed += 1
    assert (added, failed) == ([[0, 2], [0, 2, 4]], 1)


def test_19_values_are_compared_with_false_after_wait_completion(pool: PoolBase, tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    tasks = {name: pool.add_task(f"Check {name}", callers.can_be_read, str(tmp_path / name)) for name in ("0.png", "1.png")}
    pool.wait_completion()
    assert [name for name, task in tasks.items() if task.wait_return() == False] == ["1.png"]  # noqa: E712 - as the caller


def test_20_the_result_of_a_function_in_place_of_the_function_is_refused(pool: PoolBase) -> None:
    with pytest.raises(TypeError, match=r"'Invert'.*not callable"):
        pool.add_task("Invert", callers.offset(Pair(1, 2)))  # type: ignore[arg-type]
    pool.wait_completion()


@pytest.mark.needs("in_process")
def test_21_tasks_change_the_callers_own_objects(pool: PoolBase) -> None:
    mine = Locked()
    tasks = [pool.add_task("event", mine.change, number) for number in range(5)]
    pool.wait_completion()
    assert sorted(mine.changes) == [0, 1, 2, 3, 4]
    assert [task.wait_return() for task in tasks] == [None] * 5


def test_22_annotations_of_pools_and_tasks(pool: PoolBase) -> None:
    def refine(pool: IPool, tasks: list[Task]) -> IPool:
        return pool

    assert refine.__annotations__ == {"pool": "IPool", "tasks": "list[Task]", "return": "IPool"}
    assert isinstance(pool, pools.IPool)
    assert isinstance(pool.add_task("t", callers.offset, Pair(1, 2)), pools.Task)
    assert isinstance(pool, pools.poolbase.PoolBase)
    assert pools.task.Task is Task


def test_23_waited_for_more_than_once_also_after_wait_completion(pool: PoolBase) -> None:
    good, bad = pool.add_task("good", callers.offset, Pair(1, 2)), pool.add_task("bad", callers.offset, Pair(1, 2), OSError)
    good.wait()
    pool.wait_completion()
    for _ in range(3):
        good.wait()
        assert good.wait_return() == 1
        with pytest.raises(OSError, match="no overlap"):
            bad.wait()
        with pytest.raises(OSError, match="no overlap"):
            bad.wait_return()
    look_until_done([good, bad])
