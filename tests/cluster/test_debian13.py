"""The Debian beside this machine's own (slurm/lab/debian13): how it is entered, what is seen in there, how it is removed.

These tests use a bare system of this machine's own programs in place of one that debootstrap has built; .ci/run builds one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..conftest import until

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "lab" / "debian13"
ROOT = SCRIPT.parents[2]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter it"),
]

Result = subprocess.CompletedProcess[str]


def run(*command: str | Path, **environment: str) -> Result:
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False, cwd=ROOT / "tests")


@dataclass(frozen=True)
class System:
    dir: Path

    @property
    def tree(self) -> Path:
        return self.dir / "tree"

    def command(self, *words: str | Path) -> list[str | Path]:
        """Enter the system from a namespace in which this machine's programs are in there."""
        bind = f'mount --bind /usr {self.tree}/usr && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bind, "sh", SCRIPT, "--dir", self.dir, *words]

    def enter(self, *words: str | Path, **environment: str) -> Result:
        return run(*self.command(*words), **environment)

    @contextlib.contextmanager
    def busy(self, *words: str | Path) -> Iterator[int]:
        """Something that ends in sleep runs in there meanwhile; this is its process id."""
        with subprocess.Popen(self.command(*words), stdout=subprocess.DEVNULL) as process:
            try:
                until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it does not start")
                yield process.pid
            finally:
                process.kill()

    def remove(self) -> Result:
        return run(SCRIPT, "--dir", self.dir, "--remove")


@pytest.fixture
def system() -> Iterator[System]:
    dir = Path(tempfile.mkdtemp(prefix="nornir-pools-test-debian13-", dir="/tmp"))
    (dir / "build.log").touch()
    for name in ("usr", "etc", "mnt", "tmp"):
        (dir / "tree" / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (dir / "tree" / name).symlink_to(f"usr/{name}")
    yield System(dir)
    run("rm", "-rf", "--one-file-system", dir)


def test_help_and_wrong_use() -> None:
    assert "--dir DIR" in run(SCRIPT, "--help").stdout
    for words in (["--no-such-option"], [], ["--remove", "true"], ["--dir"]):
        wrong = run(SCRIPT, *words)
        assert wrong.returncode == 2
        assert "--help" in wrong.stderr


def test_a_command_runs_in_there(system: System) -> None:
    (system.tree / "tmp" / "inside").touch()  # (the checkout may lie below /tmp, too, and is seen there)
    done = system.enter("sh", "-c", "pwd; ls -d /tmp/ins*; ls -d /proc/self/ns/mnt; ls ../README.md; cat /etc/hosts; exit 3")
    assert done.returncode == 3, done.stderr
    assert done.stdout.split("\n", 4)[:4] == [str(ROOT / "tests"), "/tmp/inside", "/proc/self/ns/mnt", "../README.md"]
    assert done.stdout.endswith(f"../README.md\n{Path('/etc/hosts').read_text()}")


def test_where_the_working_folder_is_not_seen_it_is_the_root(system: System) -> None:
    elsewhere = Path(tempfile.mkdtemp(prefix="nornir-pools-test-debian13-", dir="/tmp"))
    done = subprocess.run(system.command("pwd"), cwd=elsewhere, capture_output=True, text=True, timeout=60)
    elsewhere.rmdir()
    assert (done.stdout, done.stderr) == ("/\n", "")


def test_pip_finds_what_its_settings_name(system: System, tmp_path: Path) -> None:
    for name in ("wheels", "index/simple", "index/files"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "certificate").write_text("certificate")
    done = system.enter(
        *("ls", "-d", tmp_path / "wheels", tmp_path / "index" / "files", tmp_path / "certificate"),
        PIP_FIND_LINKS=f"https://example.com/links {tmp_path}/wheels /none/such",
        PIP_EXTRA_INDEX_URL=f"file://{tmp_path}/index/simple",
        PIP_CERT=f"{tmp_path}/certificate",
    )
    assert done.returncode == 0, done.stderr


def test_no_mount_is_left_and_removal_spares_what_was_seen(system: System) -> None:
    assert system.enter("true").returncode == 0
    assert f" {system.dir}" not in Path("/proc/self/mountinfo").read_text()
    assert system.remove().returncode == 0
    assert not system.dir.exists()
    assert SCRIPT.exists()
    assert system.remove().returncode == 0  # there is nothing left to do


def test_it_is_not_removed_while_something_runs_in_there(system: System) -> None:
    with system.busy("sleep", "100"):
        refused = system.remove()
    assert refused.returncode == 1
    assert "still running in there: sleep" in refused.stderr
    assert system.tree.exists()
    assert system.remove().returncode == 0


def test_whoever_enters_its_namespace_is_in_there(system: System) -> None:
    (system.tree / "tmp" / "inside").touch()  # (the checkout may lie below /tmp, too, and is seen there)
    with system.busy("sleep", "100") as pid:
        assert run("nsenter", "--target", str(pid), "--mount", "ls", "/tmp/inside").stdout == "/tmp/inside\n"


def test_it_is_not_removed_while_something_is_mounted_below(system: System) -> None:
    refused = run(
        *("unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$1/tree/tmp" && "$2" --dir "$1" --remove'),
        *(ROOT, system.dir, SCRIPT),
    )
    assert refused.returncode == 1
    assert "mounted below" in refused.stderr
    assert SCRIPT.exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    for words in (["--remove"], ["true"]):
        refused = run(SCRIPT, "--dir", tmp_path, *words)
        assert refused.returncode == 1
        assert "isn't of this script" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_lab_in_there_is_found_from_in_there_only(system: System, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pids = f". {SCRIPT.parent}/common.sh; set_dir {tmp_path}; lab_pids"
    with system.busy("sh", "-c", f"mkdir -p {mark} && mount --bind {mark} {mark} && exec sleep 100"):
        assert run("bash", "-c", pids).stdout == ""
        assert len(system.enter("bash", "-c", pids).stdout.split()) == 1
