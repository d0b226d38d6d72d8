"""The templates of slurm/, unedited, on a real SLURM: each runs to its end and does what its first lines say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import options

from ..conftest import until
from ..lab import Slurm

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "slurm"
TEMPLATES = sorted([*PLACE.glob("*.sbatch"), *PLACE.glob("*.sh"), PLACE / "with-site"])
SMALL = ("--mem=300M", "--time=5")

pytestmark = pytest.mark.timeout(150)
lab_only = pytest.mark.slurm


def call(*words: str, status: int = 0, **environment: Any) -> str:
    """Run a program as from a login node; returns what it printed."""
    done = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def submit(template: str, *words: str, options: tuple[str, ...] = (), **environment: Any) -> str:
    return call("sbatch", "--parsable", *SMALL, *options, str(PLACE / template), *words, **environment).strip()


def wait_for_end(slurm: Slurm) -> None:
    until(lambda: not slurm.jobs(), "jobs do not end", 60)


def state(slurm: Slurm, job: str) -> str:
    """How a job has ended, or an element of an array: state and exit code."""
    said = slurm.run("scontrol", "show", "job", job)
    return " ".join(re.findall(r"(?:JobState|ExitCode)=(\w+)", said)[:2])


def numbers(folder: str) -> list[int]:
    return sorted(int(path.name) for path in Path(folder).iterdir()) if Path(folder).is_dir() else []


# --- what they have in common


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_is_short_and_listed(template: Path) -> None:
    text = template.read_text()
    assert len(text.splitlines()) < 60
    assert text.startswith("#!/bin/bash\n")
    assert "\r" not in text
    assert f"](./{template.name})" in (PLACE / "README.md").read_text()
    if template.suffix == ".sbatch":
        assert 'eval "${SITE_SETUP:-}"' in text
        body = text.splitlines()[1:]
        directives = [number for number, line in enumerate(body) if line.startswith("#SBATCH ")]
        assert directives == list(range(len(directives)))
        assert {"--job-name", "--cpus-per-task", "--time"} <= {
            line.split()[1].split("=")[0] for line in body if "#SBATCH" in line
        }
    else:
        assert os.access(template, os.X_OK)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_is_clean_to_shellcheck(template: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    call(program, str(template))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_without_its_arguments_a_template_says_how_it_is_called(template: Path) -> None:
    assert f"{template.name} " in call("bash", str(template), status=2).partition("usage: ")[2]


@lab_only
@pytest.mark.parametrize("template", [path.name for path in PLACE.glob("*.sbatch") if path.name != "gpu.sbatch"])
def test_sbatch_takes_the_template(slurm: Slurm, template: str) -> None:
    slurm.run("sbatch", "--test-only", *SMALL, str(PLACE / template), "x")


# --- lists


@lab_only
def test_an_array_runs_each_line_and_retry_only_what_has_failed(slurm: Slurm) -> None:
    lines = [
        "echo one > out.1",
        "# a comment",
        "",
        'echo "$OMP_NUM_THREADS" > out.4 && echo said',
        "test -e mended && echo five >> out.5",
        "echo six >> out.6\r",
        "exit 7",
    ]
    Path("tasks.txt").write_text("\n".join(lines) + "\n")
    array = submit("array.sbatch", "tasks.txt", options=("--array=1-7%4", "--cpus-per-task=2"))
    wait_for_end(slurm)
    assert numbers("tasks.txt.done") == [1, 4, 6]
    assert (Path("out.1").read_text(), Path("out.4").read_text(), Path("out.6").read_text()) == ("one\n", "2\n", "six\n")
    assert Path(f"array-{array}_4.log").read_text() == "said\n"
    assert [state(slurm, f"{array}_{number}") for number in (1, 3, 5, 7)] == [
        "COMPLETED 0",
        "COMPLETED 0",
        "FAILED 1",
        "FAILED 7",
    ]
    view = pools.look("tasks")
    assert (view.info.name, view.info.state, view.executor) == (f"tasks-{array}", "closed", "slurm")
    assert [(task.number, task.state, task.status, task.job) for task in view.tasks] == [
        (number, "failed" if status else "succeeded", status, f"{array}_{number}")
        for number, status in ((1, 0), (4, 0), (5, 1), (6, 0), (7, 7))
    ]
    assert view.task("4").command == lines[3]
    assert view.task("4").output() == "said\n"
    assert view.task("4").options["cpus_per_task"] == 2
    Path("mended").touch()
    said = call(str(PLACE / "retry.sh"), "tasks.txt", *SMALL)
    assert said.startswith("lines 5,7\nSubmitted batch job ")
    wait_for_end(slurm)
    assert numbers("tasks.txt.done") == [1, 4, 5, 6]
    assert Path("out.6").read_text() == "six\n"
    assert [(task.number, task.state) for task in pools.look("tasks").tasks] == [(5, "succeeded"), (7, "failed")]
    Path("tasks.txt.done/7").touch()
    assert call(str(PLACE / "retry.sh"), "tasks.txt") == "all lines of tasks.txt have succeeded\n"


def test_retry_writes_ranges(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "sbatch").chmod(0o755)
    Path("list").write_text("\n".join(["true"] * 12))
    Path("list.done").mkdir()
    for number in (1, 5, 7, 8):
        Path(f"list.done/{number}").touch()
    said = call(str(PLACE / "retry.sh"), "list", "--mem=1G", PATH=f"{folder}:{os.environ['PATH']}", TEMPLATE="gpu.sbatch")
    assert said == f"lines 2-4,6,9-12\n--array=2-4,6,9-12 --mem=1G {PLACE}/gpu.sbatch list\n"


@lab_only
def test_a_mark_that_is_there_keeps_a_line_from_running_again(slurm: Slurm) -> None:
    Path("tasks.txt").write_text("echo again > again\n")
    Path("tasks.txt.done").mkdir()
    Path("tasks.txt.done/1").touch()
    submit("array.sbatch", "tasks.txt", options=("--array=1",))
    wait_for_end(slurm)
    assert not Path("again").exists()


@lab_only
def test_many_short_lines_in_one_job(slurm: Slurm) -> None:
    Path("tasks.txt").write_text("".join(f"echo {n}; test {n} -ne 13\n" for n in range(1, 41)) + "# end\n\r\n")
    job = submit("packed.sbatch", "tasks.txt", options=("--output=log",))
    wait_for_end(slurm)
    assert numbers("tasks.txt.done") == [n for n in range(1, 41) if n != 13]
    assert Path("tasks.txt.logs/7").read_text() == "7\n"
    assert Path("log").read_text() == "line 13 failed (exit status 1): see tasks.txt.logs/13\n"
    assert state(slurm, job).startswith("FAILED")
    view = pools.look("tasks")
    assert (view.info.state, view.counts["succeeded"]) == ("closed", 39)
    assert [(task.name, task.status, task.output()) for task in view.tasks if task.state == "failed"] == [
        ("line 13", 1, "13\n")
    ]


@lab_only
def test_as_many_lines_at_once_as_the_job_has_cpus(slurm: Slurm) -> None:
    wait = "touch here.{n}; while [ $(ls here.* | wc -l) -lt 2 ]; do sleep 0.1; done\n"  # one at a time, they would never end
    Path("tasks.txt").write_text(wait.format(n=1) + wait.format(n=2))
    job = submit("packed.sbatch", "tasks.txt", options=("--cpus-per-task=2",))
    wait_for_end(slurm)
    assert state(slurm, job) == "COMPLETED 0"


@lab_only
def test_map_then_reduce(slurm: Slurm) -> None:
    Path("tasks.txt").write_text("echo 3 > part.1\necho 4 > part.2\ntest -e mended && echo 5 > part.3\n")
    words = [str(PLACE / "mapreduce.sh"), "tasks.txt", "bash", "-c", "cat part.* > whole"]
    small: dict[str, Any] = {"SBATCH_MEM_PER_NODE": "300M", "SBATCH_TIMELIMIT": "5"}
    first, second = call(*words, **small).split()
    until(lambda: not slurm.jobs(), "the second job waits for ever", 60)
    assert not Path("whole").exists()
    assert state(slurm, second).startswith("CANCELLED")
    Path("mended").touch()
    call(*words, **small)
    wait_for_end(slurm)
    assert Path("whole").read_text() == "3\n4\n5\n"
    assert first != second


@lab_only
def test_one_gpu_for_each_line(slurm: Slurm) -> None:
    assert "#SBATCH --gres=gpu:1\n" in (PLACE / "gpu.sbatch").read_text()
    refused = subprocess.run(
        ["sbatch", "--test-only", *SMALL, "--array=1", str(PLACE / "gpu.sbatch"), "tasks.txt"],
        capture_output=True,
        text=True,
        timeout=60,
        env=slurm.environment(),
    )
    if refused.returncode:
        assert "gres" in refused.stderr.lower()  # there is none here, which is all that is wrong
    Path("tasks.txt").write_text("echo one > out.1\ntest -e mended\n")
    array = submit("gpu.sbatch", "tasks.txt", options=("--array=1-2", "--gres=none", "--cpus-per-task=1"))
    wait_for_end(slurm)
    assert Path("out.1").read_text() == "one\n"
    assert numbers("tasks.txt.done") == [1]
    assert "GPU: none to be seen" in Path(f"gpu-{array}_2.log").read_text()
    Path("mended").touch()
    with pools.retry(f"tasks-{array}") as again:  # as of any run; what succeeds so leaves its mark, too
        assert [task.name for task in again.tasks] == ["line 2"]
    assert numbers("tasks.txt.done") == [1, 2]
    assert call(str(PLACE / "retry.sh"), "tasks.txt") == "all lines of tasks.txt have succeeded\n"


@lab_only
def test_an_array_that_runs_is_seen_and_its_lines_are_cancelled_as_tasks(slurm: Slurm) -> None:
    Path("tasks.txt").write_text("echo up; while [ ! -e go ]; do sleep 0.1; done\necho two > out.2\necho three > out.3\n")
    array = submit("array.sbatch", "tasks.txt", options=("--array=1-3%1",))
    until(lambda: any(task.output() for run in pools.runs() for task in pools.look(run.path).tasks), "it does not run", 40)
    view = pools.look("tasks")
    assert [(task.state, task.job) for task in view.tasks] == [("running", f"{array}_1"), ("waiting", ""), ("waiting", "")]
    assert view.task(1).output() == "up\n"
    assert view.live_jobs() == [f"{array}_{number}" for number in (1, 2, 3)]
    why = call(sys.executable, "-m", "nornir_pools", "why", "tasks", "2")
    assert "its array has a limit of jobs at once (JobArrayTaskLimit)" in why
    assert f"run by the array {array}: 3 of its tasks" in call(sys.executable, "-m", "nornir_pools", "status", "tasks")
    assert not pools.cancel("tasks", [2])
    Path("go").touch()
    wait_for_end(slurm)
    assert not Path("out.2").exists()
    assert "line 2" in Path(f"array-{array}_2.log").read_text()
    assert [task.state for task in pools.look("tasks").tasks] == ["succeeded", "cancelled", "succeeded"]
    assert pools.look("tasks").info.state == "closed"


# --- single commands


@lab_only
def test_a_program_is_started_anew_before_its_time_limit(slurm: Slurm) -> None:
    Path("simulate").write_text(
        "#!/bin/bash\ntrap 'echo saved >> state; exit 0' TERM\n"
        'echo "start ${SLURM_RESTART_COUNT:-0}" >> state\n'
        "[ -e state.go ] && exit 5\nwhile :; do sleep 0.1; done\n"
    )
    Path("simulate").chmod(0o755)
    job = submit("requeue.sbatch", "./simulate", options=("--output=log",))
    until(lambda: Path("state").exists(), "it does not start", 40)
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    until(lambda: "starts anew" in Path("log").read_text(), "it does not take the signal", 20)
    until(lambda: "PENDING" in slurm.run("squeue", "-h", "-j", job, "-o", "%T"), "it is not requeued", 40)
    Path("state.go").touch()
    slurm.run("scontrol", "update", f"jobid={job}", "starttime=now")
    wait_for_end(slurm)
    assert Path("state").read_text() == "start 0\nsaved\nstart 1\n"
    assert state(slurm, job) == "FAILED 5"


@lab_only
def test_a_program_is_not_started_anew_for_ever(slurm: Slurm) -> None:
    Path("simulate").write_text("#!/bin/bash\ntrap 'exit 0' TERM\ntouch up\nwhile :; do sleep 0.1; done\n")
    Path("simulate").chmod(0o755)
    job = submit("requeue.sbatch", "./simulate", options=("--output=log",), MAX_RESTARTS="0")
    until(lambda: Path("up").exists(), "it does not start", 40)
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    wait_for_end(slurm)
    assert "after 0 restarts" in Path("log").read_text()
    assert state(slurm, job) == "FAILED 1"


@pytest.mark.parametrize(("template", "words"), [("requeue.sbatch", ["bash", "ends.sh"]), ("driver.sbatch", ["ends.sh"])])
def test_a_program_that_ends_at_once_on_a_signal_has_its_own_status(template: str, words: list[str]) -> None:
    """It is gone before the shell of the template runs another line."""
    Path("ends.sh").write_text("trap 'exit 7' TERM\ntouch up\nwhile :; do sleep 0.05; done\n")
    patient = 'kill() { builtin kill "$@" && while [ $1 = -TERM ] && builtin kill -0 "$2"; do sleep 0.02; done; } 2>/dev/null'
    environment = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "1", "PYTHON": "bash", "SITE_SETUP": patient}
    with subprocess.Popen(["bash", PLACE / template, *words], env=environment) as shell:
        until(lambda: Path("up").exists(), "it does not start")
        shell.terminate()
        assert shell.wait() == 7


@lab_only
def test_a_command_with_environment_modules(slurm: Slurm) -> None:
    Path("modules.sh").write_text('module() { echo "module $*"; [ "$2" != missing ]; }\nexport -f module\n')
    with_modules = ("bash", "-c", 'source ./modules.sh; exec sbatch "$@"', "-", *SMALL)
    ran = (str(PLACE / "command.sbatch"), "bash", "-c", "echo ran with $OMP_NUM_THREADS")
    call(*with_modules, "--output=log", *ran, MODULES="gcc/12 python/3.11")
    call(*with_modules, "--output=bad", *ran, MODULES="missing")
    wait_for_end(slurm)
    assert Path("log").read_text() == "module purge\nmodule load gcc/12\nmodule load python/3.11\nran with 1\n"
    assert "module load missing failed on " in Path("bad").read_text()
    assert "ran" not in Path("bad").read_text()


@lab_only
@pytest.mark.parametrize("program", ["apptainer", "singularity", ""])
def test_a_command_in_a_container(slurm: Slurm, tmp_path: Path, program: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    if program:
        (folder / program).write_text('#!/bin/bash\nprintf "<%s>" "$@"\n')
        (folder / program).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    submit("container.sbatch", "image.sif", "python", "a b.py", options=("--output=log",), BIND="/data", PATH=path)
    wait_for_end(slurm)
    if program:
        assert Path("log").read_text() == f"<exec><--bind><{tmp_path},/data><--pwd><{tmp_path}><image.sif><python><a b.py>"
    else:
        assert Path("log").read_text().startswith("no apptainer on ")


# --- runs


def script(number: int) -> str:
    """A script of the README."""
    return re.findall(r"```python\n(.*?)```", (PLACE / "README.md").read_text(), re.DOTALL)[number]  # type: ignore[no-any-return]


def prepare(tmp_path: Path) -> str:
    Path("prepare.py").write_text(script(1))
    folder = str(tmp_path / "runs")
    run = call(sys.executable, "prepare.py", NORNIR_POOLS_FOLDER=folder, NORNIR_POOLS_EXECUTOR="slurm").splitlines()[0]
    assert [found.state for found in pools.runs()] == ["left"]
    return run


def collect(tmp_path: Path) -> str:
    Path("collect.py").write_text(script(2))
    return call(sys.executable, "collect.py", NORNIR_POOLS_FOLDER=str(tmp_path / "runs"))


SQUARES = "".join(f"square of {number} {number * number}\n" for number in range(8))


@lab_only
def test_a_function_as_an_array(slurm: Slurm, tmp_path: Path) -> None:
    run = prepare(tmp_path)
    assert not slurm.jobs()
    array = submit("function.sbatch", run, options=("--array=1-8%4",))
    wait_for_end(slurm)
    assert len(list(Path(run, "inbox").glob("*_*-r0"))) >= 8
    assert {path.name for path in Path(run, "jobs").iterdir()} == {f"{array}_{number}.log" for number in range(1, 9)}
    assert collect(tmp_path) == SQUARES
    assert Path(f"function-{array}.log").read_text() == ""


@lab_only
def test_the_template_of_the_howto_serves_a_run(slurm: Slurm, tmp_path: Path) -> None:
    (text,) = re.findall(
        r"^```bash\n(.*?)^```$", (ROOT / "docs/howto/write-a-template.md").read_text(), re.MULTILINE | re.DOTALL
    )
    Path("volumes.sbatch").write_text(text.replace("--idle 60", "--idle 0"))
    run = prepare(tmp_path)
    array = call("sbatch", "--parsable", *SMALL, "--array=1-2", "volumes.sbatch", run).strip()
    wait_for_end(slurm)
    assert {path.name for path in Path(run, "jobs").iterdir()} == {f"{array}_1.log", f"{array}_2.log"}
    assert collect(tmp_path) == SQUARES


@lab_only
def test_workers_that_share_a_run_while_a_script_waits(slurm: Slurm, tmp_path: Path) -> None:
    run = prepare(tmp_path)
    Path("collect.py").write_text(script(2))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NORNIR_POOLS_FOLDER": str(tmp_path / "runs")}
    with subprocess.Popen([sys.executable, "collect.py"], env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        until(lambda: [found.state for found in pools.runs()] == ["held"], "it does not attach", 30)
        submit("workers.sbatch", run, options=("--array=1-2",))
        assert waiting.communicate(timeout=60)[0] == SQUARES
    wait_for_end(slurm)  # the workers were told to end: none stays its minute


@lab_only
def test_a_run_that_is_not_there_is_told(slurm: Slurm) -> None:
    for template in ("function.sbatch", "workers.sbatch"):
        array = submit(template, "nowhere", options=("--array=1",))
        wait_for_end(slurm)
        name = template.partition(".")[0]
        assert "no run: 'nowhere'" in Path(f"{name}-{array}.log").read_text()


def test_a_pool_without_jobs_of_its_own_takes_any_number_of_tasks(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("prepared", executor="local", max_jobs=0, folder=str(tmp_path / "runs"))
    tasks = [pool.add_task(str(number), abs, -number) for number in range(200)]
    assert not tasks[0].done()
    run = pool.folder
    assert run is not None
    pool.detach()
    again = pools.attach(run)
    for name in ("a", "b"):
        call(sys.executable, "-m", "nornir_pools.cluster.worker", str(run), "--idle", "0", "--job", name)
    assert [task.wait_return(50) for task in again.tasks] == list(range(200))


# --- the site


def test_a_site_is_handed_on(tmp_path: Path) -> None:
    site = tmp_path / "mine.toml"
    site.write_text('slurm_account = "a b"\nslurm_partition = "short"\nslurm_setup = ["export A=1", "export B=\'2 3\'"]\n')
    say = ["bash", "-c", 'eval "$SITE_SETUP"; echo "$SBATCH_ACCOUNT|$SBATCH_PARTITION|${SBATCH_QOS-none}|$A|$B|$1"', "-", "x y"]
    assert call(str(PLACE / "with-site"), *say, SITE=str(site)) == "a b|short|none|1|2 3|x y\n"
    site.write_text('slurm_acount = "a"\n')
    assert "templates have no use for slurm_acount" in call(str(PLACE / "with-site"), *say, status=1, SITE=str(site))


def test_the_site_file_has_names_that_a_pool_takes_too(tmp_path: Path) -> None:
    text = re.sub(r"^# (slurm_\w+ = )", r"\1", (PLACE / "site.toml").read_text(), flags=re.MULTILINE)
    assert call(str(PLACE / "with-site"), "echo", "plain") == "plain\n"
    (tmp_path / "all.toml").write_text(text)
    call(str(PLACE / "with-site"), "true", SITE=str(tmp_path / "all.toml"))
    options.check_names(dict.fromkeys(re.findall(r"^(\w+) = ", text, re.MULTILINE)))


@lab_only
def test_a_template_gets_what_the_site_wants(slurm: Slurm, tmp_path: Path) -> None:
    site = tmp_path / "mine.toml"
    site.write_text('slurm_partition = "urgent"\nslurm_setup = ["export FROM_SITE=yes"]\n')
    line = 'echo "$FROM_SITE $SLURM_JOB_PARTITION"'
    Path("tasks.txt").write_text(f"{line}\n")
    words = ["sbatch", "--parsable", *SMALL, "--array=1", str(PLACE / "array.sbatch"), "tasks.txt"]
    array = call(str(PLACE / "with-site"), *words, SITE=str(site)).strip()
    wait_for_end(slurm)
    assert Path(f"array-{array}_1.log").read_text() == "yes urgent\n"
