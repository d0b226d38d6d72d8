"""The project's own SLURM (slurm/lab), started and stopped for real, in folders and on ports of the tests' own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "slurm" / "lab"
USER = "nplab"
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
FIRST_PORT = 27000 + 100 * (os.getpid() % 40)  # two runs of the tests at a time keep out of each other's way

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab can only be started by root"),
    pytest.mark.skipif(shutil.which("sbatch") is None, reason="sbatch isn't installed"),
]

Result = subprocess.CompletedProcess[str]


def run(*command: str | Path, timeout: float = 60, env: dict[str, str] | None = None) -> Result:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False, cwd="/")


@dataclass(frozen=True)
class Lab:
    dir: Path
    port_base: int

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.dir / "etc" / "slurm.conf")}

    def start(self, *options: str) -> Result:
        where = ("--dir", self.dir, "--port-base", str(self.port_base))
        return run(SCRIPTS / "start", *where, "--nodes", "2", "--user", USER, *options)

    def stop(self, *options: str) -> Result:
        return run(SCRIPTS / "stop", "--dir", self.dir, *options)

    def status(self) -> Result:
        return run(SCRIPTS / "status", "--dir", self.dir)

    def command(self, *command: str) -> Result:
        return run(*command, env=self.env)

    def submit(self, wrap: str, *options: str) -> str:
        result = self.command("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", wrap)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def refusal(self, *options: str) -> str:
        result = self.command("sbatch", "--output=/dev/null", *options, "--wrap", "true")
        assert result.returncode != 0, result.stdout
        return result.stderr

    def state(self, job: str) -> str:
        found = re.search(r"JobState=(\w+)", self.command("scontrol", "show", "job", job).stdout)
        assert found is not None
        return found[1]

    def wait_for_state(self, job: str, *states: str, seconds: float = 30) -> str:
        end = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < end, f"job {job} is {state}, not one of {states}"
            time.sleep(0.1)
        return state

    def cancel_all(self) -> None:
        for partition in ("debug", "urgent", "cancel", "tiny"):
            self.command("scancel", "--signal=KILL", f"--partition={partition}")
            self.command("scancel", f"--partition={partition}")
        end = time.monotonic() + 15
        while self.command("squeue", "-h").stdout:
            assert time.monotonic() < end, "the queue doesn't get empty"
            time.sleep(0.1)

    def pid_file(self, daemon: str) -> Path:
        return self.dir / "run" / f"{daemon}.pid"

    def processes(self) -> list[str]:
        """Everything that lives in the lab's mount namespaces, its daemons as well as its jobs."""
        return [name for name, mounts in all_mounts() if f" {self.dir}/mark " in mounts]


def all_mounts() -> Iterator[tuple[str, str]]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "comm").read_text().strip(), (process / "mountinfo").read_text()
        except OSError:
            continue


def make_lab(number: int) -> Lab:
    return Lab(Path(tempfile.mkdtemp(prefix="nornir-pools-test-lab-", dir="/tmp")), FIRST_PORT + 50 * number)


@pytest.fixture(scope="module")
def limited() -> Iterator[Lab]:
    """A running lab that lets a user have three jobs."""
    lab = make_lab(0)
    result = lab.start("--max-submit", "3")
    assert result.returncode == 0, result.stderr
    yield lab
    lab.stop("--purge")


@pytest.fixture
def empty(limited: Lab) -> Iterator[Lab]:
    """The same, without any job."""
    limited.cancel_all()
    yield limited
    limited.cancel_all()


@pytest.fixture
def stopped() -> Iterator[Lab]:
    """A lab that isn't running (yet)."""
    lab = make_lab(1)
    yield lab
    lab.stop("--purge")
    shutil.rmtree(lab.dir, ignore_errors=True)


def cgroups_are_usable() -> bool:
    return all(Path("/sys/fs/cgroup", name, "release_agent").exists() for name in ("memory", "freezer"))


def hog(megabytes: int) -> str:
    return f"python3 -c 'import time; held = bytearray({megabytes} << 20); time.sleep(20)'"


def test_a_second_start_says_that_the_lab_is_running(limited: Lab) -> None:
    again = limited.start("--max-submit", "3")
    assert again.returncode == 0
    assert "running already" in again.stdout
    assert again.stdout.splitlines()[-1] == f"export SLURM_CONF={limited.dir}/etc/slurm.conf"
    assert limited.status().returncode == 0


def test_a_second_start_with_other_options_asks_for_stop(limited: Lab) -> None:
    again = limited.start("--cpus", "3", "--max-submit", "3")
    assert again.returncode == 1
    assert "stop" in again.stderr
    assert limited.status().returncode == 0


