"""`map`: values in order, calls in groups, and what becomes of the rest when the consumer stops."""

from __future__ import annotations

import contextlib
import itertools
import operator
from pathlib import Path
from typing import Any

import pytest

from nornir_pools.base import PoolBase

from .. import functions
from ..backends import Backend
from ..functions import Busy

MANY = 100


def test_values_come_in_order_whatever_the_chunks(pool: PoolBase, backend: Backend) -> None:
    expected = list(map(pow, range(10), range(10)))
    assert list(pool.map(pow, range(10), range(12))) == expected
    grouped = "crosses" in backend.capabilities
    for size, tasks in ((3, 4), (9, 2), (10, 1), (50, 1)):
        before = pool._added
        assert list(pool.map(pow, range(10), range(10), chunksize=size, timeout=50)) == expected
        assert pool._added - before == (tasks if grouped else 10)  # a task for each chunk, where tasks go elsewhere
    view = pool.with_options(cpus_per_task=1)
    assert list(view.map(lambda x: x + MANY, range(4), chunksize=2)) == [100, 101, 102, 103]
    assert list(pool.map(pow, [], [1], chunksize=3)) == list(pool.map(pow)) == []
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="chunksize"):
            pool.map(pow, [1], [1], chunksize=wrong)
        with pytest.raises(ValueError, match="buffersize"):
            pool.map(pow, [1], [1], buffersize=wrong)
    with pytest.raises(TypeError, match="buffersize"):
        pool.map(pow, [1], [1], buffersize=2.0)  # type: ignore[arg-type]


def test_an_error_comes_in_its_place_and_ends_the_iteration(pool: PoolBase) -> None:
    values = pool.map(divmod, [5] * 4, [2, 3, 0, 5])
    assert [next(values), next(values)] == [(2, 1), (1, 2)]
    with pytest.raises(ZeroDivisionError):
        next(values)
    with pytest.raises(StopIteration):
        next(values)
    with pytest.raises(ZeroDivisionError):
        list(pool.map(divmod, [5] * 4, [2, 3, 0, 5], chunksize=2))
    in_time = pool.map(functions.fail, [TimeoutError], ["of the function"], timeout=50)
    with pytest.raises(TimeoutError, match=r"^of the function$"):
        next(in_time)

    def counted() -> Any:
        yield 1
        raise LookupError("of the iterable")

    with pytest.raises(LookupError, match="of the iterable"):
        pool.map(functions.add, counted())
    pool.wait_completion()
    assert pool.num_active_tasks == 0


def test_no_more_is_taken_from_the_iterables_than_the_buffer_holds(pool: PoolBase) -> None:
    for size in (1, 2, 4, 8):
        assert list(pool.map(operator.add, range(4), range(4), buffersize=size)) == [0, 2, 4, 6]
    assert list(pool.map(functions.add, range(7), buffersize=2, chunksize=2)) == [1, 2, 3, 4, 5, 6, 7]
    numbers = itertools.count()
    values = pool.map(functions.add, numbers, buffersize=2)
    assert next(numbers) == 2
    assert [next(values), next(values)] == [1, 2]
    assert next(numbers) == 5
    values.close()  # type: ignore[attr-defined]
    assert next(values, None) is None
    assert list(pool.map(functions.add, [], buffersize=2)) == []


def test_calls_are_made_though_nobody_takes_the_values(pool: PoolBase, tmp_path: Path) -> None:
    pool.map(functions.append_line, [str(tmp_path / "lines")] * 10, range(10))
    pool.map(functions.append_line, [str(tmp_path / "lines")] * 10, range(10, 20), chunksize=4)
    pool.shutdown()
    assert sorted(map(int, (tmp_path / "lines").read_text().split())) == list(range(20))


@pytest.mark.needs("cancel", "instant")  # (jobs take what waits in no order, so the first call might not be made)
@pytest.mark.parametrize("size", [1, 3])
def test_who_stops_early_cancels_what_is_left(pool: PoolBase, tmp_path: Path, size: int) -> None:
    busy = Busy(pool, tmp_path, workers=1)  # the other one makes the first calls, and then waits in one of the next

    def begin(number: int) -> Any:
        paths = [str(tmp_path)] * size + [str(tmp_path / f"go-{number}")] * size * 4
        return pool.map(functions.wait_for_file, paths, itertools.count(), chunksize=size)

    def leave_by_break(number: int) -> None:
        for value in begin(number):
            assert value == 0
            break

    def leave_by_error(number: int) -> None:
        for _ in begin(number):
            raise LookupError

    def leave_by_close(number: int) -> None:
        values = begin(number)
        assert next(values) == 0
        values.close()
        assert next(values, None) is None

    for number, leave in enumerate((leave_by_break, leave_by_error, leave_by_close)):
        before = set(pool.tasks)
        with contextlib.suppress(LookupError):
            leave(number)
        left = [task for task in pool.tasks if task not in before and not task.done()]
        assert len(left) <= 1  # what has begun goes on, and nothing waits
        assert not any(task.cancel() for task in left)
        (tmp_path / f"go-{number}").touch()
        for task in left:
            task.wait(50)
    busy.end()
    assert pool.submit(functions.add, 1).result(50) == 2


@pytest.mark.needs("cancel")
def test_time_that_is_up_cancels_what_is_left(pool: PoolBase, tmp_path: Path) -> None:
    busy = Busy(pool, tmp_path)
    for size, name in ((1, "touch"), (3, r"touch(\[0:3\])?")):
        before = set(pool.tasks)
        values = pool.map(functions.touch, ["touched"] * 6, chunksize=size, timeout=0.05)
        tasks = [task for task in pool.tasks if task not in before]
        with pytest.raises(TimeoutError, match=rf"map: task '{name}' of pool .* is not done after 0.05 s"):
            next(values)
        assert next(values, None) is None
        assert all(task.cancelled() for task in tasks)
    busy.end()
    pool.shutdown()
    assert not Path("touched").exists()
