"""Getting a pool by its name, or making it as it was asked for."""

from __future__ import annotations

from typing import Any, TypeVar

from . import registry, settings
from .base import PoolBase
from .hosts import default_workers

__all__ = ["get_pool", "limited"]

_P = TypeVar("_P", bound=PoolBase)


def get_pool(name: str, kind: type[_P], num_threads: int | None, **given: Any) -> _P:
    """The pool of that name, made with what is `given` (None, and no arguments, are as if they were not).

    Raises PoolKindError if it is of another kind, or was made with something else.
    """
    if "initargs" in given:
        given["initargs"] = tuple(given["initargs"])
    given = {option: value for option, value in given.items() if value is not None and value != ()}
    pool = registry.get(name, kind, lambda: kind(name, num_threads, **given))
    pool.check_same_options(given)
    return pool


def limited(num_threads: int | None) -> int | None:
    """What a pool of worker processes gets: the number asked for, or of CPUs, within the limit on both."""
    return settings.limit_threads(default_workers() if num_threads is None else num_threads)
