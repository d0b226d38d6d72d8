"""Shell commands, at most `num_threads` at once."""

from __future__ import annotations

from ..poolbase import LocalThreadPoolBase

__all__ = ["CommandPool"]


class CommandPool(LocalThreadPoolBase):
    """Runs shell commands. Each has a thread that waits for it; calls run in such a thread as well."""
