"""Options: names agree with submitit's, and what is wrong is said when it is given."""

from __future__ import annotations

import math
from typing import Any

import pytest
import submitit

import nornir_pools as pools
from nornir_pools import OptionError, PoolKindError
from nornir_pools.options import JOB_OPTIONS, POOL_OPTIONS, Options, check_names

from .script import run_script

# submitit's parameters that cannot be given: the pool decides about the size of its arrays, about signals and logs, and
# workers are started without srun, so that tasks can use it.
LEFT_OUT = {"array_parallelism", "signal_delay_s", "srun_args", "stderr_to_stdout", "use_srun"}
OURS = {"clusters"}  # of which submitit knows nothing


def test_job_options_are_submitits_parameters() -> None:
    special = {name.removeprefix("slurm_") for name in JOB_OPTIONS if name.startswith("slurm_")}
    assert special - OURS == submitit.SlurmExecutor._valid_parameters() - LEFT_OUT
    common = {name for name in JOB_OPTIONS if not name.startswith("slurm_")}
    assert common == set(submitit.AutoExecutor._typed_parameters()) - {"name", "stderr_to_stdout"}


def test_pool_options_are_attributes() -> None:
    for name in POOL_OPTIONS:
        assert hasattr(Options(), name)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("mem_bg", "mem_gb"), ("partition", "slurm_partition"), ("timeout", "timeout_min"), ("Executor", "executor")],
)
def test_unknown_name_leads_to_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(OptionError, match=f"unknown option '{wrong}'; did you mean '{right}'"):
        check_names({wrong: 1})


def test_name_that_is_near_to_none_leads_to_all() -> None:
    with pytest.raises(OptionError, match=r"there are: .*folder, .*slurm_wckey"):
        check_names({"zzzzzz": 1})


WRONG: list[tuple[str, Any]] = [
    ("budget_core_hours", 0),
    ("budget_core_hours", "much"),
    ("executor", "sulrm"),
    ("keep", "some"),
    ("max_child_mem_gb", 0),
    ("max_failures", 0),
    ("max_failures", 2.5),
    ("max_tasks_per_child", 0),
    ("max_jobs", -1),
    ("max_jobs", 2.5),
    ("max_jobs", True),
    ("idle_seconds", -1),
    ("idle_seconds", "long"),
    ("folder", 5),
    ("stop_after", -1),
    ("stop_after", True),
    ("stop_after", "never"),
    ("task_timeout", 0),
    ("tasks_at_once", 0),
    ("tasks_at_once", "some"),
    ("tasks_at_once", True),
    ("tasks_per_job", 2),
    ("timeout_min", 0),
    ("timeout_min", "1:00"),
    ("timeout_min", math.nan),
    ("mem_gb", -1),
    ("cpus_per_task", 1.5),
    ("cpus_per_task", True),
    ("gpus_per_node", -1),
    ("slurm_partition", 5),
    ("slurm_setup", "module load x"),
    ("slurm_setup", ["module load x", 5]),
    ("slurm_teardown", "rm x"),
    ("slurm_additional_parameters", ["--x"]),
]


def test_wrong_value_is_named_with_its_option() -> None:
    for name, value in WRONG:
        with pytest.raises(OptionError) as caught:
            Options.of({name: value})
        assert repr(name) in str(caught.value)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"slurm_comment": "a\n#SBATCH --uid=0"},
        {"slurm_partition": "a\rb"},
        {"slurm_additional_parameters": {"reservation": "a\nrm -rf x"}},
        {"slurm_job_name": "a\n"},
        {"python": "python\nrm x"},
    ],
)
def test_newline_that_would_be_a_line_of_the_script_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="must be of one line"):
        Options.of(given)


def test_setup_lines_may_be_any_shell_text() -> None:
    Options.of({"slurm_setup": ["if true\nthen module load x\nfi"]})


def test_wrong_default_names_its_place() -> None:
    with pytest.raises(OptionError, match="'mem_gb' in the file must be a number above 0"):
        Options.of({}, {"mem_gb": ("much", "the file")})


