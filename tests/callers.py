"""What the callers of the conformance suite have their pools run. Jobs import it, so it imports little."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["Locked", "Pair", "Registrar", "Tile"]


class Tile:
    """A task's object, with a method, a class method and a static method that pools are given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.offset: float | None = None

    def measure(self) -> float:
        self.offset = self.number / 2
        return self.offset

    @classmethod
    def named(cls, name: str) -> int:
        return cls(int(name)).number

    @staticmethod
    def area(width: int, height: int) -> int:
        return width * height


class Pair:
    """Two that are compared."""

    def __init__(self, a: int, b: int) -> None:
        self.a, self.b = a, b


class Registrar:
    """An object whose statistics travel with every task; its result is an object as well."""

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Registrar) and self.mean == other.mean

    __hash__ = None  # type: ignore[assignment]


class Locked:
    """What only a pool of this process can be given."""

    def __init__(self) -> None:
        self.changes: list[int] = []

    def change(self, value: int) -> None:
        self.changes.append(value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("is this process's own")


def shrink(source: str, target: str, broken: bool = False) -> None:
    """Make a file from a file."""
    if broken:
        raise OSError(f"cannot read {source}")
    Path(target).write_text(Path(source).read_text()[:4])


def brute(image: Any, statistics: Registrar, angle: float) -> Registrar:
    return Registrar(float(image.mean()) + statistics.mean + angle)


def assemble(*, transform: int, imagefullpath: str, folder: str) -> str:
    """Leave an image in a file, and return where."""
    path = Path(folder) / f"{transform}.out"
    path.write_text(f"{Path(imagefullpath).name} {transform}")
    return str(path)


def add_up(image: Any, region: tuple[int, int]) -> float:
    return float(image[region[0] : region[1]].sum())


def offset(pair: Pair, error: type[BaseException] | None = None) -> int:
    if error is not None:
        raise error(f"no overlap of {pair.a} and {pair.b}")
    return pair.b - pair.a


def __hidden(value: int) -> int:
    """A name that a class would mangle."""
    return value + 1


def hidden(value: int) -> Any:
    return globals()["__hidden"], value


def load(number: int, error: type[BaseException] | None = None) -> str:
    if error is not None:
        raise error(f"no volume {number}")
    return f"<volume {number}/>"


def sizes_of(array: Any) -> int:
    return int(array.nbytes)


def transform_all(transforms: list[int]) -> list[int]:
    if len(transforms) > 3:
        raise ValueError("too many")
    return [2 * transform for transform in transforms]


def can_be_read(path: str) -> bool:
    time.sleep(0.01)
    return os.path.exists(path)


def warp(values: list[int]) -> list[int]:
    """A task that uses pools itself, as those do that an image is warped in."""
    import nornir_pools as pools

    threads = pools.GetGlobalThreadPool()
    halves = [threads.add_task("half", sorted, part) for part in (values[:2], values[2:])]
    workers = pools.GetMultithreadingPool("inside", 1)
    doubled = workers.add_task("double", transform_all, [max(half.wait_return()) for half in halves])
    return list(doubled.wait_return())