def test_status_names_every_daemon(limited: Lab) -> None:
    lines = limited.status().stdout.splitlines()
    for daemon in (*DAEMONS[:-1], "slurmd n1", "slurmd n2"):
        assert any(re.fullmatch(rf"{daemon} +up", line) for line in lines), daemon


def test_taken_ports_are_refused(limited: Lab, stopped: Lab) -> None:
    result = Lab(stopped.dir / "other", limited.port_base).start()
    assert result.returncode == 1
    assert "--port-base" in result.stderr
    assert not (stopped.dir / "other").exists()


def test_a_folder_with_other_things_is_left_alone(stopped: Lab) -> None:
    precious = stopped.dir / "precious"
    precious.write_text("x")
    assert "isn't a lab" in stopped.start().stderr
    assert "nothing is running" in stopped.stop("--purge").stdout
    assert precious.exists()


@pytest.fixture
def scripts() -> Iterator[Path]:
    """The scripts where every user can read them, wherever the project is."""
    copy = Path(tempfile.mkdtemp(prefix="nornir-pools-test-scripts-", dir="/tmp"))
    shutil.copytree(SCRIPTS, copy / "lab")
    copy.chmod(0o755)
    yield copy / "lab"
    shutil.rmtree(copy)


def test_an_ordinary_user_can_ask_for_the_status(limited: Lab, scripts: Path) -> None:
    result = run("runuser", "-u", USER, "--", scripts / "status", "--dir", limited.dir)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("script", ["start", "stop"])
def test_without_root_one_clear_sentence(script: str, scripts: Path) -> None:
    result = run("setpriv", "--reuid=65534", "--clear-groups", scripts / script)
    assert result.returncode == 1
    assert "as root" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", ["start", "stop", "status"])
def test_help_and_unknown_options(script: str) -> None:
    assert "--dir DIR" in run(SCRIPTS / script, "--help").stdout
    wrong = run(SCRIPTS / script, "--no-such-option")
    assert wrong.returncode == 2
    assert "--no-such-option" in wrong.stderr


@pytest.mark.skipif(not cgroups_are_usable(), reason="no cgroups of version 1")
def test_a_job_over_its_memory_ends_out_of_memory(empty: Lab) -> None:
    job = empty.submit(hog(300), "--mem=50")
    assert empty.wait_for_state(job, "OUT_OF_MEMORY", "FAILED", "COMPLETED", "CANCELLED") == "OUT_OF_MEMORY"


def test_the_fourth_job_is_refused_by_the_qos(empty: Lab) -> None:
    for _ in range(3):
        empty.submit("sleep 60")
    assert "QOSMaxSubmitJobPerUserLimit" in empty.refusal()


def test_the_fourth_job_is_refused_by_the_association(empty: Lab) -> None:
    for _ in range(3):
        empty.submit("sleep 60", "--account=lab-assoc")
    assert "AssocMaxSubmitJobLimit" in empty.refusal("--account=lab-assoc")


def test_an_unknown_account_is_refused(empty: Lab) -> None:
    assert "Invalid account" in empty.refusal("--account=nobodys")


def test_an_array_index_over_the_limit_is_refused(empty: Lab) -> None:
    assert "Invalid job array specification" in empty.refusal("--array=0-1001")


def test_a_minute_is_the_limit_in_tiny(empty: Lab) -> None:
    job = empty.submit("sleep 1", "--partition=tiny")
    assert "TimeLimit=00:01:00" in empty.command("scontrol", "show", "job", job).stdout


@pytest.mark.parametrize(("partition", "state"), [("debug", "PENDING"), ("cancel", "PREEMPTED")])
def test_urgent_preempts(empty: Lab, partition: str, state: str) -> None:
    low = empty.submit("sleep 60", f"--partition={partition}", "--nodelist=n2", "--exclusive")
    empty.wait_for_state(low, "RUNNING")
    urgent = empty.submit("sleep 2", "--partition=urgent", "--nodelist=n2", "--exclusive")
    empty.wait_for_state(urgent, "RUNNING", "COMPLETED")
    assert empty.state(low) == state


def test_nodes_have_names_and_know_each_other(empty: Lab) -> None:
    result = empty.command("srun", "--nodes=2", "sh", "-c", "hostname; getent hosts n1 n2")
    assert sorted(re.findall(r"^n\d$", result.stdout, re.MULTILINE)) == ["n1", "n2"]
    assert result.stdout.count("127.0.0.1") == 4


