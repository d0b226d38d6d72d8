"""``nornir-pools report``: a page of a run, as a browser shows it."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools.cli.report.lanes import lanes_of
from nornir_pools.cli.report.page import page_of
from nornir_pools.cluster.views import TaskView

from .. import browser, functions
from .conftest import Cli, made_view

pytestmark = pytest.mark.timeout(180)
EVIL = "</script><b>evil</b>&amp;\"'\u2028"


def ran(number: int, start: float, end: float, job: str = "7_0", node: str = "n1", **facts: Any) -> TaskView:
    facts = {"name": f"task {number}", "state": "succeeded", "cpu": 0.5, "memory": 50_000_000, **facts}
    return TaskView(number, added=1000.0, started=start, finished=end, job=job, node=node, **facts)


def with_script(page: str, script: str) -> Path:
    """The page with a script of the test's, which its own rules would not let run."""
    path = Path("with-script.html")
    policy = re.search(r"<meta http-equiv=[^>]*>", page)
    assert policy is not None
    path.write_text(page.replace(policy[0], "").replace("</body>", f"<script>{script}</script></body>"))
    return path


def text_of(page: str) -> str:
    """What a reader sees, tags and scripts left out."""
    return html.unescape(re.sub(r"<[^>]*>", "\n", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)))


# --- the command


def test_a_page_tells_of_the_run_and_its_failures(cli: Cli) -> None:
    name = cli.run_failing()["name"]
    told = cli("report", "last", "-o", "run.html")
    assert re.search(rf"^wrote run\.html \(\d+ kB\): 5 tasks of run {name}$", told, re.MULTILINE)
    assert re.search(r"^next: .*scp \S+:\S+/run\.html \.$", told, re.MULTILINE)
    page = Path("run.html").read_text()
    text = text_of(page)
    for words in (name, "closed", "2 succeeded", "3 failed", os.uname().nodename, "1 × exit status 3: cannot read tile 2"):
        assert words in text, words
    assert re.search(r"exit status 127\n.*no_such_program.*not found", text), "what it said"
    logs = {task["log"] for task in cli.data("tasks", name, "--failed")}
    assert logs
    assert all(log in text for log in logs)
    assert not re.search(r"""(?:src|href|url)\s*[=(]|@import|https?://""", page), "it needs something else"
    assert 'data-ready="' in browser.dom(Path("run.html")), "its script has not run"
    assert os.stat("run.html").st_mode & 0o777 == 0o666 & ~_umask()
    assert not list(Path().glob(".run.html*"))


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_without_a_name_the_page_is_called_as_the_run(here: Cli) -> None:
    name = here.run_failing()["name"]
    here("report", "list")
    assert Path(f"{name}.html").stat().st_size > 5000
    assert here("report", "list", "-o", "/dev/stdout").startswith("<!DOCTYPE html>")


def test_what_cannot_be_is_told(here: Cli) -> None:
    assert "there is no run" in here("report", "nothing", status=2).lower()
    here.run_failing()
    assert "no-folder/run.html cannot be written: No such file or directory" in here(
        "report", "last", "-o", "no-folder/run.html", status=3
    )


def test_a_run_that_still_goes_on(cli: Cli, running: Callable[[], subprocess.Popen[str]]) -> None:
    running()
    cli("report", "work", "-o", "run.html")
    text = text_of(browser.dom(Path("run.html")))
    for words in ("held by process", "so far", "2 running", "3 waiting", "1 succeeded", "that ran tasks, on ", "; 2 now"):
        assert words in text, words


def test_hostile_names_commands_and_errors_are_text(here: Cli) -> None:
    with pools.GetClusterPool("evil", 2, executor="local") as pool:
        pool.add_task(EVIL, functions.add, 1)
        pool.add_task("fails", functions.fail, ValueError, EVIL).exception()
        pool.add_process("<img src=x onerror=document.title=1>", "echo '</script><b>evil</b>\033[31m' >&2; exit 3").wait()
    here("report", "evil", "-o", "run.html")
    page = browser.dom(Path("run.html"))
    assert 'data-ready="' in page
    assert "<b>evil" not in page
    assert "<img" not in page
    assert "\033" not in page
    assert "</script><b>evil</b>&amp;\"'" in text_of(page)
    assert "exit status 3: </script><b>evil</b>" in text_of(page)


# --- the page


def test_a_run_without_tasks_and_one_whose_tasks_all_wait() -> None:
    page = Path("run.html")
    for tasks, words in (([], "The run has no tasks."), ([TaskView(1, "a", "waiting", added=1000.0)], "1 waiting")):
        page.write_text(page_of(made_view(tasks, "held")))
        text = text_of(browser.dom(page))
        assert words in text
        assert "No task has run yet" in text
        assert "Slowest" not in text


