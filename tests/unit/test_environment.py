"""Which failures may be the node's doing, and which are the task's own."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nornir_pools import CommandError, CommandStartError, SpoolError, outcome
from nornir_pools.cluster.environment import is_environments
from nornir_pools.command import run_command

from .. import functions


def judge(func: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    return is_environments(outcome.call(func, args, kwargs), func)


def import_nothing() -> None:
    import nonesuch_module  # type: ignore[import-not-found]  # noqa: F401


def wrap(error: Exception) -> None:
    try:
        import_nothing()
    except ImportError as cause:
        raise error from cause


class NoTextError(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_a_missing_module_may_be_the_nodes_doing_however_it_is_wrapped() -> None:
    assert judge(import_nothing)
    assert judge(wrap, ValueError("the reader for this format is not there"))
    assert judge(functions.fail, ImportError, "libfoo.so.1: cannot open shared object file")


def test_a_missing_program_may_be_the_nodes_doing() -> None:
    assert judge(functions.run_program, "/no/such/program")
    assert judge(functions.run_program, "/")  # not executable
    assert judge(functions.fail, CommandStartError, "the command could not be started")
    assert judge(run_command, "nonesuch_program")
    assert judge(run_command, "/dev/null/x", check=True)
    assert judge(run_command, ["/no/such/program"], shell=False)


def test_a_command_that_ran_and_failed_is_its_own_fault() -> None:
    for command in ("exit 1", "exit 125", "true"):
        assert not judge(run_command, command)
    assert not judge(run_command, "exit 3", check=True)
    assert not judge(run_command, "kill -9 $$")
    assert not judge(functions.fail, CommandError, "killed")
    assert not judge(lambda: (127, "", ""))  # no command, only a value that looks like one's


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ENODEV", "ENXIO", "EREMOTEIO", "ENOTCONN"])
def test_a_disk_or_device_that_does_not_work_may_be_the_nodes_doing(name: str) -> None:
    number = getattr(errno, name)
    assert judge(functions.fail, OSError, number, os.strerror(number))
    assert is_environments(
        outcome.Outcome(error=SpoolError("the run's folder cannot be written", errno=number)), functions.fail
    )


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ENOSPC", "EDQUOT", "ECONNREFUSED"])
def test_a_wrong_path_and_a_full_disk_are_the_same_on_every_node(name: str) -> None:
    number = getattr(errno, name)
    assert not judge(functions.fail, OSError, number, os.strerror(number))


def test_a_missing_file_is_the_tasks_own_fault(tmp_path: Path) -> None:
    assert not judge(open, tmp_path / "missing")


def test_a_folder_that_is_not_there_before_the_call_may_be_the_nodes_doing(tmp_path: Path) -> None:
    ended = outcome.call(os.chdir, (tmp_path / "missing",), {})
    assert is_environments(ended, None)
    assert not is_environments(ended, os.chdir)
    assert not is_environments(outcome.call(functions.fail, (ValueError,), {}), None)


@pytest.mark.parametrize(
    "text",
    [
        "No CUDA GPUs are available",
        "CUDA error: no CUDA-capable device is detected",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "No HIP GPUs are available",
        "cudaErrorNoDevice: no CUDA-capable device is detected",
        "CUDA error: uncorrectable ECC error encountered",
        "this needs a card, but no GPU was found",
        "no GPU device is available",
    ],
)
def test_a_missing_gpu_may_be_the_nodes_doing(text: str) -> None:
    assert judge(functions.fail, RuntimeError, text)
    assert not judge(functions.fail, ValueError, text)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: device-side assert triggered",
        "no device named 'camera' in the file",
        "no GPU memory limit was given",
        "there is no driver for this format",
        "",
    ],
)
def test_other_troubles_with_a_gpu_are_the_tasks_own(text: str) -> None:
    assert not judge(functions.fail, RuntimeError, text)


def test_errors_of_any_make_are_judged_without_a_fault() -> None:
    assert not judge(functions.fail, NoTextError)
    assert not judge(functions.fail, subprocess.TimeoutExpired, "sleep", 3)
    assert not judge(functions.add, 1)
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_environments(outcome.Outcome(error=first), functions.fail)