def test_an_ordinary_user_can_submit_and_look(empty: Lab) -> None:
    as_user = ("runuser", "-u", USER, "--")
    assert empty.command(*as_user, "sbatch", "--wait", "--output=/dev/null", "--wrap", "true").returncode == 0
    assert empty.command(*as_user, "squeue").returncode == 0
    end = time.monotonic() + 20  # slurmctld tells the accounting of new jobs every five seconds
    sacct = ("sacct", "-nPX", "--format=user,account,state")
    while f"{USER}|lab|COMPLETED" not in empty.command(*as_user, *sacct).stdout:
        assert time.monotonic() < end, "sacct doesn't know of the job"
        time.sleep(0.2)


@pytest.mark.parametrize("secret", ["etc/munge.key", "etc/slurmdbd.conf", "state", "db", "log"])
def test_an_ordinary_user_cannot_read_secrets(limited: Lab, secret: str) -> None:
    assert (limited.dir / secret).exists()
    assert run("runuser", "-u", USER, "--", "test", "-r", limited.dir / secret).returncode == 1


def test_stop_leaves_no_process_and_a_second_stop_finds_nothing(stopped: Lab) -> None:
    assert stopped.start().returncode == 0
    job = stopped.submit("trap '' TERM; setsid sleep 600 & sleep 600")
    stopped.wait_for_state(job, "RUNNING")
    assert set(stopped.processes()) >= set(DAEMONS)
    first, second = stopped.stop(), stopped.stop("--purge")
    assert (first.returncode, second.returncode) == (0, 0)
    assert "stopped" in first.stdout
    assert "nothing is running" in second.stdout
    assert stopped.processes() == []
    assert not stopped.dir.exists()
    assert list(Path("/sys/fs/cgroup").glob(f"*/nornir-pools-lab-{stopped.port_base}")) == []


def test_a_lab_whose_daemons_were_killed_starts_again(stopped: Lab) -> None:
    assert stopped.start().returncode == 0
    stopped.wait_for_state(stopped.submit("sleep 600"), "RUNNING")
    for daemon in (*DAEMONS[:-1], "slurmd.n1"):
        os.kill(int(stopped.pid_file(daemon).read_text()), signal.SIGKILL)
    assert stopped.status().returncode == 1
    assert stopped.start().returncode == 0
    assert stopped.command("squeue", "-h").stdout == ""
    assert stopped.command("srun", "hostname").returncode == 0


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.8])
def test_a_start_that_was_killed_can_be_repeated(stopped: Lab, seconds: float) -> None:
    where = ("--dir", str(stopped.dir), "--port-base", str(stopped.port_base), "--nodes", "2")
    with subprocess.Popen([SCRIPTS / "start", *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        time.sleep(seconds)
        first.kill()
    result = stopped.start()
    assert result.returncode == 0, result.stderr
    assert stopped.status().returncode == 0


def test_without_accounting_and_cgroups_and_with_a_tmp_per_node(stopped: Lab) -> None:
    assert stopped.start("--no-accounting", "--no-cgroup", "--private-tmp", "--max-array-size", "11").returncode == 0
    assert "mariadbd" not in stopped.processes()
    listed = stopped.command("env", "-u", "TMPDIR", "srun", "ls", "-A", "/tmp")  # (SLURM would make a TMPDIR that is missing)
    assert listed.stdout.split() == [stopped.dir.name]
    assert "Invalid job array specification" in stopped.refusal("--array=0-11")
    job = stopped.submit(hog(300), "--mem=50")
    assert stopped.wait_for_state(job, "FAILED", "CANCELLED", "OUT_OF_MEMORY", "COMPLETED") != "COMPLETED"


@pytest.mark.timeout(150)
def test_a_run_in_a_tmp_that_each_node_has_for_itself_is_warned_of_and_an_error(stopped: Lab) -> None:
    assert stopped.start("--no-accounting", "--no-cgroup", "--private-tmp").returncode == 0
    script = (
        "import sys, nornir_pools as pools\n"
        "pool = pools.GetClusterPool('hidden', 1, executor='slurm', folder=sys.argv[1])\n"
        "error = pool.add_task('add', pow, 1, 2).exception(timeout=100)\n"
        "print(type(error).__name__, error)\n"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        env = {"PYTHONPATH": str(SCRIPTS.parents[1]), **stopped.env}
        result = run(sys.executable, "-c", script, folder, timeout=120, env=env)
    assert "which the nodes of a cluster do not share" in result.stderr
    assert result.stdout.startswith("SpoolError ")
    assert f"the run's folder {folder}/hidden-" in result.stdout
