"""What a pool's tasks run on."""

from __future__ import annotations

import enum

__all__ = ["PoolKind"]


class PoolKind(enum.Enum):
    """What a pool's tasks run on; the lifecycle functions go by it."""

    THREAD = "thread"
    PROCESS = "process"
