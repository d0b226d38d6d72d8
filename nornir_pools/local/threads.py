"""Calls on threads of this process."""

from __future__ import annotations

from ..poolbase import LocalThreadPoolBase

__all__ = ["ThreadPool"]


class ThreadPool(LocalThreadPoolBase):
    """Runs calls on threads: nothing is pickled, and tasks may change the caller's objects."""