def test_tasks_that_went_down_with_their_job_are_told() -> None:
    error = "JobTimeoutError: out of time"
    lost = TaskView(1, "lost", "failed", error=error, cause="JobTimeoutError", job="7_0", added=1001.0, finished=1009.0)
    text = text_of(page_of(made_view([lost, ran(2, 1001, 1003)])))
    assert "1 × JobTimeoutError: out of time" in text
    assert [len(lane.bars) for lane in lanes_of([lost, ran(2, 1001, 1003, node="")], 1010)] == [2]


def test_failures_of_one_cause_stand_together_and_the_most_frequent_come_first() -> None:
    errors = [f"ValueError: tile {n} of 'a{n}' is bad\nmore of {n}" for n in range(1, 251)]
    tasks = [ran(n, 1001, 1002, state="failed", error=error) for n, error in enumerate(errors, 1)]
    tasks += [ran(251, 1001, 1002, state="failed", error="KeyError: 'x'")]
    text = text_of(page_of(made_view(tasks)))
    assert re.findall(r"^([\d,]+) × (.*)$", text, re.MULTILINE) == [
        ("250", "ValueError: tile 1 of 'a1' is bad (or nearly so)"),
        ("1", "KeyError: 'x'"),
    ]
    assert "more of 1\n" in text
    assert "245 more" in text
    assert "… and 50 more" in text


def test_workers_have_lines_of_their_own_node_by_node() -> None:
    tasks = [
        ran(1, 1001, 1003, job="7_1", node="n10"),
        ran(2, 1003, 1004, job="7_1", node="n10"),
        ran(3, 1001, 1002, job="7_2", node="n2"),
        ran(4, 1001.5, 1002, job="7_2", node="n2"),  # two at once
    ]
    lanes = lanes_of(tasks, 1010)
    assert [(lane.label, [bar.task.number for bar in lane.bars]) for lane in lanes] == [
        ("n2 7_2", [3]),
        ("n2 7_2", [4]),
        ("n10 7_1", [1, 2]),
    ]


def test_a_task_that_runs_stands_behind_the_last_one_of_its_worker() -> None:
    runs = TaskView(2, "runs", "running", job="7_0", node="n1", added=1000.0, started=1001.99)  # by another clock
    (lane,) = lanes_of([ran(1, 1001, 1002), runs], 1010)
    assert [(bar.start, bar.end) for bar in lane.bars] == [(1001, 1002), (1002.0, 1010)]
    assert "at most 1" in text_of(page_of(made_view([ran(1, 1001, 1002), runs], "held")))


def test_many_jobs_share_the_lines_of_their_node() -> None:
    tasks = [ran(n + 1, 1000 + n // 8, 1000.9 + n // 8, job=str(n)) for n in range(800)]
    assert [len(lane.bars) for lane in lanes_of(tasks, 2000)] == [100] * 8


def test_pointing_at_a_task_tells_what_it_was_and_dragging_looks_closer() -> None:
    tasks = [ran(1, 1000, 1040), ran(2, 1040, 1100, name="the <b>second</b>", command="align 2")]
    page = with_script(
        page_of(made_view(tasks)),
        """
        const chart = document.getElementById("timeline"), box = chart.getBoundingClientRect();
        function point(kind, share) {
          const at = {clientX: box.left + share * box.width, clientY: box.top + 5};
          chart.dispatchEvent(new PointerEvent(kind, at));
        }
        point("pointermove", 0.7);
        const told = document.getElementById("tip").textContent;
        point("pointerdown", 0.5);
        point("pointerup", 0.75);
        document.body.textContent = JSON.stringify({told, box: chart.getAttribute("viewBox")});
        """,
    )
    found = json.loads(text_of(re.sub("<head.*</head>", "", browser.dom(page), flags=re.DOTALL)))
    assert found["told"].splitlines() == [
        "2  the <b>second</b>",
        "align 2",
        "succeeded, 1m00s from +40 s, waited 40 s",
        "CPU 0.5 s, memory 50 MB",
        "job 7_0 on n1",
    ]
    assert found["box"] == "5000 0 2500 16"


def test_ten_thousand_tasks_make_a_page_that_a_browser_shows() -> None:
    command = "segment --channel 3 --sigma 1.5 --input /scratch/tiles/section-0001/tile.tif --output out.tif" * 2
    tasks = [
        ran(
            n + 1,
            1000 + n // 64,
            1001 + n // 64,
            f"7_{n % 64}",
            f"n{n % 8}",
            command=command,
            name=f"tile {n} {'long ' * 1000}",
        )
        for n in range(10_000)
    ]
    content = page_of(made_view(tasks))
    assert len(content.encode()) < 5_000_000
    page = Path("run.html")
    page.write_text(content)
    assert 'data-ready="64"' in browser.dom(page)


def test_dark_light_and_printed_pages_have_their_own_colours() -> None:
    page = Path("run.html")
    page.write_text(page_of(made_view([ran(1, 1001, 1003)])))
    light = browser.picture(page, Path("light.png"), "--blink-settings=preferredColorScheme=1")
    dark = browser.picture(page, Path("dark.png"), "--blink-settings=preferredColorScheme=0")
    assert light.startswith(b"\x89PNG")
    assert light != dark
    assert "@media print" in page.read_text()
