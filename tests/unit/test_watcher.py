"""Tasks whose jobs end, whose files are seen late, or whose folder has a bad moment; a stand-in for SLURM tells of the jobs."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

import nornir_pools as pools
from nornir_pools import message
from nornir_pools import outcome as outcomes
from nornir_pools.cluster import audit, jobs, packs, slurm, submissions, supply, watcher
from nornir_pools.cluster import journal as journals
from nornir_pools.cluster import lag as lags
from nornir_pools.cluster.budget import Budget
from nornir_pools.cluster.failures import Failures
from nornir_pools.cluster.folder import write_all
from nornir_pools.cluster.history import History, PastJob, PastTask, Sending
from nornir_pools.cluster.lease import Lease
from nornir_pools.cluster.polling import States
from nornir_pools.cluster.spool import Spool, task_name
from nornir_pools.cluster.watcher import Watcher
from nornir_pools.options import Options
from nornir_pools.task import Task

from ..conftest import until
from ..staleness import StaleListings


class Scheduler:
    """Takes jobs and says of them what the test wants."""

    poll_seconds = 0.05

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.known: dict[str, str] = {}
        self.ended: dict[str, slurm.Ending] = {}
        self.asked: list[str] = []

    def start(self, options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        ids = [f"{len(self.sent) + index}_0" for index in range(1, count + 1)]
        self.sent += ids
        self.known.update(dict.fromkeys(ids, "RUNNING"))
        return ids

    def states(self, age: float = 0.0) -> States:
        return States(self.known, time.monotonic())

    def cancel(self, jobs: Iterable[str], *, pending_only: bool = False) -> None:
        if not pending_only:
            self.end(*jobs, state="CANCELLED")

    def end(self, *ids: str, state: str, **facts: Any) -> None:
        """Jobs have ended."""
        for job in ids:
            self.known[job] = state
            self.ended[job] = slurm.Ending(state, **facts)

    def note_up(self, job: str, pid: int, born: str, bare: bool = False) -> None:
        pass

    def find(self, name: str) -> list[str]:
        return []

    def resume(self, history: History) -> None:
        pass

    def cancel_doubtful(self) -> None:
        pass

    def endings(self, states: Mapping[str, str]) -> dict[str, slurm.Ending]:
        self.asked += states
        return {job: self.ended.get(job, slurm.Ending(state if slurm.is_over(state) else "")) for job, state in states.items()}

    def close(self) -> None:
        pass


class Run:
    """A run with a watcher, and what the test does in it as a worker, which sees the folder as it is."""

    def __init__(self, folder: Path, limit: int, core_seconds: float | None) -> None:
        self.scheduler = Scheduler()
        self.spool = Spool.create(folder)
        self.there = Spool(folder)
        self.tasks: list[Task] = []
        self.done: list[tuple[Task, outcomes.Outcome]] = []
        self.watcher = Watcher(
            "p",
            self.spool,
            Lease(self.spool),
            self.scheduler,
            limit,
            self._finish,
            Failures("p", 0, None),
            keep_all=True,
            budget=Budget("p", self.spool.path.name, core_seconds and core_seconds / 3600),
        )
        self.watcher.start()
        self.words = 0

    def _finish(self, task: Task, outcome: outcomes.Outcome | None) -> None:
        assert outcome is not None
        self.done.append((task, outcome))

    def add(self, count: int = 1, **options: Any) -> None:
        group = self.watcher.ledger.group_for(Options.of(options))
        for _ in range(count):
            task = Task(None, f"task {len(self.tasks) + 1}", len, (), {})  # type: ignore[arg-type]
            self.tasks.append(task)
            self.watcher.expect(len(self.tasks), task, group)
            self.spool.publish(group.number, task_name(len(self.tasks)), [b"call"])

    def job(self, number: int = 1) -> str:
        """The id of the job that was sent as the n-th."""
        until(lambda: len(self.scheduler.sent) >= number, "no job is sent")
        return self.scheduler.sent[number - 1]

    def say(self, job: str, word: str, restart: int = 0, **facts: Any) -> None:
        self.words += 1
        worker = f"{job}-r{restart}"
        self.there.say(worker, self.words, word, {**self._facts(job, restart), **facts})

    def _facts(self, job: str, restart: int = 0) -> dict[str, Any]:
        worker = f"{job}-r{restart}"
        return {"job": job, "worker": worker, "host": "n1", "node": "n1", "group": 0, "pid": 1, "born": "1"}

    def work(self, job: str, number: int) -> None:
        """What a worker does that runs one task and leaves."""
        self.up(job)
        self.claim(job, number)
        self.deliver(job, number, number)
        self.say(job, "left", reason="done")
        self.scheduler.end(job, state="COMPLETED")

    def up(self, job: str, restart: int = 0) -> None:
        self.there.make_folder(f"claimed/{job}-r{restart}")
        self.say(job, "up", restart)

    def claim(self, job: str, number: int, attempt: int = 0) -> None:
        self.there.make_folder(f"claimed/{job}-r0")
        assert self.there.claim(0, "0000", task_name(number, attempt), f"{job}-r0")

    def deliver(self, job: str, number: int, value: Any, attempt: int = 0) -> None:
        outcome = outcomes.Outcome(value=value, facts=self._facts(job))
        draft = self.there.draft("inbox", message.pack(*outcomes.freeze(outcome, f"task {number}")), "w")
        self.there.deliver(draft, task_name(number, attempt), f"{job}-r0")

    def values(self, seconds: float = 10) -> list[Any]:
        """What became of the tasks: values and errors."""
        until(lambda: len(self.done) >= len(self.tasks), "tasks are not done", seconds)
        found: dict[Any, Any] = {}
        for task, outcome in self.done:
            read = outcome.value.read() if isinstance(outcome.value, outcomes.Unread) else outcome
            found[task] = read.value if read.error is None else read.error
        return [found[task] for task in self.tasks]

    def journal(self, kind: str) -> list[dict[str, Any]]:
        lines = map(json.loads, filter(None, (self.spool.path / "journal.jsonl").read_text().splitlines()))
        return [line for line in lines if line["t"] == kind]

    def close(self) -> None:
        self.watcher.ledger.finish_all(pools.PoolError("the test is over"))
        self.watcher.close(wait=True)
        self.there.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Makes runs in which all that is waited for takes a fortieth of its time."""
    monkeypatch.setattr(lags, "GRACE", 0.125)
    monkeypatch.setattr(lags, "LONGEST_GRACE", 1.875)
    monkeypatch.setattr(supply, "UNSEEN", 0.25)
    monkeypatch.setattr(supply, "STOPPING", 0.1)
    monkeypatch.setattr(jobs, "FIRST_LOOK", 0.05)
    made: list[Run] = []

    def make(limit: int = 4, core_seconds: float | None = None) -> Run:
        made.append(Run(tmp_path / f"run{len(made)}", limit, core_seconds))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., Run]
