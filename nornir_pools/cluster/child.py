"""What runs tasks inside a job: a process that the worker forks, and forks again should it die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from .. import message
from .. import outcome as outcomes
from ..calls import load_call
from ..errors import SpoolError
from ..here import PROFILES, end_at_once, end_pools, here
from . import tmpdir
from .context import Surroundings
from .environment import is_environments
from .folder import FULL, PASSING
from .frozen import FrozenCode
from .measures import Meter, command_facts, has_failed
from .shared import SharedStore, use_store, values_of
from .signals import signals
from .spool import Spool

__all__ = ["Child", "Report"]

_READY = "ready"
_LONGEST_TRACEBACK = 20_000  # characters: it is told to the pool among words
_STOPPING = 1.0  # seconds that a child has to end by itself
_OWN, _ENVIRONMENT = "=", "~"  # before the draft in a report: who may be to blame


class Report(NamedTuple):
    """What the child says of a task that it has run."""

    draft: str
    """The path of its outcome, which is not yet to be seen by the pool."""
    environment: bool
    """Whether it may have failed because of the node."""


class Child:
    """The process that runs the tasks, seen from the supervisor."""

    tasks = 0
    """How many it has been told to run."""
    timed_out = False
    """It has not answered in time, so it is to be ended."""
    failure: Mapping[str, str] = MappingProxyType({})
    """How the pool's initializer has failed, if it has: the "error", and the "traceback"."""

    def __init__(
        self,
        spool: Spool,
        worker: str,
        facts: dict[str, Any],
        fingerprints: dict[str, str],
        threads: int,
        *,
        initialize: bool = False,
    ) -> None:
        self._tmpdir = tmpdir.make()
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self.pid = os.fork()
        except OSError:
            tmpdir.remove(self._tmpdir)
            raise
        if self.pid == 0:
            self._be_child(spool, worker, facts, fingerprints, threads, initialize, self._tmpdir, orders, reports)
        os.close(orders)
        os.close(reports)
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)  # in both processes: whoever is first

    def _be_child(self, *arguments: Any) -> NoReturn:
        status = 70
        try:
            os.setpgid(0, 0)  # so that what a task starts can be ended with it
            os.close(self._orders)
            os.close(self._reports)
            signal.set_wakeup_fd(-1)
            _run_tasks(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()  # into the job's log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def is_ready(self) -> bool:
        """Wait until the child takes tasks; False if it died before that, or the pool's initializer has failed in it."""
        report = self._next_report()
        if report is not None and report != _READY:
            self.failure = json.loads(report)
        return report == _READY

    def run(self, task: str, seconds: float | None = None) -> Report | None:
        """Have the child run a task; returns None if the child died, or has not answered within so many seconds."""
        self.tasks += 1
        try:
            os.write(self._orders, task.encode() + b"\n")
        except BrokenPipeError:
            return None
        report = self._next_report(seconds)
        return None if report is None else Report(report[1:], report[0] == _ENVIRONMENT)

    def _next_report(self, seconds: float | None = None) -> str | None:
        report = b""
        until = None if seconds is None else time.monotonic() + seconds
        while not report.endswith(b"\n"):
            if not self._wait_for_report(until):
                return None
            data = os.read(self._reports, 4096)
            if not data:
                return None
            report += data
        return report.decode().strip()

    def _wait_for_report(self, until: float | None) -> bool:
        """Wait for a report; False if the child ended without one, even if something it has forked keeps the pipe open, or
        the time is over."""
        while not signals.wait(self._reports, None if until is None else max(0.0, until - time.monotonic())):
            if self.is_dead():
                return signals.readable(self._reports)
            signals.check()
            if until is not None and time.monotonic() >= until:
                self.timed_out = not signals.readable(self._reports)
                return not self.timed_out
        return True

    def is_dead(self) -> bool:
        """Whether the child has ended (it is left to be reaped)."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def stop(self) -> None:
        """Have the child end with the commands that its task has started, which are in groups of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + _STOPPING
        while not self.is_dead() and time.monotonic() < until:
            time.sleep(0.005)

    def end(self) -> int:
        """Reap the child, end what is left of its group, and return its exit status (minus the signal's number).

        From then on `peak` is the most bytes that it, or anything that it has waited for, has used.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        self.peak = used.ru_maxrss * 1024
        os.close(self._orders)
        os.close(self._reports)
        tmpdir.remove(self._tmpdir)
        return os.waitstatus_to_exitcode(status)


def _run_tasks(
    spool: Spool,
    worker: str,
    facts: dict[str, Any],
    fingerprints: dict[str, str],
    threads: int,
    initialize: bool,
    place: str,
    orders: int,
    reports: int,
) -> None:
    """Run one task for each name that comes in through `orders`; answer with the path of its outcome through `reports`."""
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, end_at_once)
    tmpdir.enter(place)
    here.job = True
    runner = _Runner(spool, worker, {**facts, "pid": os.getpid()}, Surroundings(fingerprints, threads))
    if initialize and (failure := runner.initialize()):
        os.write(reports, json.dumps(failure).encode() + b"\n")
        end_pools()
        return
    os.write(reports, f"{_READY}\n".encode())
    try:
        with open(orders, "rb", buffering=0) as lines:
            while order := lines.readline():
                draft, environment = runner.run(order.decode().strip())
                os.write(reports, f"{_ENVIRONMENT if environment else _OWN}{draft}\n".encode())
                tmpdir.empty(place)  # nobody has to wait for that
        end_pools()
    finally:
        tmpdir.remove(place)  # if the worker was killed, nobody else will


class _Runner:
    def __init__(self, spool: Spool, worker: str, facts: dict[str, Any], surroundings: Surroundings) -> None:
        self._spool = spool
        self._worker = worker
        self._facts = facts
        self._surroundings = surroundings
        self._store = SharedStore(spool, worker)
        self._code = FrozenCode(self._store)
        self._contexts: dict[str, dict[str, Any]] = {}
        self._meter = Meter()
        self._func: Callable[..., Any] | None = None  # of the current task, once it is there
        use_store(self._store)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def initialize(self) -> dict[str, str] | None:
        """Call the pool's initializer; returns how it has failed, if it has."""
        outcome = outcomes.call(self._call, ("initializer", "initializer"), {})
        self._surroundings.keep()
        self._surroundings.leave()
        if outcome.error is None:
            return None
        facts, _ = outcomes.freeze(outcome, self._name)
        return {"error": facts["error"], "traceback": facts["traceback"][-_LONGEST_TRACEBACK:]}

    def run(self, task: str) -> Report:
        """Run a claimed task and draft its outcome."""
        started, log_start = time.time(), _log_size()
        self._meter.start()
        outcome = outcomes.call(self._call, (f"claimed/{self._worker}/{task}", task), {})
        finished, used = time.time(), self._meter.facts()
        used |= command_facts(outcome, self._func)
        self._surroundings.leave()
        outcome.facts = {
            **self._facts,
            **used,
            "started": started,
            "finished": finished,
            "log_start": log_start,
            "log_end": _log_size(),
        }
        try:
            self._spool.passing = PASSING
            if has_failed(outcome):
                self._spool.keep_failed_call(self._worker, task)
            return self._draft(outcome)
        except SpoolError as error:  # a full disk may have room for the reason, or will soon have it
            self._spool.passing = PASSING | FULL
            return self._draft(outcomes.Outcome(error=error, facts=outcome.facts), task)

    def _draft(self, outcome: outcomes.Outcome, task: str = "") -> Report:
        """Write an outcome; with `task`, something of that task can be delivered whatever happens."""
        environment = is_environments(outcome, self._func)
        if environment:
            outcome.facts["environment"] = True
        parts = message.pack(*outcomes.freeze(outcome, self._name))
        if task:
            return Report(self._spool.draft_outcome(parts, task, self._worker), environment)
        return Report(self._spool.draft("inbox", parts, self._worker), environment)

    def _call(self, file: str, task: str) -> Any:
        self._name, self._func = task, None
        header, parts = message.unpack(self._spool.read(file), self._store.read)
        self._name = header["name"]
        context = self._context(header["context"])
        self._surroundings.enter(context)
        self._code.use(context.get("code", []))
        func, args, kwargs = load_call(parts, values_of(self._spool, header.get("parents", ())))
        self._func = func
        del parts
        if PROFILES in os.environ:
            from ..profiling import call_profiled

            return call_profiled(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _context(self, digest: str) -> dict[str, Any]:
        if digest not in self._contexts:
            self._contexts[digest] = json.loads(bytes(self._store.read(digest)))
        return self._contexts[digest]


def _log_size() -> int:
    """Where the next line of the log will stand."""
    try:
        return os.fstat(1).st_size
    except OSError:
        return 0
