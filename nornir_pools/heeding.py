"""The options that pools of this machine heed: few of those that a cluster pool has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import OptionError
from .options import check_names, check_value

__all__ = ["check_here", "check_limits"]


def check_limits(options: Mapping[str, Any]) -> None:
    """Raise OptionError for a wrong value among options that a pool of this machine heeds."""
    for name, value in options.items():
        if value is not None:
            check_value(name, value)


def check_here(options: Mapping[str, Any], pool: str, *, ends_tasks: bool) -> None:
    """Check the options of a task of a pool of this machine, which takes all and heeds but one: `task_timeout`.

    Raises OptionError for a name that is no option, and for a limit that nothing could enforce.
    """
    check_names(options)
    timeout = options.get("task_timeout")
    if timeout is None:
        return
    check_value("task_timeout", timeout)
    if not ends_tasks:
        raise OptionError(
            f"pool {pool!r} cannot see to task_timeout={timeout!r}: its tasks run in threads of this program, which nothing "
            "can end from outside; use GetMultithreadingPool, GetLocalMachinePool or GetClusterPool, or for a command the "
            "argument timeout= of add_process"
        )
