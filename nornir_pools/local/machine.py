"""This machine: calls on worker processes, commands as processes of their own."""

from __future__ import annotations

from .processes import ProcessPool

__all__ = ["LocalMachinePool"]


class LocalMachinePool(ProcessPool):
    """Takes calls and commands, at most `num_threads` of them at once."""
