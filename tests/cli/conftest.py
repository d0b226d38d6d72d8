"""The command line, as a user has it: programs of their own, on a real SLURM and on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cluster.places import RunInfo
from nornir_pools.cluster.views import RunView, TaskView

from ..conftest import until

ROOT = Path(__file__).resolve().parents[2]

FAILING = """\
# three of these fail
echo one

echo "cannot read tile 2" >&2; exit 3
echo 'three  and' && echo "four"
echo "no such channel" >&2; sleep 0.05; echo "what was printed comes last"; exit 1
no_such_program five
"""


class Cli:
    """Runs ``nornir-pools`` in the test's folder."""

    def __init__(self, executor: str, environment: dict[str, str]) -> None:
        self.executor = executor
        self.environment = {**environment, "PYTHONPATH": str(ROOT), "NORNIR_POOLS_EXECUTOR": executor}

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start the command."""
        return self._start([sys.executable, "-m", "nornir_pools", *words], variables)

    def _start(self, command: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run the command to its end, which has to be with that status; returns what it printed, errors last."""
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=50)
        assert process.returncode == status, f"{words} ended with {process.returncode}:\n{out}{err}"
        return out + err

    def data(self, *words: str, status: int = 0) -> Any:
        """What a command prints as JSON."""
        process = self.start(*words, "--json")
        out, err = process.communicate(timeout=50)
        assert process.returncode == status, f"{words} ended with {process.returncode}:\n{out}{err}"
        return json.loads(out)

    def run_failing(self) -> dict[str, Any]:
        """A run of five commands of which three fail; returns what is told of it."""
        Path("list.txt").write_text(FAILING)
        facts: dict[str, Any] = self.data("run", "list.txt", "-n", "4", status=1)
        return facts

    @contextlib.contextmanager
    def script(self, body: str) -> Iterator[subprocess.Popen[str]]:
        """A script with a `pool` of two jobs that waits for its tasks; killed at the end."""
        text = f"""
import nornir_pools as pools
from tests import functions
pool = pools.GetClusterPool("work", 2, idle_seconds=0)
{textwrap.dedent(body)}
pool.wait_completion()
"""
        process = self._start([sys.executable, "-c", text], {})
        try:
            yield process
        finally:
            Path("go").touch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            process.send_signal(signal.SIGKILL)
            process.communicate()


def made_view(tasks: Sequence[TaskView], state: str = "closed") -> RunView:
    """A run that nobody has run."""
    info = RunInfo("made-20260101-000000-abcdef", "made", Path("/scratch/made"), 1000.0, state, "")
    return RunView(info, tuple(tasks), (), "slurm", "login")


def _executors(*names: str) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slurm] if name == "slurm" else []) for name in names]


@pytest.fixture(params=_executors("local", "slurm"))
def cli(request: pytest.FixtureRequest) -> Iterator[Cli]:
    """The command line, with runs on this machine and on SLURM; afterwards no job is left."""
    slurm = request.getfixturevalue("slurm") if request.param == "slurm" else None
    yield Cli(request.param, dict(os.environ) if slurm is None else slurm.environment())
    for run in pools.runs():
        if run.state != "closed":  # a test has failed, or a script was killed
            with contextlib.suppress(pools.PoolError):
                pools.cancel(run.path)
    if slurm is not None:
        until(lambda: not slurm.jobs(), "jobs are left", 40)


@pytest.fixture
def here() -> Cli:
    """The command line without SLURM."""
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
    return Cli("local", environment)


@pytest.fixture
def running(cli: Cli) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a script of which one task runs until the file ``go`` is there, and more wait."""
    with contextlib.ExitStack() as stack:

        def start(body: str = "") -> subprocess.Popen[str]:
            process = stack.enter_context(
                cli.script(
                    """
                    import os, time
                    pool.add_task("first", functions.add, 1, 2).wait_return(40)
                    for n in range(2):
                        pool.add_task(f"running {n}", functions.touch_and_wait, f"mark{n}", "go")
                    while not (os.path.exists("mark0") and os.path.exists("mark1")):
                        time.sleep(0.01)
                    for n in range(3):
                        pool.add_task(f"waiting {n}", functions.add, n)
                    open("added", "w").close()
                    """
                )
            )
            until(Path("added").exists, "tasks do not run", 40)
            return process

        yield start