STALE = 1.5  # seconds: a minute, a fortieth as long


# --- a bad moment of the folder


def test_a_fault_while_one_outcome_is_read_keeps_none_of_the_others(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run()
    here.add(5)

    def read(self: Spool, name: str, **more: Any) -> tuple[bytearray, float]:
        if name.startswith("inbox/0000003") and len(here.done) < 4:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, name, **more)

    real = Spool.read_dated
    monkeypatch.setattr(Spool, "read_dated", read)
    job = here.job()
    for number in range(1, 6):
        here.claim(job, number)
        here.deliver(job, number, number)
    assert here.values() == [1, 2, 3, 4, 5]
    assert here.done[-1][0] is here.tasks[2]
    assert sorted(entry["n"] for entry in here.journal("done")) == [1, 2, 3, 4, 5]


def test_outcomes_wait_for_a_journal_that_is_full_and_its_lines_stay_whole(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run()
    here.add(3)
    job = here.job()
    until(lambda: bool(here.journal("jobs")), "the jobs are not journalled")
    until(lambda: not here.watcher.supply.hear(), "the scheduler has not answered")
    full = iter(range(4))

    def write(fd: int, parts: list[bytes]) -> None:
        if b'"done"' in parts[0] and next(full, None) is not None:
            os.write(fd, parts[0][:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, parts)

    real = write_all
    monkeypatch.setattr(journals, "write_all", write)
    for number in (1, 2, 3):
        here.claim(job, number)
        here.deliver(job, number, b"x" * 70_000)  # large ones leave the inbox before they are journalled
    assert here.values() == [b"x" * 70_000] * 3
    assert next(full, None) is None
    whole = []
    for line in (here.spool.path / "journal.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            whole.append(json.loads(line))
    done = [entry for entry in whole if entry["t"] == "done"]
    assert sorted(entry["n"] for entry in done) == [1, 2, 3]
    assert all(len(here.spool.read(entry["file"])) > 70_000 for entry in done)


def test_a_pack_that_took_half_of_an_outcome_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool.create(tmp_path / "run")

    def write(fd: int, parts: list[bytes]) -> None:
        real(fd, [parts[0][:5]])
        raise OSError(errno.ENOSPC, "No space left on device")

    real = write_all
    with monkeypatch.context() as patch:
        patch.setattr(packs, "write_all", write)
        with pytest.raises(pools.SpoolError, match=f"{spool.path} cannot be written"):
            spool.keep("0000001.0.w", b"first outcome")
    place = spool.keep("0000001.0.w", b"second outcome")
    assert spool.read(place["file"])[place["at"] :] == b"second outcome"
    spool.close()


def test_what_the_scheduler_has_told_is_not_forgotten_over_a_fault(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(1)
    here.add(retries=0)
    job = here.job()
    here.up(job)
    here.claim(job, 1)
    faults = iter(range(3))

    def names(self: Spool, folder: str, **how: Any) -> list[str]:
        if self is here.spool and folder == "claimed" and here.scheduler.asked and next(faults, None) is not None:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(self, folder, **how)

    real = Spool.names
    monkeypatch.setattr(Spool, "names", names)
    monkeypatch.setattr(audit.Audit, "look", lambda self, states: [])  # which would find it later
    here.scheduler.end(job, state="FAILED", exit_code="0:9")
    (error,) = here.values()
    assert isinstance(error, pools.WorkerDiedError)
    assert next(faults, None) is None


def test_a_task_that_is_given_up_has_its_error_though_that_cannot_be_journalled(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run(1)
    here.add(retries=0)
    job = here.job()
    here.up(job)
    here.claim(job, 1)

    def note(self: Spool, **entry: Any) -> None:
        if entry["t"] == "given up":
            raise pools.SpoolError("no room", errno=errno.ENOSPC)
        real(self, **entry)

    real = Spool.note
    monkeypatch.setattr(Spool, "note", note)
    here.scheduler.end(job, state="FAILED", exit_code="0:9")
    assert isinstance(here.values()[0], pools.WorkerDiedError)


def test_a_damaged_outcome_is_an_error_of_its_task_alone(run: Make) -> None:
    here = run()
    here.add(3)
    job = here.job()
    here.claim(job, 1)
    here.there.deliver(here.there.draft("inbox", [b"half an outc"], "w"), task_name(1), f"{job}-r0")
    here.claim(job, 2)
    here.there.write(f"claimed/{job}-r0/{task_name(2)}", message.pack({"name": "task 2"}, [b"call"]), "w")
    here.there.deliver(f"claimed/{job}-r0/{task_name(2)}", task_name(2), f"{job}-r0")
    here.claim(job, 3)
    here.deliver(job, 3, "whole")
    *errors, value = here.values()
    for error, why in zip(errors, ("message", "no room"), strict=True):
        assert isinstance(error, pools.SpoolError)
        assert error.folder == str(here.spool.path)
        assert why in str(error)
    assert value == "whole"


def test_faults_that_may_pass_are_borne_longer_than_others(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PATIENCE", 0.1)
    monkeypatch.setattr(watcher, "LONG_PATIENCE", 1.5)
    for number, least in ((errno.EACCES, 0.0), (errno.EIO, 1.0)):
        here = run()
        here.add()
        begun = time.monotonic()
        with monkeypatch.context() as patch:
            fault = OSError(number, os.strerror(number))
            patch.setattr(Spool, "names", lambda self, *args, fault=fault, **how: raise_(fault))
            (error,) = here.values()
        assert isinstance(error, pools.SpoolError)
        assert str(here.spool.path) in str(error)
        assert time.monotonic() - begun > least


def raise_(error: BaseException) -> NoReturn:
    raise error


def test_a_file_that_no_worker_has_delivered_is_let_be(run: Make) -> None:
    here = run()
    for name in ("notes.txt", "0000001.0", "+strange"):
        (here.spool.path / "inbox" / name).write_text("from somebody else")
    assert not here.spool.unanswered()
    here.add()
    assert list(here.spool.unanswered()) == ["0000001.0"]
    here.work(here.job(), 1)
    assert here.values() == [1]


# --- listings that are old


def test_a_claim_that_is_shown_but_gone_is_no_reason_to_fail_its_task(run: Make) -> None:
    for options in ({"retries": 0}, {"retries": 5}):
        here = run(1)
        here.add(**options)
        job = here.job()
        here.up(job)
        here.claim(job, 1)
        stale = StaleListings(here.spool, 1000)
        for folder in ("inbox", "claimed", f"claimed/{job}-r0"):
            here.spool.names(folder)
        here.deliver(job, 1, "value")
        here.scheduler.end(job, state="FAILED", exit_code="0:9")
        until(functools.partial(here.journal, "ended"), "the job is not seen to")  # type: ignore[arg-type]
        stale.seconds = 0
        assert here.values() == ["value"]
        assert not here.journal("again")


@pytest.mark.parametrize("retries", [0, 1])
def test_a_claim_that_shows_after_its_job_was_buried_is_judged_by_how_that_ended(run: Make, retries: int) -> None:
    here = run(1)
    StaleListings(here.spool, STALE)
    here.spool.names("claimed")
    here.add(retries=retries)
    job = here.job()
    here.up(job)
    here.claim(job, 1)
    here.scheduler.end(job, state="FAILED", exit_code="0:9")
    until(lambda: bool(here.journal("ended")), "the job is not buried")
    assert here.journal("ended")[0]["claims"] == []
    if retries:
        until(lambda: bool(here.journal("again")), "it is not tried again")
        second = next(job for job in here.scheduler.sent if here.scheduler.known[job] == "RUNNING")
        here.claim(second, 1, attempt=1)
        here.deliver(second, 1, "again", attempt=1)
        assert here.values() == ["again"]
    else:
        (error,) = here.values()
        assert isinstance(error, pools.WorkerDiedError)
        assert error.job_id == job
    assert here.scheduler.asked.count(job) == 1


def test_jobs_whose_words_and_outcomes_are_late_are_not_taken_for_fruitless_ones(run: Make) -> None:
    here = run(2)
    StaleListings(here.spool, STALE)
    here.spool.names("inbox")
    here.add(8, tasks_per_job=1)
    for number in range(1, 9):
        here.work(here.job(number), number)
    assert here.values() == list(range(1, 9))


@pytest.mark.parametrize("logs", [True, False])
def test_jobs_that_do_nothing_and_write_no_log_do_not_see_the_folder(run: Make, logs: bool) -> None:
    here = run(1)
    here.add()
    for number in range(1, jobs.FRUITLESS + 1):
        job = here.job(number)
        if logs:
            (here.spool.path / "jobs" / f"{job}.log").write_text("no such python")
        here.scheduler.end(job, state="FAILED", exit_code="0:53")
    (error,) = here.values()
    assert isinstance(error, pools.WorkerDiedError if logs else pools.SpoolError)
    if isinstance(error, pools.SpoolError):
        assert error.folder == str(here.spool.path)
        assert "not seen by the nodes" in str(error)


def test_workers_are_told_how_many_they_are_to_the_next_power_of_two(run: Make) -> None:
    here = run(limit=8)
    here.add(6)
    until(lambda: len(here.scheduler.sent) == 6, "no jobs are sent")
    for number, (job, told) in enumerate(zip(here.scheduler.sent, (1, 2, 4, 4, 8, 8), strict=True), 1):
        here.up(job)
        until(functools.partial(told_of, here, number, told), f"{number} workers are not told")
    for job in here.scheduler.sent[1:]:
        here.say(job, "left", reason="idle")
    until(lambda: here.there.offers(0)[1] == {"crowd.1"}, "who stays is not told that it is alone")


def test_a_job_that_starts_while_the_scheduler_answers_is_not_taken_for_a_requeued_one(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run()
    answered: list[bool] = []

    def states(age: float) -> States:
        asked = time.monotonic()
        if not here.scheduler.sent or answered:
            return States(here.scheduler.known, asked)
        job = here.scheduler.sent[0]
        here.up(job)
        here.claim(job, 1)
        until(lambda: here.watcher.supply.busy_workers == 1, "it is not heard that it is up")
        answered.append(True)
        return States({job: "PENDING"}, asked)  # as it was when it was asked for

    monkeypatch.setattr(here.scheduler, "states", states)
    here.add()
    until(lambda: bool(answered), "the scheduler is not asked")
    until(lambda: here.watcher.supply.jobs[here.job()].state == "RUNNING", "it is not asked again")
    here.deliver(here.job(), 1, "value")
    assert here.values() == ["value"]
    assert not here.scheduler.asked
    assert len(here.scheduler.sent) == 1


def test_a_question_that_has_waited_for_its_turn_is_not_followed_sooner(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here, asked = run(), list[float]()
    ask = supply.Supply._ask_states

    def states(age: float) -> States:
        asked.append(time.monotonic())
        return States(here.scheduler.known, asked[-1])

    def late(self: supply.Supply, age: float) -> Any:
        if not asked:
            time.sleep(0.4)  # another order takes so long
        return ask(self, age)

    monkeypatch.setattr(here.scheduler, "poll_seconds", 0.5)
    monkeypatch.setattr(here.scheduler, "states", states)
    monkeypatch.setattr(supply.Supply, "_ask_states", late)
    here.add()
    here.up(here.job())
    until(lambda: len(asked) >= 2, "it is not asked again")
    assert asked[1] - asked[0] >= 0.5
    here.claim(here.job(), 1)
    here.deliver(here.job(), 1, "value")
    assert here.values() == ["value"]


def told_of(here: Run, up: int, told: int) -> bool:
    words = {f"crowd.{told}"} if told > 1 else set()
    return here.watcher.supply.busy_workers == up and here.there.offers(0)[1] == words


def test_jobs_that_somebody_cancels_are_not_replaced_before_it_is_known_why_they_ended(run: Make) -> None:
    here = run()
    here.add(2, retries=0)
    ids = [here.job(1), here.job(2)]
    for number, job in enumerate(ids, 1):
        here.up(job)
        here.claim(job, number)
    until(lambda: all(job.up for job in here.watcher.supply.jobs.values()), "they are not up")
    for job in ids:
        here.say(job, "left", reason="interrupted")
    until(lambda: all(job.interrupted_at for job in here.watcher.supply.jobs.values()), "they are not heard")
    time.sleep(0.1)  # several rounds of the watcher
    here.scheduler.end(*ids, state="CANCELLED")
    assert all(isinstance(error, pools.JobCancelledError) for error in here.values())
    assert here.scheduler.sent == ids


def test_jobs_that_did_nothing_are_no_reason_to_send_none_when_the_last_other_one_has_left(run: Make) -> None:
    here = run()
    here.add(4)
    until(lambda: len(here.scheduler.sent) == 4, "no jobs are sent")
    for job in here.scheduler.sent:
        here.up(job)
    until(lambda: all(job.up for job in here.watcher.supply.jobs.values()), "they are not up")
    here.scheduler.end(*here.scheduler.sent[:3], state="FAILED")
    until(lambda: here.watcher.ledger.groups[0].fruitless == 3, "they are not judged")
    here.say(here.scheduler.sent[3], "left", reason="bad_node", handed_back=1)
    here.work(here.job(5), 1)
    until(lambda: len(here.done) == 1, "it is not done")


def test_words_that_come_after_the_end_of_their_job_do_not_raise_it(run: Make) -> None:
    here = run(1)
    StaleListings(here.spool, 1.0)
    here.spool.names("inbox")
    here.add(2)
    job = here.job()
    here.up(job)
    here.scheduler.end(job, state="NODE_FAIL")
    until(lambda: bool(here.journal("ended")), "the job is not buried")
    until(lambda: bool(here.journal("up")), "its word does not come")
    assert job not in here.watcher.supply.jobs
    here.up(job, restart=1)  # but this is a worker that nobody has seen dead
    until(lambda: job in here.watcher.supply.jobs, "its second worker is not known")


def test_the_lag_is_measured_and_makes_the_grace_longer(run: Make) -> None:
    here = run(2)
    here.add(2, retries=0)
    first, second = here.job(1), here.job(2)
    StaleListings(here.spool, 1.0)
    here.spool.names("inbox")
    for job, number in ((first, 1), (second, 2)):
        here.up(job)
        here.claim(job, number)
    here.deliver(first, 1, "value")
    until(lambda: bool(here.done), "the outcome does not come")
    lag = here.watcher._inbox._lag
    assert 0.2 < lag.longest <= 1.1
    here.scheduler.end(second, state="FAILED")
    begun = time.monotonic()
    assert isinstance(here.values()[1], pools.WorkerDiedError)
    assert time.monotonic() - begun >= min(3 * lag.longest, lags.LONGEST_GRACE) - 0.2


# --- claims and tasks that nobody answers for


def test_a_claim_of_a_worker_that_had_left_and_died_is_found(run: Make) -> None:
    here = run(1)
    here.add()
    job = here.job()
    here.up(job)
    here.say(job, "left", reason="idle")
    here.claim(job, 1)  # its last look
    here.scheduler.end(job, state="FAILED", exit_code="0:9")
    until(lambda: bool(here.journal("again")), "nobody misses the task")
    assert here.journal("again")[0]["job"] == job
    second = here.scheduler.sent[-1]
    here.claim(second, 1, attempt=1)
    here.deliver(second, 1, "again", attempt=1)
    assert here.values() == ["again"]


def test_a_job_that_the_scheduler_knows_keeps_its_claims_though_the_pool_does_not_know_it(run: Make) -> None:
    here = run(1)
    here.add()
    here.job()
    here.scheduler.known["99_0"] = "RUNNING"
    here.claim("99_0", 1)
    rounds = count_calls(here.scheduler.states)
    here.scheduler.states = rounds  # type: ignore[method-assign]
    until(lambda: rounds.calls > 20, "states are not asked for")
    here.deliver("99_0", 1, "value")
    assert here.values() == ["value"]
    assert not here.journal("again")


def test_folders_of_workers_that_have_ended_are_removed_with_claims_that_are_over(run: Make) -> None:
    here = run(2)
    here.add(2)
    first, second = here.job(1), here.job(2)
    for job, number in ((first, 1), (second, 2)):
        here.up(job)
        here.claim(job, number)
    here.deliver(first, 1, "value")
    here.there.write(f"claimed/{first}-r0/{task_name(1)}", [b"left behind"], who="w")
    left, kept = (here.there.draft("inbox", [b"outcome"], f"{job}-r0") for job in (first, second))
    here.say(first, "left", reason="idle")
    here.scheduler.end(first, state="COMPLETED")
    until(lambda: here.there.names("claimed") == [f"{second}-r0"], "the folder stays")
    assert here.there.claims(f"{second}-r0") == [task_name(2)]
    drafts = here.there.names("inbox", drafts=True)
    assert os.path.basename(left) not in drafts
    assert os.path.basename(kept) in drafts
    here.deliver(second, 2, "value")
    assert here.values() == ["value", "value"]


def test_a_task_that_is_in_no_folder_is_an_error_in_the_end(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lags, "LONGEST_GRACE", 0.5)
    here = run(1)
    here.add(3)
    job = here.job()
    here.up(job)
    here.claim(job, 2)
    here.say(job, "idle")  # an idle worker may have claimed a task a moment ago
    here.there.remove("todo/0/0000/" + task_name(1))
    until(lambda: bool(here.done), "nobody misses the task")
    assert [task for task, _ in here.done] == here.tasks[:1]
    error = here.done[0][1].error
    assert isinstance(error, pools.JobLostError)
    assert f"is gone from the run's folder {here.spool.path}" in str(error)


def test_a_task_is_not_missed_while_a_job_is_busy(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lags, "LONGEST_GRACE", 0.2)
    here = run(1)
    here.add()
    job = here.job()
    here.up(job)
    until(lambda: bool(here.journal("up")), "its word does not come")
    here.there.remove("todo/0/0000/" + task_name(1))
    rounds = count_calls(here.scheduler.states)
    here.scheduler.states = rounds  # type: ignore[method-assign]
    until(lambda: rounds.calls > 20, "states are not asked for")
    assert not here.done
    here.say(job, "idle")
    assert isinstance(here.values()[0], pools.JobLostError)


class count_calls:  # noqa: N801 - stands for a function
    def __init__(self, function: Callable[[float], States]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, age: float = 0.0) -> States:
        self.calls += 1
        return self.function(age)


# --- the budget


def spend(here: Run, job: str) -> None:
    """Wait until the job has used up the budget."""
    until(lambda: bool(here.journal("stopped")), "the pool does not stop")
    assert here.watcher.ledger.budget.used > 0
    assert here.scheduler.known[job] == "RUNNING"


def polls(here: Run, count: int) -> None:
    """Wait for so many rounds of the watcher."""
    rounds: list[None] = []
    heed = here.watcher.ledger.heed_budget

    def counted(jobs: Mapping[str, Any]) -> None:
        rounds.append(None)
        heed(jobs)

    here.watcher.ledger.heed_budget = counted  # type: ignore[method-assign]
    until(lambda: len(rounds) > count, "the watcher sleeps", 20)
    here.watcher.ledger.heed_budget = heed  # type: ignore[method-assign]


def test_once_the_budget_is_spent_what_waits_fails_and_what_runs_goes_on(run: Make) -> None:
    here = run(1, core_seconds=20)
    here.add(5, cpus_per_task=40)
    job = here.job()
    begun = time.monotonic()
    here.up(job)
    here.claim(job, 1)
    spend(here, job)
    assert time.monotonic() - begun < 10  # of one CPU it would be twenty seconds
    until(lambda: len(here.done) == 4, "those that wait do not fail")
    assert here.tasks[0] not in [task for task, _ in here.done]
    here.deliver(job, 1, "value")
    value, *errors = here.values()
    assert value == "value"
    for error in errors:
        assert isinstance(error, pools.BudgetSpentError)
        assert (error.done, error.left) == (0, 5)
        assert error.used >= error.budget == 20 / 3600
    with pytest.raises(pools.BudgetSpentError, match="nornir-pools retry run0 --failed"):
        here.watcher.ledger.failures.check()
    (stopped,) = here.journal("stopped")
    assert (stopped["kind"], stopped["error"]) == ("BudgetSpentError", str(errors[0]))
    assert {entry["n"] for entry in here.journal("given up")} == {2, 3, 4, 5}
    assert sorted(here.spool.failed_calls()) == [2, 3, 4, 5]  # they can be run again
    here.say(job, "idle")
    until(lambda: f"quit.{job}-r0" in here.spool.names("todo/0"), "the idle job is not sent away")
    here.watcher.close(wait=True)
    assert here.scheduler.known[job] == "CANCELLED"  # it had not yet heard of it


def test_a_task_that_loses_its_job_after_the_budget_was_spent_is_not_waited_for(run: Make) -> None:
    here = run(1, core_seconds=0.2)
    here.add(1, retries=5)
    job = here.job()
    here.up(job)
    here.claim(job, 1)
    spend(here, job)
    here.scheduler.end(job, state="PREEMPTED")
    (error,) = here.values()
    assert here.journal("again")
    assert isinstance(error, pools.BudgetSpentError)
    assert here.scheduler.sent == [job]


def test_a_job_counts_until_its_worker_leaves_or_it_is_gone(run: Make) -> None:
    here = run(2, core_seconds=3600)
    here.add(3)
    budget = here.watcher.ledger.budget
    first, second = here.job(1), here.job(2)
    here.up(first)
    here.up(second)
    here.claim(first, 1)
    here.claim(second, 2)
    until(lambda: budget.used * 3600 > 0.4, "what is used is not added up")
    here.say(first, "left", reason="done")
    until(lambda: bool(here.journal("left")), "it has not left")
    here.scheduler.end(second, state="FAILED", exit_code="0:9")
    until(lambda: bool(here.journal("ended")), "it is not gone")
    used = budget.used
    assert used * 3600 < 10
    polls(here, 5)
    assert budget.used == pytest.approx(used, abs=1e-6)


def test_no_more_jobs_are_sent_than_the_rest_of_the_budget_can_pay_for(run: Make) -> None:
    here = run(1, core_seconds=25)
    here.add(1)
    here.claim(here.job(), 1)
    group = here.watcher.ledger.groups[0]
    group.seconds, group.finished = 10.0, 1  # a task has taken so long
    here.watcher.supply._limit = 100
    here.add(20)
    until(lambda: len(here.scheduler.sent) >= 3, "no more jobs are sent")
    polls(here, 20)
    assert len(here.scheduler.sent) == 3


# --- what is damaged, or meant for somebody else


def test_a_damaged_word_and_one_of_a_group_that_there_is_not_end_nothing(
    run: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "PATIENCE", 0.1)
    here = run(1)
    here.add()
    job = here.job()
    here.there.write("inbox/+lost-r0.1.up", [b""], "w")
    here.say("9", "up", group=3)
    until(lambda: not here.there.inbox(), "they are not taken")
    polls(here, 5)
    here.work(job, 1)
    assert here.values() == [1]
    assert "+lost-r0.1.up, is damaged, and passed over" in caplog.text
    assert "the worker of job 9 on n1 is there for group 3 of the run run0, which has groups up to 0" in caplog.text


def test_outcomes_are_complete_though_it_cannot_be_written_down_that_the_pool_stops_over_one(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run(1)
    here.add(4)
    job = here.job()
    ledger = here.watcher.ledger
    complete, faults = ledger.complete, iter([True])

    def fail_once(task: Task, outcome: outcomes.Outcome) -> None:
        complete(task, outcome)
        if next(faults, False):
            raise pools.SpoolError("no room", errno=errno.ENOSPC)

    monkeypatch.setattr(ledger, "complete", fail_once)
    stale = StaleListings(here.spool, 1000)
    here.spool.names("inbox")
    for number in range(1, 5):
        here.claim(job, number)
        here.deliver(job, number, number)
    stale.seconds = 0  # all of them are shown at once
    assert here.values() == [1, 2, 3, 4]
    assert next(faults, None) is None


def test_a_fault_at_the_end_leaves_nobody_waiting(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(1)
    monkeypatch.setattr(here.watcher.supply, "end", lambda *args, **how: raise_(ValueError("strange")))
    here.watcher.close(wait=True)
    here.watcher.supply._talker.close()
    assert here.spool.fd < 0  # it has come to its last line


def test_a_strange_fault_over_the_end_of_a_job_is_an_error_and_no_hang(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PATIENCE", 0.1)
    here = run(1)
    here.add()
    job = here.job()
    here.up(job)
    here.claim(job, 1)
    monkeypatch.setattr(here.watcher.supply.endings, "see_to", lambda *how: raise_(TypeError("strange")))
    here.scheduler.end(job, state="FAILED", exit_code="0:9")
    (error,) = here.values()
    assert isinstance(error, pools.SpoolError)
    assert "cannot go on: strange" in str(error)


def test_a_run_is_let_go_though_what_was_being_sent_cannot_be_written_down(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(1)
    monkeypatch.setattr(here.watcher.supply, "hear", lambda: raise_(OSError(errno.ESTALE, "Stale file handle")))
    here.watcher.detach()
    assert here.spool.fd < 0


def test_jobs_are_cancelled_whatever_becomes_of_those_in_doubt(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(1)
    here.add()
    job = here.job()
    here.up(job)
    here.claim(job, 1)
    until(lambda: here.watcher.supply.busy_workers == 1, "it is not up")
    monkeypatch.setattr(here.scheduler, "cancel_doubtful", lambda: raise_(slurm.SlurmError("no job of that name")))
    here.watcher.ledger.finish_all(pools.PoolError("over"))
    here.watcher.close(wait=True)
    assert here.scheduler.known[job] == "CANCELLED"


# --- how many jobs are sent, and told to go


def sizes_of_submissions(here: Run) -> list[int]:
    """How many jobs are sent at once, from now on."""
    sizes: list[int] = []
    start = here.scheduler.start

    def noted(options: Options, group: int, count: int, name: str, avoid: Collection[str] = ()) -> list[str]:
        sizes.append(count)
        return start(options, group, count, name, avoid)

    here.scheduler.start = noted  # type: ignore[method-assign]
    return sizes


def test_more_jobs_are_asked_for_again_once_a_limit_lets_some_through(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "BETWEEN", 0.01)
    here = run(limit=8)
    here.watcher.ledger.group_for(Options.of({})).smaller = 1  # as refusals have left it
    sizes = sizes_of_submissions(here)
    here.add(7)
    until(lambda: sum(sizes) == 7, "jobs are missing")
    assert sizes == [1, 2, 4]


def test_a_fault_before_jobs_are_sent_only_delays_them(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(1)
    avoid, faults = here.watcher.supply.endings.avoid, iter(range(2))

    def fail(group: jobs.Group) -> frozenset[str]:
        if next(faults, None) is not None:
            raise pools.SpoolError("no room", errno=errno.ENOSPC)
        return avoid(group)

    monkeypatch.setattr(here.watcher.supply.endings, "avoid", fail)
    here.add()
    here.work(here.job(), 1)
    assert here.values() == [1]
    assert next(faults, None) is None


def test_what_was_sent_in_doubt_is_asked_about_again_by_who_takes_the_run_over_next(
    run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run(limit=4)
    group = here.watcher.ledger.group_for(Options.of({}))
    monkeypatch.setattr(here.scheduler, "find", lambda name: raise_(slurm.SlurmError("squeue timed out after 60 s")))
    past = History(sendings={name: Sending(name, 0, 2) for name in ("run0-1", "run0-2")})
    here.watcher.supply._submissions.restore(past, [group])
    here.add()
    here.work(here.job(), 1)
    assert here.values() == [1]
    assert group.launching == 0
    assert {entry["name"] for entry in here.journal("jobs")} == {"run0-3"}


def test_no_worker_is_sent_away_that_may_have_taken_a_task_since_it_was_idle(run: Make) -> None:
    here = run(limit=1)
    here.add()
    job = here.job()
    here.up(job)
    here.claim(job, 1)
    here.deliver(job, 1, 1)
    until(lambda: len(here.done) == 1, "it is not done")
    here.say(job, "idle")
    until(lambda: here.watcher.supply.jobs[job].idle, "it is not idle")
    here.add()
    here.claim(job, 2)
    here.add(cpus_per_task=2)  # a group of its own, which needs another job
    polls(here, 10)
    assert here.scheduler.sent == [job]
    here.deliver(job, 2, 2)
    until(lambda: len(here.done) == 2, "it is not done")
    here.say(job, "idle")
    until(lambda: len(here.scheduler.sent) == 2, "no room is made")
    assert f"quit.{job}-r0" in here.there.names("todo/0")
    here.say(job, "left", reason="idle")
    here.scheduler.end(job, state="COMPLETED")
    until(lambda: f"quit.{job}-r0" not in here.there.names("todo/0"), "what it was told stays for ever")


def test_it_is_said_once_that_no_node_may_have_what_jobs_ask_for(run: Make, caplog: pytest.LogCaptureFixture) -> None:
    here = run(2)
    here.add(2, cpus_per_task=64)
    here.job(2)
    rounds = count_calls(here.scheduler.states)
    here.scheduler.states = rounds  # type: ignore[method-assign]
    here.scheduler.known.update(dict.fromkeys(here.scheduler.sent, "PENDING PartitionConfig"))
    seen = rounds.calls
    until(lambda: rounds.calls > seen + 2, "states are not asked for")
    assert caplog.text.count("jobs with cpus_per_task=64 wait (PartitionConfig)") == 1
    assert not here.done


def test_a_job_of_a_run_that_is_taken_over_has_done_what_it_had_done(run: Make) -> None:
    here = run()
    done = {number: PastTask(number, "t", 0, outcome={"ok": True, "job": "5_0"}) for number in (1, 2)}
    known = PastJob("5_0", 0, since=time.time(), workers=["5_0-r0"], word="up")
    here.watcher.supply.restore(History(groups={0: Options().plain()}, tasks=done, jobs={"5_0": known}))
    assert here.watcher.supply.jobs["5_0"].finished == 2  # so its time limit is not the fault of the task that it has now
