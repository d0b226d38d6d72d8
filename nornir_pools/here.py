"""What the current thread, and process, is doing: which pools it works for, and whether it runs callbacks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import PoolBase

__all__ = ["here"]


class _Here(threading.local):
    pools: frozenset[PoolBase] = frozenset()  # that it works for
    callbacks = 0  # that it is inside of
    job = False  # whether it belongs to a process that runs tasks in a cluster's job


here = _Here()
