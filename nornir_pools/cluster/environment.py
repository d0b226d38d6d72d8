"""Whether a task may have failed because of the node it ran on, rather than by its own doing."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable
from typing import Any

from ..errors import CommandStartError
from ..outcome import Outcome

__all__ = ["is_environments"]

# What a disk, a mount or a device says that is not there or does not work; not what a wrong path or a full disk says.
_ERRNOS = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.ENOTCONN})
_CANNOT_RUN = (126, 127)  # exit status of a shell: the command cannot be run, or is not there
_NO_GPU = re.compile(
    r"""(?ix)
    \bno\ (cuda|hip|rocm|nvidia|opencl)(-capable|-enabled)?\ (gpu|device|driver)s?\b
    | \bno\ gpus?\ ((device|devices)\ )?((is|are|was|were)\ )?(available|detected|found|visible)\b
    | \bcould\ not\ find\ any\ (cuda|nvidia|gpu)
    | \bcudaErrorNoDevice\b | \bcudaErrorInsufficientDriver\b
    | \buncorrectable\ ecc\b
    """
)
_LONGEST_CHAIN = 10


def is_environments(outcome: Outcome, func: Callable[..., Any] | None) -> bool:
    """Whether an outcome is of the kind that a node without a module, a program, a disk or a GPU gives.

    `func` is what was called; None if it did not come to that. The task itself may be to blame all the same: whether it is
    shows only on another node.
    """
    if outcome.error is None:
        return _is_command(func) and outcome.value[0] in _CANNOT_RUN
    if func is None and isinstance(outcome.error, OSError):
        return True  # its working folder, say, is not there on this node
    error: BaseException | None = outcome.error
    for _ in range(_LONGEST_CHAIN):
        if error is None:
            return False
        if _is_environments(error):
            return True
        error = error.__cause__
    return False


def _is_environments(error: BaseException) -> bool:
    if isinstance(error, (ImportError, CommandStartError)):
        return True
    if type(error).__name__ == "CalledProcessError" and type(error).__module__ == "subprocess":
        return error.__dict__["returncode"] in _CANNOT_RUN
    if isinstance(error, OSError):
        return error.errno in _ERRNOS or (isinstance(error, (FileNotFoundError, PermissionError)) and _is_of_popen(error))
    return isinstance(error, RuntimeError) and _NO_GPU.search(_text(error)) is not None


def _is_of_popen(error: BaseException) -> bool:
    """Whether it was raised where subprocess starts a program."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "subprocess"


def _is_command(func: Callable[..., Any] | None) -> bool:
    command = sys.modules.get("nornir_pools.command")  # where there are no commands, it need not be imported
    return command is not None and bool(command.is_command(func))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""
