"""Memory and time as people write them, and as the command line writes them."""

from __future__ import annotations

import time

import pytest
import typer

from nornir_pools.cli.amounts import gigabytes, minutes
from nornir_pools.cli.clearing import seconds_of
from nornir_pools.cli.output import age, duration, memory, short
from nornir_pools.cluster.plan import minutes_of


@pytest.mark.parametrize(
    ("text", "expected"), [("4G", 4), ("500M", 0.5), ("1.5t", 1500), ("2", 2), ("700MB", 0.7), ("3 GiB", 3)]
)
def test_amounts_of_memory(text: str, expected: float) -> None:
    assert gigabytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("45m", 45), ("2h", 120), ("1d", 1440), ("30s", 1), ("1:30:00", 90), ("10:30", 11), ("2-12:00", 3600)],
)
def test_time_limits(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "soon", "1:2:3:4", "-5"])
def test_what_is_no_amount_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for parse in (gigabytes, minutes):
        with pytest.raises(typer.Exit) as caught:
            parse(text)
        assert caught.value.exit_code == 2
    assert "write it as 4G" in capsys.readouterr().err


def test_ages() -> None:
    assert [seconds_of(text) for text in ("14d", "12h", "30m", "90s", "2")] == [1209600, 43200, 1800, 90, 172800]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 30), ("30:00", 30), ("1:30:00", 90), ("2-0", 2880), ("2-12:30", 3630), ("UNLIMITED", None), ("infinite", None)],
)
def test_slurms_times(text: str, expected: float | None) -> None:
    assert minutes_of(text) == expected


def test_amounts_are_written_to_be_compared() -> None:
    seconds = [0.04, 9.96, 59.4, 65, 7260, 90000, None]
    assert [duration(one) for one in seconds] == ["0.0s", "10s", "59s", "1m05s", "2h01m", "1d1h", "-"]
    assert [memory(one) for one in (999, 1500, 16e6, 2.5e9, 3e13, None)] == [
        "999 B",
        "1.5 kB",
        "16 MB",
        "2.5 GB",
        "30.0 TB",
        "-",
    ]
    assert age(time.time() - 65) == "1m05s ago"
    assert short("a\n b", 3) == "a b"
    assert short("\x1b[2J\udc80") == "?[2J?"
    assert short("abcdef", 4) == "abc…"
