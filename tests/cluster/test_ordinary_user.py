"""Root is stopped by nothing, so the cluster suite also runs once as the ordinary user that the lab has made."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from ..lab import Slurm

USER = "nplab"
ROOT = Path(__file__).resolve().parents[2]


def run_as_user(*words: str, **how: str) -> subprocess.CompletedProcess[str]:
    """Run a program as the ordinary user, with an environment of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": f"/home/{USER}", "USER": USER, "LANG": "C.UTF-8", **how}
    command = ["runuser", "-u", USER, "--", *words]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=280, check=False)


def interpreter() -> str:
    """A Python of this version that the user can start: ours may be in a folder that is root's alone."""
    for python in (sys.executable, "/usr/bin/python{}.{}".format(*sys.version_info)):
        if Path(python).exists() and run_as_user(python, "-c", "import ctypes, sqlite3").returncode == 0:
            return python
    pytest.skip("no Python of this version that an ordinary user can start")


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason="this user is an ordinary one already")
def test_what_is_private_and_what_travels_holds_for_an_ordinary_user(
    slurm: Slurm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if run_as_user("true").returncode:
        pytest.skip(f"there is no user {USER} (slurm/lab/start makes one)")
    python = interpreter()
    # pytest's own folders are closed to others, and a node may have a /tmp of its own.
    place = Path("/var/tmp", tmp_path_factory.mktemp("user").name)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "nornir_pools", place / "nornir_pools")
    shutil.copytree(ROOT / "tests", place / "tests")
    shutil.copytree(ROOT / "slurm", place / "slurm")
    shutil.copy(ROOT / "pyproject.toml", place)
    shutil.copytree(site.getsitepackages()[0], place / "packages", ignore=shutil.ignore_patterns("*.pth", "nornir_pools*"))
    try:
        subprocess.run(["chown", "-R", USER, place], check=True)
        subprocess.run(["chmod", "-R", "u+rwX,go-w", place], check=True)
        done = run_as_user(
            *(
                python,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "--rootdir",
                str(place),
                "-c",
                str(place / "pyproject.toml"),
            ),
            *(str(place / "tests" / "cluster" / name) for name in ("test_private.py", "test_travels.py")),
            *("--basetemp", str(place / "temporary")),
            PYTHONPATH=f"{place}:{place / 'packages'}",
            SLURM_CONF=slurm.conf,
            NORNIR_POOLS_REQUIRE_SLURM="1",
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(place, ignore_errors=True)
