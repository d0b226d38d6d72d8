"""How many jobs are wanted: a first wave, then more where they serve a waiting task sooner."""

from __future__ import annotations

import time
from typing import Any

from nornir_pools.cluster.jobs import FIRST_WAVE, FRUITLESS, KEPT_IDLE, Group, Job, count_jobs, patience, resting
from nornir_pools.options import Options


def group(unfinished: int, **facts: Any) -> Group:
    strict = facts.pop("strict", False)
    return Group(1, Options(tasks_per_job=1 if strict else None), unfinished=unfinished, **facts)


def jobs(pending: int = 0, busy: int = 0, idle: int = 0) -> list[Job]:
    return [
        *(Job(f"p{n}", 1) for n in range(pending)),
        *(Job(f"b{n}", 1, up=True) for n in range(busy)),
        *(Job(f"i{n}", 1, up=True, idle=True) for n in range(idle)),
    ]


SHORT = {"finished": 10, "seconds": 1.0, "start_delay": 5.0}  # a tenth of a second a task
LONG = {"finished": 10, "seconds": 100.0, "start_delay": 5.0}  # ten seconds a task


def test_few_tasks_have_a_job_each_at_once() -> None:
    assert group(0).wanted([], 256) == 0
    assert group(1).wanted([], 256) == 1
    assert group(FIRST_WAVE).wanted([], 256) == FIRST_WAVE


def test_first_wave_is_bounded_and_nothing_follows_before_a_job_is_up() -> None:
    assert group(1000).wanted([], 256) == FIRST_WAVE
    assert group(1000).wanted(jobs(pending=FIRST_WAVE), 256) == 0


def test_a_burst_of_tasks_is_a_first_wave_too_though_a_job_is_there() -> None:
    assert group(100, **SHORT).wanted(jobs(busy=1), 256) == FIRST_WAVE - 1
    assert group(3, **SHORT).wanted(jobs(idle=4), 256) == 0


def test_no_more_is_asked_for_while_a_submission_is_on_its_way() -> None:
    assert group(1000, launching=5).wanted([], 256) == 0
    assert group(1000, launching=5, **LONG).wanted(jobs(busy=5), 256) == 0


def test_room_is_never_exceeded() -> None:
    assert group(1000).wanted([], 3) == 3
    assert group(1000).wanted([], 0) == 0
    assert group(1000).wanted([], -2) == 0


def test_short_tasks_are_left_to_the_jobs_there_are() -> None:
    assert group(1000, **SHORT).wanted(jobs(busy=32), 256) == 0


def test_many_short_tasks_that_make_a_minute_a_job_get_more_jobs() -> None:
    assert group(100_000, **SHORT).wanted(jobs(busy=32), 256) == 32


def test_long_tasks_get_more_jobs_at_most_twice_as_many() -> None:
    assert group(1000, **LONG).wanted(jobs(busy=32), 256) == 32
    assert group(40, **LONG).wanted(jobs(busy=32), 256) == 8


def test_before_any_task_is_done_the_age_of_the_first_counts() -> None:
    now = time.monotonic()
    assert group(1000, first_up=now, start_delay=5.0).wanted(jobs(busy=32), 256) == 0
    assert group(1000, first_up=now - 10, start_delay=5.0).wanted(jobs(busy=32), 256) == 32


def test_each_task_has_its_own_job_where_that_is_asked_for() -> None:
    assert group(1000, strict=True).wanted([], 2000) == 1000
    assert group(1000, strict=True, **SHORT).wanted(jobs(busy=100, pending=100), 256) == 256


def test_after_a_refusal_because_of_a_limit_fewer_are_asked_for() -> None:
    assert group(1000, smaller=4).wanted([], 256) == 4
    assert group(1000, smaller=4, strict=True).wanted([], 256) == 4


def test_no_more_jobs_are_sent_after_some_in_a_row_have_done_nothing() -> None:
    assert group(5, fruitless=FRUITLESS - 1).wanted([], 256) == 5
    assert group(5, fruitless=FRUITLESS).wanted(jobs(pending=1), 256) == 0


def test_the_last_of_some_that_have_done_nothing_is_followed_if_it_has_left_by_its_own_will() -> None:
    assert group(5, fruitless=FRUITLESS).wanted([], 256) == 5


def test_tasks_of_dying_jobs_get_no_other_job_yet() -> None:
    assert group(5).wanted(jobs(busy=2), 256, dying=3) == 0
    assert group(6).wanted([], 256, dying=5) == 1


