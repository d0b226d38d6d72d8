"""Memory and time as people write them."""

from __future__ import annotations

import math
import re

from .output import fail

__all__ = ["gigabytes", "job_options", "minutes"]

_BYTES = {"": 1.0, "K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3}
_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}


def gigabytes(text: str) -> float:
    """Gigabytes from 4G, 500M, 1.5T or a bare number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        fail(f"--mem {text!r} is no amount of memory: write it as 4G or 500M")
    return round(float(match[1]) * _BYTES[match[2].upper()], 6)


def minutes(text: str) -> int:
    """Minutes, rounded up, from 90 (minutes), 30s, 45m, 2h, 1d, or as SLURM has it: 1:30:00, 2-12:00."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip()):
        found = float(match[1]) * _MINUTES[match[2] or "m"]
    elif match := re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip()):
        days, first, second, third = (int(part or 0) for part in match.groups())
        if match[1] is not None:
            found = days * 1440 + first * 60 + second + third / 60
        else:
            found = first * 60 + second + third / 60 if match[4] is not None else first + second / 60
    else:
        found = 0
    if not found:
        fail(f"--time {text!r} is no time limit: write it as 30 (minutes), 2h, 1d or 1:30:00")
    return math.ceil(found)


def job_options(mem: str, time: str) -> dict[str, float]:
    """The job options for what was given of them."""
    options: dict[str, float] = {}
    if mem:
        options["mem_gb"] = gigabytes(mem)
    if time:
        options["timeout_min"] = minutes(time)
    return options
