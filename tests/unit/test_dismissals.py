"""Letting go of jobs that nobody needs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nornir_pools.cluster import dismissals
from nornir_pools.cluster.jobs import Group, Job
from nornir_pools.options import Options


def test_waiting_jobs_are_cancelled_ten_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cancelled = SimpleNamespace(now=1000.0), list[list[str]]()
    monkeypatch.setattr(dismissals, "time", SimpleNamespace(monotonic=lambda: clock.now))
    ledger: Any = SimpleNamespace(failures=SimpleNamespace(error=None))
    spool: Any = None
    letting_go = dismissals.Dismissals(spool, ledger, {}, cancelled.append)
    group = Group(0, Options())
    for clock.now in (1000.0, 1001.0, 1009.9, 1010.0):
        letting_go.dismiss(group, [Job(f"7_{clock.now}", 0)])
    assert cancelled == [["7_1000.0"], ["7_1010.0"]]
