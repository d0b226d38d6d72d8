"""Finding a SLURM for the tests, or starting the project's own lab."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["LAB", "Slurm", "find_slurm", "stop_lab"]

LAB = Path(__file__).resolve().parents[1] / "slurm" / "lab"
FOLDER = Path("/tmp/nornir-pools-lab")  # of a lab that was started without --dir


@dataclass
class Slurm:
    """A SLURM that answers. `ours` if it is a lab that this session has started, `new` if there was nothing of it before."""

    conf: str
    ours: bool
    new: bool = False
    path: str = field(default_factory=lambda: os.environ["PATH"])
    """Where its commands are; a test may put others in their place for its pools."""

    def jobs(self, *options: str) -> list[str]:
        """The ids of the jobs in the queue, array elements one by one."""
        return self.run("squeue", "-h", "-r", "-o", "%i", *options).split()

    def run(self, *command: str) -> str:
        """What a SLURM command prints."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment(), check=True)
        return done.stdout

    @property
    def lab(self) -> Path | None:
        """The lab's folder, if this SLURM is a lab of root's that this process may handle."""
        folder = Path(self.conf).parents[1] if self.conf else Path("/")
        return folder if (folder / "options").is_file() and os.geteuid() == 0 else None

    def daemon(self, *words: str) -> None:
        """Have ``slurm/lab/daemon`` end or start a daemon."""
        command = [str(LAB / "daemon"), "--dir", str(self.lab), *words]
        subprocess.run(command, timeout=60, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    @contextlib.contextmanager
    def hide(self, node: str, folder: Path) -> Iterator[None]:
        """Have a folder of this machine be empty on one node of the lab, for the jobs there and for nobody else."""
        pid_file = Path(self.conf).parents[1] / "run" / f"slurmd.{node}.pid"
        if os.geteuid() != 0 or not pid_file.exists():
            pytest.skip("only root can change what a node sees, and only one of the project's lab")
        inside = ["nsenter", "--target", pid_file.read_text().strip(), "--mount"]
        with tempfile.TemporaryDirectory(dir=folder.parent) as empty:  # (a node may have a /tmp of its own)
            os.chmod(empty, 0o755)
            subprocess.run([*inside, "mount", "--bind", empty, folder], timeout=20, check=True)
            try:
                yield
            finally:
                subprocess.run([*inside, "umount", "--lazy", folder], timeout=20, check=True)

    def environment(self) -> dict[str, str]:
        """The environment in which SLURM commands work."""
        return {**os.environ, "PATH": self.path, **({"SLURM_CONF": self.conf} if self.conf else {})}


def find_slurm() -> tuple[Slurm | None, str]:
    """A SLURM, or the reason why there is none. Sets SLURM_CONF in this process."""
    if shutil.which("sinfo") and _answers():
        return Slurm(os.environ.get("SLURM_CONF", ""), ours=False), ""
    if shutil.which("slurmctld") is None:
        return None, "Debian's packages slurm-wlm, slurmdbd, munge and mariadb-server are not installed"
    if os.geteuid() != 0:
        return None, "starting slurm/lab needs root"
    new = not FOLDER.exists()
    done = subprocess.run([LAB / "start"], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    conf = re.search(r"export SLURM_CONF=(\S+)", done.stdout)
    if done.returncode or conf is None:
        return None, f"slurm/lab/start failed: {done.stdout}{done.stderr}"
    os.environ["SLURM_CONF"] = conf[1]
    return Slurm(conf[1], "running already" not in done.stdout, new), ""


def stop_lab(slurm: Slurm) -> None:
    """Stop the lab if this session has started it, and leave no more of it than there was."""
    if slurm.ours:
        command = [str(LAB / "stop"), *(["--purge"] if slurm.new else [])]
        subprocess.run(command, timeout=60, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _answers() -> bool:
    try:
        done = subprocess.run(["sinfo", "-h", "-N", "-t", "idle,mixed,allocated"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())
