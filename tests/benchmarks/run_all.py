"""All benchmarks for pytest, which collects this file only if it is named: ``pytest -s tests/benchmarks/run_all.py``."""

from __future__ import annotations

import pytest

from .__main__ import NAMES, main

ON_SLURM = ("cluster", "politeness")


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slurm] * (name in ON_SLURM)) for name in NAMES])
def test_benchmark(name: str, request: pytest.FixtureRequest) -> None:
    if name in ON_SLURM:
        request.getfixturevalue("slurm")
    assert main([name]) == 0
