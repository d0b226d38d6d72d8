"""Lists of commands: what counts as a line, and how the elements of an array share one run, whatever becomes of them.

The elements are processes of this machine; test_templates.py has them sent by sbatch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nornir_pools as pools
from nornir_pools import message
from nornir_pools.cluster import arrays, packed, slurm
from nornir_pools.cluster.child import Report
from nornir_pools.cluster.element import LineWorker
from nornir_pools.cluster.history import read_history
from nornir_pools.cluster.spool import Spool, task_name
from nornir_pools.lines import CommandList, RunLine

from ..conftest import until

ROOT = Path(__file__).resolve().parents[2]
LINES = ["echo one", "echo two >&2; exit 2", "", "# four", "touch up; while [ ! -e go ]; do sleep 0.02; done", "kill -9 $$"]

Element = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def element(tmp_path: Path) -> Element:
    """Starts an element of an array over tasks.txt; without SLURM, whose commands are not found."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def start(number: int, **variables: str) -> subprocess.Popen[str]:
        count = len(Path("tasks.txt").read_text().splitlines())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        environment |= {"PATH": f"{programs}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "SLURM_CONF": "/none"}
        environment |= {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": str(12 + number)}
        environment |= {f"SLURM_ARRAY_TASK_{word}": "1" for word in ("MIN", "STEP")}
        environment |= {f"SLURM_ARRAY_TASK_{word}": str(count) for word in ("MAX", "COUNT")}
        environment |= {"SLURM_JOB_END_TIME": f"{time.time() + 3600:.0f}", "SLURM_CPUS_PER_TASK": "1", **variables}
        command = [sys.executable, "-u", "-m", "nornir_pools.cluster.element", "tasks.txt"]
        with open(f"log.{number}", "a") as log:
            return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True)

    return start


def ends(*elements: subprocess.Popen[str]) -> list[int]:
    return [process.wait(40) for process in elements]


def states() -> dict[int, str]:
    return {task.number: task.state for task in pools.look("tasks-12").tasks}


def test_what_is_a_line() -> None:
    Path("list").write_bytes(b"one\r\n\n\r\n# no\ntwo \xff\x0cthree\n #four")
    assert CommandList(Path("list")).commands == {1: "one", 5: "two \udcff\x0cthree", 6: " #four"}
    assert CommandList(Path("list")).marked() == set()
    assert RunLine(str(CommandList(Path("list")).mark(5)))("true")[0] == 0
    assert CommandList(Path("list")).marked() == {5}


def test_all_elements_share_one_run_and_the_last_one_closes_it(element: Element) -> None:
    Path("tasks.txt").write_text("\n".join(LINES))
    with element(5) as waiting:
        until(Path("up").exists, "the line does not run")
        rest = [element(number) for number in (1, 2, 3, 4, 6)]
        assert ends(*rest) == [0, 2, 0, 0, 137]
        assert states() == {1: "succeeded", 2: "failed", 5: "running", 6: "failed"}
        assert pools.look("tasks-12").info.state == "left"
        Path("go").touch()
        assert ends(waiting) == [0]
    view = pools.look("tasks")
    assert (view.info.name, view.info.state) == ("tasks-12", "closed")
    assert [view.task(number).output() for number in (1, 2, 6)] == ["one\n", "two\n", ""]
    assert (view.task(2).status, view.task(2).last) == (2, "two")
    assert sorted(path.name for path in Path("tasks.txt.done").iterdir()) == ["1", "5"]
    assert [path.name for path in view.info.path.parent.iterdir()] == ["tasks-12"]
    assert not (view.info.path / "inbox").exists()
    assert ends(element(1), element(2)) == [0, 1]  # sent again by hand
    assert "has ended already in the run tasks-12" in Path("log.2").read_text()


def test_at_once_they_make_one_run(element: Element) -> None:
    Path("tasks.txt").write_text("\n".join(f"echo {number} >> out" for number in range(8)))
    assert ends(*(element(number) for number in range(1, 9))) == [0] * 8
    assert sorted(Path("out").read_text().split()) == [str(number) for number in range(8)]
    assert [run.name for run in pools.runs()] == ["tasks-12"]
    assert set(states().values()) == {"succeeded"}


def test_an_element_that_is_ended_leaves_its_line_to_itself_started_anew(element: Element) -> None:
    Path("tasks.txt").write_text(LINES[4])
    first = element(1)
    until(Path("up").exists, "the line does not run")
    first.send_signal(signal.SIGTERM)
    assert ends(first) == [143]
    assert states() == {1: "running"}  # nobody has said otherwise yet
    Path("go").touch()
    assert ends(element(1, SLURM_RESTART_COUNT="1")) == [0]
    assert states() == {1: "succeeded"}


def test_a_line_whose_job_is_out_of_time_has_failed_for_that(element: Element) -> None:
    Path("tasks.txt").write_text(LINES[4])
    process = element(1, SLURM_JOB_END_TIME=f"{time.time() + 8:.0f}")
    until(Path("up").exists, "the line does not run")
    process.send_signal(signal.SIGTERM)
    assert ends(process) == [143]
    (task,) = pools.look("tasks-12").tasks
    assert (task.state, task.cause, pools.look("tasks-12").info.state) == ("failed", "JobTimeoutError", "closed")
    assert task.seconds is not None


def test_an_element_that_is_slow_to_make_the_run_takes_that_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NORNIR_POOLS_FOLDER", str(tmp_path / "runs"))
    Path("tasks.txt").write_text("true\n")

    def slow(spool: Spool, *_: object) -> None:
        (tmp_path / "runs" / "tasks-12" / "todo").mkdir(parents=True)

    monkeypatch.setattr(arrays, "_fill", slow)
    environment = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_JOB_END_TIME": f"{time.time() + 3600:.0f}"}
    assert arrays.run_of_array(CommandList(Path("tasks.txt")), environment) == tmp_path / "runs" / "tasks-12"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tasks-12"]


def test_when_the_element_that_makes_the_run_dies_another_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_PATIENCE", 0.1)
    Path("tasks.txt").write_text("true\nfalse\n")
    folder = tmp_path / "runs"
    (folder / ".tasks-12.making").mkdir(parents=True)
    (folder / ".tasks-12.draft-abc").mkdir()
    environment = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_JOB_END_TIME": f"{time.time() + 3600:.0f}"}
    environment |= {"SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_MAX": "2", "SLURM_ARRAY_TASK_STEP": "1"}
    environment |= {"SLURM_ARRAY_TASK_COUNT": "1", "SLURM_MEM_PER_NODE": "2048", "SLURM_JOB_PARTITION": "long"}
    environment |= {"SITE_SETUP": "module load a\nexport B=1"}
    monkeypatch.setenv("NORNIR_POOLS_FOLDER", str(folder))
    path = arrays.run_of_array(CommandList(Path("tasks.txt")), environment)
    assert [run.name for run in folder.iterdir()] == [path.name]
    (task,) = pools.look(path).tasks
    assert (task.number, task.state, task.command) == (2, "waiting", "false")
    wanted = {"mem_gb": 2.0, "timeout_min": 60, "slurm_partition": "long", "slurm_setup": ["module load a", "export B=1"]}
    assert task.options == wanted


def test_a_run_that_does_not_appear_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_LONGEST_WAIT", 0.1)
    Path("tasks.txt").write_text("true\n")
    (tmp_path / "runs" / ".tasks-12.making").mkdir(parents=True)
    monkeypatch.setenv("NORNIR_POOLS_FOLDER", str(tmp_path / "runs"))
    with pytest.raises(pools.SpoolError, match="do all nodes see that folder"):
        arrays.run_of_array(CommandList(Path("tasks.txt")), {"SLURM_ARRAY_JOB_ID": "12"})


def test_a_run_with_something_damaged_in_it_is_left_open_and_no_element_fails_over_it(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run")
    spool.write("inbox/+12_1-r0.1.up", [b""], "w")
    arrays.close_if_done(spool.path)
    assert not read_history(spool).closed
    spool.remove("inbox/+12_1-r0.1.up")
    arrays.close_if_done(spool.path)
    assert read_history(spool).closed
    spool.close()


def test_a_line_whose_outcome_finds_no_room_has_failed(tmp_path: Path) -> None:
    spool, task = Spool.create(tmp_path / "run"), task_name(1)
    spool.publish(0, task, message.pack({"name": "line 1"}, []))
    worker = LineWorker(spool, "12_1", 1)
    spool.make_folder(f"claimed/{worker.name}")
    assert worker._claim_any() == task
    worker._deliver(task, Report(f"claimed/{worker.name}/{task}", environment=False))  # what stands for it: the call itself
    assert worker.status == 1
    assert spool.inbox() == [f"{task}.{worker.name}"]
    spool.close()


def test_which_elements_an_array_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def elements(first: int, last: int, step: int, count: int) -> set[int]:
        words = {"MIN": first, "MAX": last, "STEP": step, "COUNT": count}
        environment = {f"SLURM_ARRAY_TASK_{word}": str(value) for word, value in words.items()}
        return arrays._elements({**environment, "SLURM_ARRAY_JOB_ID": "7"})

    monkeypatch.setattr(slurm, "states", lambda _: {"7_5": "RUNNING", "7_9": "PENDING", "70_6": "RUNNING", "8": ""})
    assert elements(3, 9, 3, 3) == {3, 6, 9}
    assert elements(5, 9, 1, 2) == {5, 9}

    def silent(_: object) -> dict[str, str]:
        raise slurm.SlurmError("no answer")

    monkeypatch.setattr(slurm, "states", silent)
    assert elements(5, 9, 1, 2) == {5, 6, 7, 8, 9}


def test_lines_in_one_job(capfd: pytest.CaptureFixture[str]) -> None:
    Path("tasks.txt").write_text("echo one\necho two; echo bad >&2; exit 2\nkill -9 $$\n")
    assert packed.main(["tasks.txt"]) == 1
    assert sorted(capfd.readouterr().err.splitlines())[0] == "line 2 failed (exit status 2): see tasks.txt.logs/2"
    assert Path("tasks.txt.logs/2").read_text() == "two\nbad\n"
    view = pools.look("tasks")
    assert [(task.state, task.status) for task in view.tasks] == [("succeeded", 0), ("failed", 2), ("failed", -9)]
    assert (view.task(2).last, view.task(2).output()) == ("bad", "two\nbad\n")
    Path("tasks.txt").write_text("exit 5\ntrue\ntrue\n")
    assert packed.main(["tasks.txt"]) == 0
    assert [task.name for task in pools.look("tasks").tasks] == ["line 2", "line 3"]
    assert packed.main(["nowhere"]) == 2
