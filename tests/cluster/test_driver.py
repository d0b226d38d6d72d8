"""The template that runs a script as a job: it starts anew before its limit, and the script finds its tasks again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import until
from ..lab import Slurm

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(150)]


def example() -> str:
    """The script of the README beside the template, with tasks that leave a line for each time they run."""
    text: str
    text = next(iter(re.findall(r"```python\n(.*?)```", (ROOT / "slurm" / "README.md").read_text(), re.DOTALL)))
    body = "    from tests import functions\n    functions.append_line('ledger', tile)\n    functions.wait_for_file('go')\n"
    changed = text.replace("    return len(tile)\n", body + "    return len(tile)\n")
    assert changed != text
    return changed


def submit(*words: str) -> str:
    done = subprocess.run(
        ["sbatch", "--parsable", "--mem=500M", "--time=10", "--output=driver.log", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_the_template_is_one_that_sbatch_takes(slurm: Slurm) -> None:
    template = ROOT / "slurm" / "driver.sbatch"
    text = template.read_bytes()
    assert b"\r" not in text
    first, *rest = text.decode().splitlines()
    assert first.startswith("#!")
    directives = [number for number, line in enumerate(rest) if line.startswith("#SBATCH ")]
    assert directives == list(range(len(directives)))
    assert len(directives) >= 5
    slurm.run("sbatch", "--test-only", "--mem=500M", "--time=10", str(template), "script.py")


def lines(name: str) -> list[str]:
    return Path(name).read_text().split() if Path(name).exists() else []


def test_a_driver_that_starts_anew_goes_on_with_its_run(slurm: Slurm) -> None:
    Path("mosaic.py").write_text(example())
    driver = submit(str(ROOT / "slurm" / "driver.sbatch"), "mosaic.py", "a", "bb", "ccc")
    until(lambda: len(lines("ledger")) == 3, "the tasks do not start", 60)
    slurm.run("scancel", "--batch", "--signal=USR1", driver)
    until(lambda: "starts anew" in Path("driver.log").read_text(), "the driver does not take the signal", 20)
    until(lambda: "PENDING" in slurm.run("squeue", "-h", "-j", driver, "-o", "%T"), "it is not requeued", 40)
    slurm.run("scontrol", "update", f"jobid={driver}", "starttime=now")
    Path("go").touch()
    until(lambda: "ccc 3" in Path("driver.log").read_text(), "it does not come back", 60)
    until(lambda: not slurm.jobs(), "jobs are left", 30)
    assert sorted(lines("ledger")) == ["a", "bb", "ccc"]
    assert "a 1\nbb 2\nccc 3\n" in Path("driver.log").read_text()


def test_the_drivers_status_is_its_scripts_and_a_signal_reaches_it(slurm: Slurm) -> None:
    Path("ends.py").write_text("import sys; sys.exit(3)")
    Path("waits.py").write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit('bye'))\nprint('up')\ntime.sleep(100)"
    )
    for script, status in (("ends.py", "3:0"), ("waits.py", "1:0")):
        driver = submit(str(ROOT / "slurm" / "driver.sbatch"), script)
        if script == "waits.py":
            until(lambda: "up" in lines("driver.log"), "the script does not start", 30)
            slurm.run("scancel", "--batch", "--signal=TERM", driver)
        until(lambda: f"ExitCode={status}" in slurm.run("scontrol", "show", "job", driver), "no such status", 30)  # noqa: B023
    assert "bye" in Path("driver.log").read_text()
