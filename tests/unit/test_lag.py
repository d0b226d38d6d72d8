"""The visibility lag of a run, and the grace that follows from it."""

from __future__ import annotations

import pytest

from nornir_pools.cluster import lag as lags
from nornir_pools.cluster.lag import Lag


def lag_of(*listings: tuple[float, list[str]], files: dict[str, float], ahead: float = 0.0) -> Lag:
    """A lag after these listings, each of whose names is read once, right after the first listing that shows it."""
    lag = Lag()
    lag.note_clock(ahead, 0.0)
    read: set[str] = set()
    for begun, names in listings:
        lag.note_listing(begun, names)
        for name in set(names) - read:
            lag.note_file(name, files[name])
        read |= set(names)
    return lag


def test_nothing_is_known_before_the_second_listing() -> None:
    assert Lag().longest == 0.0
    assert lag_of((100.0, ["a"]), files={"a": 10.0}).longest == 0.0
    assert Lag().grace == lags.GRACE


def test_a_file_that_is_newer_than_the_listing_before_is_not_late() -> None:
    assert lag_of((100.0, []), (101.0, ["a"]), files={"a": 100.5}).longest == 0.0


def test_a_file_is_late_by_the_time_from_its_rename_to_the_listing_that_did_not_show_it() -> None:
    assert lag_of((100.0, []), (110.0, []), (120.0, ["a"]), files={"a": 95.0}).longest == 15.0


def test_the_file_servers_clock_counts() -> None:
    assert lag_of((100.0, []), (101.0, ["a"]), files={"a": 1100.5}, ahead=1000.0).longest == 0.0
    assert lag_of((100.0, []), (101.0, ["a"]), files={"a": 1090.0}, ahead=1000.0).longest == 10.0


def test_a_file_that_was_shown_already_and_could_not_be_read_then_is_not_late() -> None:
    lag = Lag()
    for begun in (100.0, 110.0, 120.0):
        lag.note_listing(begun, ["a"])
    lag.note_file("a", 99.0)
    assert lag.longest == 0.0


def test_the_longest_lag_of_the_run_counts() -> None:
    files = {"a": 98.0, "b": 104.0, "c": 112.0}
    assert lag_of((100.0, []), (105.0, ["a"]), (110.0, ["b"]), (115.0, ["c"]), files=files).longest == 2.0


@pytest.mark.parametrize(("longest", "grace"), [(0.0, 3.0), (0.99, 3.0), (2.0, 6.0), (10.0, 30.0), (25.0, 75.0), (60.0, 75.0)])
def test_the_grace_is_three_times_the_lag_within_limits(longest: float, grace: float) -> None:
    lag = Lag()
    lag.longest = longest
    assert lag.grace == grace
