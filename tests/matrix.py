"""``python -m tests.matrix``: which feature works on which kind of site, as a table in Markdown.

One kind after the other, a lab of that kind is started (as root), the tests that stand for the features run on it, and it is
stopped. The column of the local fallback has those that run without SLURM.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

from .lab import LAB

ROOT = Path(__file__).resolve().parents[1]
SITES = {
    "cgroups, accounting": [],
    "cgroups only": ["--no-accounting"],
    "accounting only": ["--no-cgroup"],
    "neither": ["--no-cgroup", "--no-accounting"],
}
FEATURES = {
    "a job for each of some long tasks": ["test_jobs.py::test_long_tasks_have_an_array_element_each"],
    "few jobs for a thousand short tasks": ["test_jobs.py::test_a_thousand_short_tasks_are_taken_over_by_few_jobs"],
    "options of one task": ["test_jobs.py::test_options_of_a_task_make_a_job_of_that_size"],
    "the CPUs of the job": ["test_cpus.py::test_a_task_has_the_cpus_that_its_job_was_given"],
    "environment, folder and path travel": ["test_travels.py::test_folder_umask_path_and_environment_are_those_of_the_moment"],
    "a refusal by sbatch is told": ["test_jobs.py::test_a_refusal_is_told_at_once_and_the_next_task_tries_again"],
    "a job that somebody cancels is told": [
        "test_endings.py::test_a_running_job_that_somebody_cancels_is_an_error_and_not_tried_again"
    ],
    "a killed worker is replaced": ["test_endings.py::test_a_worker_that_is_killed_is_replaced_once_and_then_it_is_an_error"],
    "a preempted job is replaced": ["test_endings.py::test_a_preempted_job_is_replaced_without_waiting_for_its_requeue"],
    "a requeued job goes on": ["test_requeue.py::test_a_job_that_is_requeued_while_it_runs_costs_nothing_but_time"],
    "too much memory is told": ["test_endings.py::test_too_much_memory_is_told"],
    "the killing by the kernel is told with figures": [
        "test_memory.py::test_a_task_that_the_kernel_ends_is_a_memory_error_with_asked_and_used"
    ],
    "Ctrl-C ends script and jobs": ["test_interrupts.py::test_ctrl_c_ends_the_script_and_its_jobs"],
    "a script that died is taken over": ["test_attach.py::test_finished_and_unfinished_tasks_come_back"],
    "a list as an array; retry": ["test_templates.py::test_an_array_runs_each_line_and_retry_only_what_has_failed"],
    "doctor": ["../cli/test_doctor.py::test_it_is_told_line_by_line"],
    "several tasks at once in a job": [
        "test_whole_nodes.py::test_an_exclusive_job_of_eight_cpus_runs_eight_tasks_at_once",
        "test_whole_nodes.py::test_one_dies_and_the_others_do_not_notice",
    ],
    "workers in an allocation": ["test_allocation.py::test_tasks_run_on_all_nodes_and_nothing_is_submitted"],
    "a task's own time limit": [
        "test_task_timeout.py::test_a_task_at_its_limit_ends_with_all_it_has_started_and_its_job_goes_on"
    ],
    "steps and MPI programs of a task": ["test_sites.py::test_a_task_runs_steps_and_mpi_programs"],
    "jobs and pools of a task": ["test_sites.py::test_a_task_sends_jobs_of_its_own"],
    "a named cluster": ["test_sites.py::test_jobs_of_a_cluster_that_is_named_are_found_there"],
    "jobs without an environment": ["test_environments.py::test_where_jobs_are_sent_without_an_environment_tasks_have_it"],
    "modules": ["test_environments.py::test_a_module_function_of_the_users_shell_is_there_for_setup_lines"],
    "a container": ["test_environments.py::test_a_container_starts_python"],
    "another Python on the node is told": ["test_environments.py::test_another_minor_version_on_the_node_is_told_with_both"],
    "a home that cannot be written": ["test_disks.py::test_jobs_need_no_home_that_can_be_written"],
}
_LOCAL = "local fallback"


def outcomes(tests: Iterable[str], environment: dict[str, str], marked: str) -> dict[str, set[str]]:
    """What became of each test's cases: "passed", "failed", "skipped"."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
        ]
        named = [os.path.normpath(f"tests/cluster/{test}") for test in tests]
        subprocess.run(
            [*command, f"--junitxml={report}", "-m", marked, *named], env=environment, cwd=ROOT, check=False, stdout=sys.stderr
        )
        cases = ElementTree.parse(report).getroot().iter("testcase")
        found: dict[str, set[str]] = {}
        for case in cases:
            kinds = {child.tag for child in case} - {"properties", "system-out", "system-err"}
            word = "failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"
            found.setdefault((case.get("name") or "").partition("[")[0], set()).add(word)
        return found


def cell(tests: Iterable[str], found: dict[str, set[str]]) -> str:
    """A feature's cell: its tests have run, one has failed, or none does apply."""
    words = set().union(*(found.get(test.rpartition("::")[2], set()) for test in tests))
    return "**failed**" if "failed" in words else "run" if "passed" in words else "–"


def main() -> int:
    """Print the table; returns 1 if something has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--port-base", default="28800", help="the labs' (%(default)s)")
    options = parser.parse_args()
    tests = [test for each in FEATURES.values() for test in each]
    columns = {}
    for site, words in SITES.items():
        with tempfile.TemporaryDirectory(prefix="nornir-pools-matrix-") as folder:
            place = ["--dir", f"{folder}/lab"]
            subprocess.run([LAB / "start", *place, "--port-base", options.port_base, *words], check=True, stdout=sys.stderr)
            conf = {"SLURM_CONF": f"{folder}/lab/etc/slurm.conf", "NORNIR_POOLS_REQUIRE_SLURM": "1"}
            try:
                columns[site] = outcomes(tests, {**os.environ, **conf}, "slurm")
            finally:
                subprocess.run([LAB / "stop", *place, "--purge"], check=True, stdout=sys.stderr)
    columns[_LOCAL] = outcomes(tests, {**os.environ, "SLURM_CONF": "/nonexistent"}, "not slurm")
    version = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    rows = [[feature, *(cell(each, found) for found in columns.values())] for feature, each in FEATURES.items()]
    header = [version.replace("slurm-wlm", "SLURM"), *columns]
    for row in [header, ["---"] * len(header), *rows]:
        sys.stdout.write(f"| {' | '.join(row)} |\n")
    return int(any("**failed**" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