def test_nothing_is_surplus_while_every_job_has_work() -> None:
    assert group(10).surplus(jobs(pending=5, busy=5)) == ([], [])
    assert group(0).surplus([]) == ([], [])


def test_pending_jobs_beyond_the_waiting_tasks_are_surplus() -> None:
    live = jobs(pending=5, busy=5)
    assert group(7).surplus(live) == (live[2:5], [])
    assert group(5).surplus(live) == (live[:5], [])
    assert group(3).surplus(live) == (live[:5], [])


def test_idle_jobs_take_waiting_tasks_before_pending_ones() -> None:
    live = jobs(pending=3, idle=2)
    assert group(4).surplus(live) == (live[2:3], [])
    assert group(2).surplus(live) == (live[:3], [])


def test_some_idle_jobs_stay_and_the_rest_is_surplus() -> None:
    live = jobs(idle=KEPT_IDLE + 4)
    assert group(0).surplus(live) == ([], live[KEPT_IDLE:])
    assert group(KEPT_IDLE + 2).surplus(live) == ([], live[KEPT_IDLE + 2 :])


def test_states_are_asked_for_seldom_but_soon_where_something_is_going_on() -> None:
    fresh, waiting, working = Job("1", 0), Job("2", 0, state="PENDING"), Job("3", 0, state="RUNNING", up=True)
    told = Job("4", 0, state="RUNNING", up=True, interrupted_at=time.monotonic())
    assert patience([working, waiting], 10) == 10
    assert patience([waiting], 10) == 60
    assert patience([waiting, Job("5", 1, state="PENDING", up=True)], 10) == 10  # it has started since
    assert patience([waiting, fresh], 10) == 3
    assert patience([working, fresh], 10) == 10  # whose first state can wait
    assert patience([working, told], 10) == 1
    assert patience([], 10) == 10
    assert patience([waiting, fresh], 1) == 1


def test_job_that_will_take_no_more_tasks_is_not_live() -> None:
    assert Job("1", 1).live
    assert Job("1", 1, up=True, idle=True).live
    for change in ({"left": True}, {"unneeded": True}, {"interrupted_at": 0.0}, {"gone_since": 0.0}):
        assert not Job("1", 1, **change).live


def of_several(at_once: int, *, pending: int = 0, busy: int = 0, idle: int = 0) -> list[Job]:
    """The workers of jobs of that many: of jobs that have not started, of one whose first `idle` workers have no work."""
    workers = [Job(f"1+{number}" if number else "1", 1, up=True, at_once=at_once) for number in range(busy + idle)]
    for worker in workers[:idle]:
        worker.idle = True
    return [*(Job(f"p{number}", 1) for number in range(pending)), *workers]


def test_a_job_that_runs_several_tasks_counts_for_so_many() -> None:
    eight = Options(tasks_at_once=8)
    assert Group(1, eight, unfinished=8).wanted([], 256) == 1
    assert Group(1, eight, unfinished=9).wanted([], 256) == 2
    assert Group(1, eight, unfinished=24).wanted(of_several(8, pending=1), 256) == 2
    assert Group(1, eight, unfinished=24).wanted(of_several(8, busy=8), 256) == 2
    assert Group(1, eight, unfinished=8).wanted(of_several(8, busy=7), 256) == 1  # one has left
    assert Group(1, eight, unfinished=1000).wanted([], 256) == FIRST_WAVE
    assert Group(1, eight, unfinished=1000).wanted([], 3) == 3
    assert count_jobs(of_several(8, pending=2, busy=8)) == 3


def test_how_many_tasks_fit_is_known_from_the_first_job() -> None:
    auto = Group(1, Options(tasks_at_once="auto"), unfinished=16)
    assert auto.wanted([], 256) == 16
    auto.seen = 8
    live = of_several(8, pending=4, busy=8)
    assert auto.wanted(live, 256) == 0
    assert auto.surplus(live) == (live[1:4], [])


def test_a_job_stays_as_long_as_one_of_its_workers_has_work() -> None:
    eight = Options(tasks_at_once=8)
    live = of_several(8, busy=1, idle=7)
    assert Group(1, eight, unfinished=1).surplus(live, 0) == ([], [])
    assert resting(live) == []
    live = of_several(8, idle=8)
    assert resting(live) == ["1"]
    assert Group(1, eight).surplus(live, 0) == ([], live)
    assert Group(1, eight, unfinished=1).surplus(live, 0) == ([], [])
    assert Group(1, eight).surplus(live, 1) == ([], [])
