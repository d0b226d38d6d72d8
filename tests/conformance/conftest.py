"""The pool is a parameter: every test runs on each pool that has the capabilities it asks for with ``@needs``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nornir_pools.base import PoolBase

from ..backends import BACKENDS, Backend
from ..conftest import until
from ..lab import Slurm


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each capable backend: what a pool is not meant to do is not a skip."""
    if "backend" not in metafunc.fixturenames:
        return
    needed = {name for mark in metafunc.definition.iter_markers("needs") for name in mark.args}
    metafunc.parametrize(
        "backend",
        [
            pytest.param(backend, id=backend.name, marks=[pytest.mark.slurm] if backend.slurm else [])
            for backend in BACKENDS
            if needed <= backend.capabilities
        ],
    )


@pytest.fixture
def make(backend: Backend, request: pytest.FixtureRequest) -> Iterator[Callable[..., PoolBase]]:
    """Makes a pool with two workers; when the test is over it is shut down, and has left no job."""
    slurm: Slurm | None = request.getfixturevalue("slurm") if backend.slurm else None
    made: list[PoolBase] = []

    def make(**given: Any) -> PoolBase:
        made.append(backend.get("conformance", 2, **given))
        return made[-1]

    yield make
    if slurm is not None:
        for pool in made:
            pool.shutdown()
        until(lambda: not slurm.jobs(), "jobs are left")


@pytest.fixture
def pool(make: Callable[..., PoolBase]) -> PoolBase:
    """Such a pool."""
    return make()