def test_earlier_default_goes_before_later_and_none_counts_as_not_given() -> None:
    options = Options.of({"mem_gb": None}, {"mem_gb": (1, "first")}, {"mem_gb": (2, "second"), "max_jobs": (7, "second")})
    assert (options.job["mem_gb"], options.max_jobs) == (1, 7)


def test_task_options_go_on_top_of_the_pools() -> None:
    options = Options.of({"mem_gb": 1, "slurm_partition": "p", "max_jobs": 5})
    mine = options.with_task({"mem_gb": 2, "tasks_per_job": 1})
    assert dict(mine.job) == {"mem_gb": 2, "slurm_partition": "p"}
    assert (mine.strict, mine.max_jobs) == (True, 5)
    assert (dict(options.job)["mem_gb"], options.strict) == (1, False)


def test_task_option_none_takes_the_pools_away() -> None:
    assert dict(Options.of({"mem_gb": 1}).with_task({"mem_gb": None}).job) == {}


@pytest.mark.parametrize("name", sorted(POOL_OPTIONS))
def test_option_of_the_pool_is_refused_for_a_task(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name}' belongs to the pool as a whole"):
        Options().with_task({name: getattr(Options(), name)})


def test_jobs_with_gpus_do_not_idle() -> None:
    assert Options().idle == 30
    for name in ("gpus_per_node", "slurm_gpus_per_node", "slurm_gpus_per_task", "slurm_gres"):
        assert Options.of({name: 1}).idle == 0
    assert Options.of({"gpus_per_node": 1, "idle_seconds": 7}).idle == 7


def test_pool_with_wrong_options_is_not_made() -> None:
    with pytest.raises(OptionError, match="did you mean 'mem_gb'"):
        pools.GetClusterPool("wrong", executor="debug", mem_bg=1)
    assert not pools.dictKnownPools


def test_known_pool_with_other_options_is_refused_and_named() -> None:
    pool = pools.GetClusterPool("known", executor="debug", mem_gb=1)
    assert pools.GetClusterPool("known") is pool
    assert pools.GetClusterPool("known", 5, mem_gb=1) is pool
    with pytest.raises(PoolKindError, match="'known' exists with mem_gb=1, and mem_gb=2 was asked for"):
        pools.GetClusterPool("known", mem_gb=2)
    assert dict(pool.options.job) == {"mem_gb": 1}


@pytest.mark.parametrize("kind", ["threads", "debug"])
def test_view_takes_options_and_refuses_unknown_ones(kind: str) -> None:
    pool: Any = pools.GetThreadPool("v", 1) if kind == "threads" else pools.GetClusterPool("v", executor="debug")
    task = pool.with_options(mem_gb=2).with_options(timeout_min=5).add_task("t", abs, -1)
    assert task.wait_return() == 1
    assert dict(task.options) == {"mem_gb": 2, "timeout_min": 5}
    assert dict(pool.add_task("t", abs, -1).options) == {}
    with pytest.raises(OptionError, match="did you mean 'mem_gb'"):
        pool.with_options(mem_bg=2)


def test_view_is_the_pool_in_all_else() -> None:
    pool = pools.GetThreadPool("v", 1)
    view = pool.with_options(mem_gb=2)
    assert (view.name, view.num_threads, view.tasks) == ("v", 1, pool.tasks)
    view.shutdown()
    assert pool.closed


def test_pool_that_could_not_be_made_does_not_trouble_the_end_of_the_script() -> None:
    done = run_script(
        """
        import nornir_pools as pools
        open("file", "w").close()
        kept = []
        for options in ({"folder": "file/runs"}, {"num_threads": 0}, {"mem_bg": 1}):
            try:
                pools.GetClusterPool("p", executor="local", **options)
            except pools.PoolError as error:
                kept.append(error)  # and with it, by its traceback, the half-made pool
        assert len(kept) == 3
        pools.ClosePools()
        """
    )
    assert (done.status, done.err) == (0, "")


def test_jobs_are_sent_with_the_environment_unless_that_is_forbidden() -> None:
    given: list[dict[str, str]] = [{}, {"export": "ALL"}, {"export": "A,B"}, {"export": "NONE"}, {"export": "nil"}]
    exported = [Options.of({"slurm_additional_parameters": more}).exports for more in given]
    assert exported == [True, True, True, False, False]
