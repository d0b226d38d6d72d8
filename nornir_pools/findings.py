"""What an examination of this place finds, one finding at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OK", "PROBLEM", "WARNING", "Finding"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What was looked at, in a word or two."""
    verdict: str
    """"ok", "warning" (it works, but), or "problem" (runs fail for it)."""
    words: str
    """What was found."""
    advice: str = ""
    """What to do next; "" if there is nothing to do."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of a pool that follow from it, as they may stand in a ``nornir_pools.toml``."""
