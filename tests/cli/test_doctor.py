"""Whether all is well here: what can be wrong with a place is provoked, and has to be named."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import settings
from nornir_pools.cluster import doctor

from ..cluster.test_lab import make_lab
from ..conftest import until
from ..lab import Slurm
from ..terminal import Terminal
from .conftest import Cli

pytestmark = pytest.mark.timeout(120)
_HELD = '{"begin": "now+1hour"}'  # options of a job that does not start


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, own_place: None) -> Iterator[None]:
    """After each test no folder of an examination is there, nor the one for runs that was made for it."""
    yield
    assert not [path for path in tmp_path.rglob("*") if "doctor" in path.name or path.name == ".nornir_pools"]


@pytest.fixture
def on_slurm(slurm: Slurm) -> Iterator[Cli]:
    """The command line on a real SLURM; afterwards no job is left, at once."""
    yield Cli("slurm", slurm.environment())
    assert not slurm.jobs()


def found(findings: list[dict[str, Any]], subject: str) -> dict[str, Any]:
    """The worst finding on a subject."""
    order = ["ok", "warning", "problem"]
    return max((one for one in findings if one["subject"] == subject), key=lambda one: order.index(one["verdict"]))


def problems(findings: list[dict[str, Any]]) -> list[str]:
    return [one["subject"] for one in findings if one["verdict"] == "problem"]


def test_a_good_place_has_no_problem(cli: Cli) -> None:
    findings = cli.data("doctor", "--import", "json")
    assert problems(findings) == []
    assert found(findings, "run folder")["words"].startswith(f"{Path.cwd() / '.nornir_pools'} can be written here")
    assert "free" in found(findings, "space")["words"]
    assert "cloudpickle" in found(findings, "packages")["words"]
    assert found(findings, "Python")["words"].endswith("and here")
    assert found(findings, "imports here")["words"] == "json 0.0 s"
    if cli.executor == "local":
        assert found(findings, "local jobs")["verdict"] == "ok"
        return
    assert "seen and can be written" in found(findings, "folder there")["words"]
    assert found(findings, "lateness")["verdict"] == found(findings, "clock")["verdict"] == "ok"
    for subject in ("squeue", "sbatch", "partition", "limits", "job", "CPUs there"):
        assert found(findings, subject)["verdict"] == "ok", subject


def test_it_is_told_line_by_line(cli: Cli) -> None:
    told = cli("doctor", "--import", "json")
    assert f"ok       imports here   json 0.0 s{os.linesep}" in told
    verdict, advice = told.splitlines()[-2:]
    assert verdict == "All is well." or verdict.endswith(("1 warning", "warnings"))
    assert advice == "next: nornir-pools run TASKFILE"


def test_on_a_terminal_lines_fit(tmp_path: Path) -> None:
    script = "import sys; from nornir_pools.cli import main; sys.exit(main(['doctor']))"
    with Terminal(script, TERM="xterm", COLUMNS="80", NORNIR_POOLS_EXECUTOR="local") as terminal:
        assert terminal.end(40) == 0
        lines = re.sub(r"\x1b\[[0-9;]*[mK]", "", terminal.everything).replace("looking …\r", "").splitlines()
    assert "\x1b[32mok" in terminal.everything
    assert lines[-2] == "All is well."
    assert f"ok       run folder     {tmp_path / '.nornir_pools'}"[:70] in "\n".join(lines)
    assert max(len(line) for line in lines if "/" not in line) <= 80  # a path may be longer than a line


def test_wrong_use(here: Cli) -> None:
    assert "No such option" in here("doctor", "--partitoin", "debug", status=2)
    assert "unknown option 'partitoin'" in here("doctor", status=2, NORNIR_POOLS_PARTITOIN="debug")


@pytest.mark.slurm
def test_a_bad_partition(on_slurm: Cli) -> None:
    findings = on_slurm.data("doctor", "--partition", "nosuch", status=1)
    assert problems(findings) == ["partition"]
    assert "there is no partition 'nosuch'" in found(findings, "partition")["words"]
    assert "choose one with --partition, of " in found(findings, "partition")["advice"]


@pytest.mark.slurm
def test_a_bad_account(on_slurm: Cli, slurm: Slurm) -> None:
    if "slurmdbd" not in slurm.run("scontrol", "show", "config"):
        pytest.skip("this SLURM has no accounting")
    findings = on_slurm.data("doctor", "--account", "nosuch", status=1)
    assert "account" in problems(findings)
    assert "you have no account 'nosuch'" in found(findings, "account")["words"]


@pytest.mark.slurm
def test_what_sbatch_refuses_is_told_in_its_words(on_slurm: Cli) -> None:
    told = on_slurm("doctor", status=1, NORNIR_POOLS_MEM_GB="99999999")
    assert "refuses jobs with mem_gb=99999999: " in told
    assert "not looked at, since no job could be sent" in told


@pytest.mark.slurm
def test_a_folder_that_the_node_does_not_see(on_slurm: Cli, slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    with slurm.hide("n1", tmp_path / "local"):
        folder = str(tmp_path / "local" / "runs")
        told = on_slurm("doctor", "--folder", folder, status=1, NORNIR_POOLS_SLURM_NODELIST="n1")
    assert f"problem  folder there   {folder} is not seen on n1\n" in told
    assert "--folder" in told


@pytest.mark.slurm
def test_a_folder_that_the_node_cannot_write(on_slurm: Cli, slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "read"
    folder.mkdir()
    with slurm.hide("n1", folder):  # by an empty one, on top of which goes a view of the real one that cannot be written
        pid = (Path(slurm.conf).parents[1] / "run" / "slurmd.n1.pid").read_text().strip()
        inside = ["nsenter", "--target", pid, "--mount"]
        subprocess.run([*inside, "umount", folder], timeout=20, check=True)
        subprocess.run([*inside, "mount", "--bind", "-o", "ro", folder, folder], timeout=20, check=True)
        told = on_slurm("doctor", "--folder", str(folder), status=1, NORNIR_POOLS_SLURM_NODELIST="n1")
    assert f"problem  folder there   {folder} is seen on n1, but cannot be written there\n" in told


@pytest.mark.slurm
def test_an_accounting_that_does_not_answer(on_slurm: Cli, slurm: Slurm, tmp_path: Path) -> None:
    if "slurmdbd" not in slurm.run("scontrol", "show", "config"):
        pytest.skip("this SLURM has no accounting")
    (tmp_path / "bin").mkdir()
    for name in ("sacct", "sacctmgr"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho 'Connection refused' >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    told = on_slurm("doctor", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert "warning  sacct          does not work: Connection refused; ends of jobs are told less well" in told
    assert "warning  account        yours are not known: sacctmgr says Connection refused" in told
    assert "ok       job            job " in told


@pytest.mark.slurm
def test_another_python_on_the_node(on_slurm: Cli, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "import runpy, sys\n"
        "sys.version_info = (3, 9, 1)\n"
        "sys.argv[:1] = []\n"
        "sys.path.insert(0, '')\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    told = on_slurm("doctor", status=1, NORNIR_POOLS_PYTHON=f"{sys.executable} {tmp_path / 'other.py'}")
    assert "problem  Python         3.9.1 on n" in told
    assert "calls and results cannot be exchanged" in told


@pytest.mark.slurm
def test_a_python_that_is_not_on_the_node(on_slurm: Cli) -> None:
    told = on_slurm("doctor", status=1, NORNIR_POOLS_PYTHON="/nowhere/bin/python")
    assert "the one that jobs start cannot be run on n" in told
    assert "/nowhere/bin/python: No such file or directory" in told


@pytest.mark.slurm
def test_setup_lines_that_end_the_job(on_slurm: Cli) -> None:
    told = on_slurm("doctor", status=1, NORNIR_POOLS_SLURM_SETUP='["echo no module gcc >&2", "exit 3"]')
    assert "FAILED, exit code 3:0; its log ends: no module gcc" in told


def test_an_import_that_fails_or_is_slow(here: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('hello')\n1 / 0\n")
    findings = here.data("doctor", "--import", "broken", "--import", "nosuch", "--import", "json", status=1)
    words = found(findings, "imports here")["words"]
    assert words == "broken is not installed, nosuch is not installed, json 0.0 s"  # the working folder is not searched
    variables = {"PYTHONPATH": f"{here.environment['PYTHONPATH']}:{tmp_path}"}
    told = here("doctor", "--import", "broken", status=1, **variables)
    assert "broken fails (ZeroDivisionError: division by zero)" in told


def test_no_slurm(here: Cli) -> None:
    told = here("doctor", NORNIR_POOLS_EXECUTOR="local")
    assert 'ok       SLURM          not used: executor="local"' in told
    told = here("doctor", status=1, NORNIR_POOLS_EXECUTOR="slurm", PATH="/nowhere")
    assert "sbatch is not on PATH" in told
    assert "NORNIR_POOLS_EXECUTOR=local" in told


@pytest.mark.skipif(Path("/etc/slurm/slurm.conf").exists(), reason="this machine belongs to a cluster")
def test_a_laptop(here: Cli) -> None:
    told = here("doctor", "--write", NORNIR_POOLS_EXECUTOR="auto", PATH="/nowhere")
    assert "not here (no sbatch on PATH): jobs are processes of this machine" in told
    assert settings.file_options()["executor"][0] == "local"


@pytest.mark.slurm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_it_is_interrupted(on_slurm: Cli, slurm: Slurm, number: signal.Signals) -> None:
    process = on_slurm.start("doctor", NORNIR_POOLS_SLURM_ADDITIONAL_PARAMETERS=_HELD)
    until(lambda: bool(slurm.jobs()), "no job is sent", 40)
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # of a user who does not want to wait
    process.communicate(timeout=40)
    assert process.returncode in (130, -number)  # (the latter, if it was about to end as the second one came)
    assert not slurm.jobs()


@pytest.mark.slurm
def test_a_job_that_has_to_wait(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SECONDS", 6.0)
    findings = list(pools.examine([], executor="slurm", slurm_additional_parameters={"begin": "now+1hour"}))
    (job,) = [finding for finding in findings if finding.subject == "job"]
    assert job.verdict == "warning"
    assert "still waits after" in job.words
    assert "(BeginTime)" in job.words
    assert not slurm.jobs()


@pytest.mark.slurm
def test_an_examination_that_is_left_early_leaves_nothing(slurm: Slurm) -> None:
    with contextlib.closing(pools.examine([], executor="slurm")) as findings:
        for finding in findings:
            if finding.subject == "job":
                break
    assert not slurm.jobs()
    assert not Path(".nornir_pools").exists()


@pytest.mark.slurm
def test_settings_are_written_and_none_is_lost(on_slurm: Cli) -> None:
    Path("nornir_pools.toml").write_text('# ours\nslurm_partition = "nosuch"\nslurm_setup = ["echo \\"hi\\""]\n')
    told = on_slurm("doctor", "--write", status=1)
    assert "nothing is written while there are problems (partition)" in told
    assert list(Path().glob("nornir_pools.toml*")) == [Path("nornir_pools.toml")]
    told = on_slurm("doctor", "--write", "--partition", "debug", "--folder", "runs")
    assert "kept as nornir_pools.toml.1" in told
    assert Path("nornir_pools.toml.1").read_text().startswith("# ours")
    options = {name: value for name, (value, _) in settings.file_options().items()}
    assert options["slurm_partition"] == "debug"
    assert options["slurm_setup"] == ['echo "hi"']
    assert options["folder"] == str(Path("runs").absolute())
    assert "says all of that already" in on_slurm("doctor", "--write")
    assert not Path("nornir_pools.toml.2").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(here: Cli, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", disk], check=True)
    try:
        findings = here.data("doctor", "--folder", str(disk), status=1)
        assert list(disk.iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=3m,nr_inodes=50", disk], check=True)
        small = here.data("doctor", "--folder", str(disk), status=1)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert problems(findings) == ["run folder"]
    assert found(findings, "run folder")["words"] == f"{disk} cannot be written: No space left on device"
    assert "make room" in found(findings, "run folder")["advice"]
    assert problems(small) == ["space"]


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    with contextlib.closing(pools.examine([], executor="local", folder=str(tmp_path / "runs"))) as findings:
        said = []
        for finding in findings:
            said.append((finding.subject, finding.verdict))
            if finding.subject == "space":
                shutil.rmtree(tmp_path / "runs")
    assert ("Python", "problem") in said or ("run folder", "problem") in said


def test_what_a_killed_one_has_left_goes(here: Cli) -> None:
    for name in (".doctor-old", ".doctor-young"):
        Path("runs", name).mkdir(parents=True)
    os.utime("runs/.doctor-old", (0, 0))
    here("doctor", "--folder", "runs")
    assert os.listdir("runs") == [".doctor-young"]
    Path("runs", ".doctor-young").rmdir()


def test_a_folder_that_cannot_be_made(here: Cli) -> None:
    findings = here.data("doctor", "--folder", "/dev/null/runs", status=1)
    assert problems(findings) == ["run folder"]


@pytest.fixture
def bare() -> Iterator[Slurm]:
    """A lab without accounting, whose nodes each have a /tmp of their own."""
    lab = make_lab(2)
    try:
        result = lab.start("--no-accounting", "--private-tmp", "--nodes", "1")
        assert result.returncode == 0, result.stderr
        yield Slurm(lab.env["SLURM_CONF"], ours=False)
    finally:
        lab.stop("--purge")


@pytest.mark.slurm
@pytest.mark.skipif(os.geteuid() != 0, reason="the lab can only be started by root")
def test_a_folder_in_tmp_and_no_accounting(slurm: Slurm, bare: Slurm) -> None:
    cli = Cli("slurm", {**os.environ, "SLURM_CONF": bare.conf})
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        findings = cli.data("doctor", "--folder", folder, "--account", "any", status=1)
        assert os.listdir(folder) == []
    assert problems(findings) == ["folder there"]
    assert found(findings, "folder there")["words"] == f"{folder} is not seen on n1"
    assert "is under /tmp, which the nodes of a cluster do not share" in found(findings, "run folder")["words"]
    assert "there is no accounting on this cluster" in found(findings, "sacct")["words"]
    assert "any means nothing here" in found(findings, "account")["words"]
    assert not bare.jobs()
