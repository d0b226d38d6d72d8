"""What is asked of whoever starts the jobs of a run, and the command that a job runs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..lines import SHELL
from ..options import Options
from . import slurm
from .context import current_umask
from .division import Needs
from .history import History
from .polling import States

__all__ = ["CREW", "PACKAGE_ROOT", "TOO_OLD", "WORKER", "Launcher", "python_command", "setup_lines", "shell", "worker_command"]

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
WORKER = "from nornir_pools.cluster import worker; worker.main()"
"""What Python does in a job."""
CREW = "from nornir_pools.cluster import crew; crew.main()"
"""… in one that runs several tasks at once."""
TOO_OLD = "cannot run nornir_pools, which needs 3.10 or newer"
"""What a job says in its log, behind the version, if its Python is one that could not even load the worker."""
_CHECK = f"sys.version_info >= (3, 10) or sys.exit('Python %d.%d {TOO_OLD}' % sys.version_info[:2])"


class Launcher(Protocol):
    """Starts, looks at and ends the jobs of one run."""

    poll_seconds: float
    """How often `states` may be asked while jobs run."""

    def start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        """Start `count` jobs for a group and return their ids (perhaps fewer), not on the nodes to `avoid` if there are others.

        Raises slurm.SlurmError with the refusal.
        """
        ...

    def states(self, age: float = 0.0) -> States:
        """The state of each job that the scheduler still knows, as it was at most `age` seconds ago. Raises slurm.SlurmError if
        it does not answer."""
        ...

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        """End jobs. Raises slurm.SlurmError."""
        ...

    def cancel_doubtful(self) -> None:
        """Cancel what may have been taken though the answer was lost. Raises slurm.SlurmError."""
        ...

    def note_up(self, job: str, pid: int, born: str, bare: bool = False) -> None:
        """A job's worker has said that it is up, its process id there, and when that process was started; `bare`: it has
        little of the environment that the pool was made in."""
        ...

    def find(self, name: str) -> list[str]:
        """The ids of the jobs that were started under this name, as far as they are not over. Raises slurm.SlurmError."""
        ...

    def resume(self, history: History) -> None:
        """Another process has started jobs of this run before."""
        ...

    def endings(self, states: Mapping[str, str]) -> dict[str, slurm.Ending]:
        """How jobs that are gone have ended; `states` is what is known of that already."""
        ...

    def close(self) -> None:
        """Leave nothing behind once all jobs are over."""
        ...


def worker_command(run: Path, options: Options, group: int) -> str:
    """The shell command that starts a worker for a group of tasks."""
    # The folder of this package goes last on the path, where it serves only if the job's Python has it not installed, and
    # "" goes away: a file in the working folder must not stand in for a module of the standard library.
    crew = options.several or options.executor == "allocation"
    start = f"import sys; sys.path[:1] = []; sys.path.append({PACKAGE_ROOT!r}); {_CHECK}; {CREW if crew else WORKER}"
    words = ["-u", "-c", start, str(run), "--group", str(group), "--idle", f"{options.idle:g}"]
    words += ["--task-timeout", f"{options.task_timeout or 0}"]
    if options.strict:
        words.append("--one")
    if crew:
        words += ["--at-once", str(options.tasks_at_once or 1), *Needs.of(options).words()]
    return f"{python_command(options)} {shlex.join(words)}"


def setup_lines(lines: Sequence[str] | None) -> list[str]:
    """The shell lines before the worker's: the user's own see the umask of the script, not the one that keeps logs private."""
    return [f"umask {current_umask():04o}", *(lines or ())]


def python_command(options: Options) -> str:
    """The shell command that starts Python in a job."""
    return options.python or shlex.quote(sys.executable)


def shell() -> str:
    """The shell for setup lines on this machine: the one of sbatch's scripts, for which they are written, if it is there."""
    return SHELL if os.path.exists(SHELL) else "/bin/sh"
