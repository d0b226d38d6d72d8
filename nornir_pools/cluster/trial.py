"""A folder of its own where runs would live, and one small job that looks at it from a node. Both are gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SpoolError
from ..options import Options
from . import clusters, probe, sites, slurm
from .context import beside
from .launcher import Executor
from .launching import PACKAGE_ROOT, python_command, shell

__all__ = ["NOT_SEEN", "NOT_WRITABLE", "Trial"]

NOT_SEEN, NOT_WRITABLE = "41:0", "42:0"  # exit codes of the job, for what it cannot write down
_MINUTES = 5  # time limit of the job: a scheduler finds room for a short one sooner
_OLD = 3600.0  # seconds after which nobody uses a folder of an examination
_BYTES = 1_000_000  # that have to find room: a quota shows only when it is met
# Options that the job goes without. What is left tells where it may run.
_LARGE = {"cpus_per_task", "exclusive", "mem", "mem_gb", "mem_per_cpu", "nodes", "ntasks_per_node", "tasks_per_node"}
_OTHER = {"comment", "dependency", "job_name", "mail_type", "mail_user", "teardown"}
_LEFT_OUT = _LARGE | _OTHER | {"time", "timeout_min"}


class Trial:
    """What is tried out in the folder `runs`, with a pool's options. Raises SpoolError if nothing can be written there."""

    def __init__(self, runs: Path, options: Options, environment: Mapping[str, str]) -> None:
        self._options = options
        self._environment = environment
        self._name = f"doctor-{secrets.token_hex(4)}"
        self._sent = False
        self.path = runs / f".{self._name}"
        self._made = [place for place in (runs, *runs.parents) if not place.exists()]
        try:
            self._make(runs)
        except OSError as error:
            self._remove()
            raise SpoolError(f"{runs} cannot be written: {error.strerror}", folder=str(runs), errno=error.errno) from error
        except BaseException:
            self._remove()
            raise

    def _make(self, runs: Path) -> None:
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in runs.glob(".doctor-*"):  # of one that was killed
            with contextlib.suppress(OSError):
                if old.stat().st_mtime < time.time() - _OLD:
                    shutil.rmtree(old, ignore_errors=True)
        self.path.mkdir(mode=0o700)
        self._write("probe.py", Path(probe.__file__).read_bytes())
        self._write("filling", bytes(_BYTES))
        self.ahead = probe.ahead_of_us(str(self.path), "clock-here")
        """Seconds by which the file server's clock is ahead of this machine's."""

    def _write(self, name: str, content: bytes) -> None:
        with open(self.path / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _executor(self, job: Mapping[str, Any]) -> Executor:
        executor = Executor(self.path)
        parameters = executor.parameters_of(job, self._name)
        parameters["additional_parameters"].update(output="/dev/null", chdir="/")  # they may not be there to be written
        executor.update_parameters(**parameters)
        return executor

    def check_submission(self, seconds: float) -> float:
        """Have sbatch judge a job with all the options, without sending it; returns how long that took.

        Raises slurm.SlurmError with its refusal.
        """
        executor = self._executor(self._options.job)
        executor.parameters["map_count"] = 1
        script = executor._make_submission_file_text("true", self._name)
        with contextlib.suppress(FileExistsError):
            self._write("test.sh", os.fsencode(script))
        begun = time.monotonic()
        sites.may_submit("test.sh", str(self.path), beside(script, self._environment), seconds)
        return time.monotonic() - begun

    def send(self, packages: Sequence[str]) -> str:
        """Send the job; returns its id. Raises slurm.SlurmError with sbatch's refusal."""
        job = {name: value for name, value in self._options.job.items() if name.removeprefix("slurm_") not in _LEFT_OUT}
        enter = [
            f"cd {shlex.quote(str(self.path))} 2>/dev/null || exit {NOT_SEEN.split(':')[0]}",
            f"touch job.log 2>/dev/null || exit {NOT_WRITABLE.split(':')[0]}",
            "exec >job.log 2>&1",
        ]
        setup = [*enter, *job.pop("slurm_setup", ())]
        executor = self._executor({**job, "slurm_time": _MINUTES, "slurm_setup": setup})
        self._sent = True  # from now on it may be in the queue, whatever becomes of the call
        array = executor.submit_workers("job.sh", _command(self._options, "job", packages), 1, self._environment)
        return clusters.element(array, 0)

    def look_here(self, packages: Sequence[str], seconds: float, *, as_a_job: bool) -> dict[str, Any]:
        """What the probe says on this machine; `as_a_job`: started as the local fallback starts a worker, else by this Python.

        Raises slurm.SlurmError if that fails or takes too long.
        """
        options = self._options if as_a_job else replace(self._options, python="")
        setup = self._options.job.get("slurm_setup", ()) if as_a_job else ()
        lines = "\n".join([*setup, _command(options, "here", packages)])
        output = slurm.run([shell(), "-c", lines], self._environment, folder=str(self.path), seconds=seconds)
        try:
            facts: dict[str, Any] = json.loads(output.splitlines()[-1])
        except (ValueError, IndexError):
            raise slurm.SlurmError(f"it printed no facts, but {output.strip()[-200:]!r}") from None
        return facts

    def heard(self, name: str) -> dict[str, Any] | None:
        """What the job has written under that name, once a listing shows it."""
        if name not in os.listdir(self.path):
            return None
        facts: dict[str, Any] = json.loads((self.path / name).read_bytes())
        return facts

    def say(self, name: str) -> None:
        """Write a file for the job."""
        self._write(f".{name}", b"")
        os.rename(self.path / f".{name}", self.path / name)

    def lateness(self, name: str) -> float:
        """Seconds from when a file of the job's, which a listing has just shown, got its name."""
        return max(0.0, time.time() + self.ahead - os.stat(self.path / name).st_ctime)

    def log(self) -> str:
        """The last lines that the job has written."""
        try:
            text = (self.path / "job.log").read_text(errors="replace") if "job.log" in os.listdir(self.path) else ""
        except OSError:
            return ""
        return "; ".join(text.strip().splitlines()[-3:])

    def close(self) -> None:
        """Cancel the job if there is one, and remove the folder. A second Ctrl-C has to wait until that is done."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        try:
            if self._sent:
                self._cancel()
            self._remove()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _remove(self) -> None:
        until = time.monotonic() + 5.0
        while self.path.exists() and time.monotonic() < until:  # a job that ends may still write into it
            shutil.rmtree(self.path, ignore_errors=True)
            time.sleep(0.01)
        for place in self._made:
            with contextlib.suppress(OSError):  # somebody else has begun to use it
                place.rmdir()

    def _cancel(self) -> None:
        """By its name: of a job whose sending was interrupted nobody knows the id."""
        with contextlib.suppress(slurm.SlurmError):
            for cluster in clusters.names_in(self._environment):
                slurm.run(["scancel", f"--name={self._name}"], clusters.on(self._environment, cluster), seconds=10)
            until = time.monotonic() + 10.0
            while time.monotonic() < until:
                left = ["squeue", "-h", f"--name={self._name}", "-o", "%i"]
                if not slurm.run(left, self._environment, seconds=10).strip():
                    return
                time.sleep(0.2)


def _command(options: Options, how: str, packages: Sequence[str]) -> str:
    return f"{python_command(options)} {shlex.join(['probe.py', how, PACKAGE_ROOT, *packages])}"
