"""What runs tasks inside a job: a process that the worker forks, and forks again should it die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from .. import message
from .. import outcome as outcomes
from ..calls import load_call
from ..errors import SpoolError
from ..here import PROFILES, end_at_once, end_pools, here
from .context import Surroundings
from .environment import is_environments
from .folder import FULL, PASSING
from .frozen import FrozenCode
from .measures import Meter, command_facts, has_failed
from .shared import SharedStore, use_store, values_of
from .signals import signals
from .spool import Spool

__all__ = ["Child", "Report"]


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

    def __init__(self, spool: Spool, worker: str, facts: dict[str, Any], fingerprints: dict[str, str], threads: int) -> None:
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._be_child(spool, worker, facts, fingerprints, threads, orders, reports)
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
        """Wait until the child takes tasks; False if it died before that."""
        return self._next_report() is not None

    def run(self, task: str) -> Report | None:
        """Have the child run a task; returns None if the child died."""
        try:
            os.write(self._orders, task.encode() + b"\n")
        except BrokenPipeError:
            return None
        report = self._next_report()
        return None if report is None else Report(report[1:], report[0] == _ENVIRONMENT)

    def _next_report(self) -> str | None:
        report = b""
        while not report.endswith(b"\n"):
            if not self._wait_for_report():
                return None
            data = os.read(self._reports, 4096)
            if not data:
                return None
            report += data
        return report.decode().strip()

    def _wait_for_report(self) -> bool:
        """Wait for a report; False if the child ended without one, even if something it has forked keeps the pipe open."""
        while not signals.wait(self._reports):
            if self.is_dead():
                return signals.readable(self._reports)
            signals.check()
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
        return os.waitstatus_to_exitcode(status)


def _run_tasks(
    spool: Spool,
    worker: str,
    facts: dict[str, Any],
    fingerprints: dict[str, str],
    threads: int,
    orders: int,
    reports: int,
) -> None:
    """Run one task for each name that comes in through `orders`; answer with the path of its outcome through `reports`."""
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, end_at_once)
    here.job = True
    runner = _Runner(spool, worker, {**facts, "pid": os.getpid()}, Surroundings(fingerprints, threads))
    os.write(reports, b"ready\n")
    with open(orders, "rb", buffering=0) as lines:
        while order := lines.readline():
            draft, environment = runner.run(order.decode().strip())
            os.write(reports, f"{_ENVIRONMENT if environment else _OWN}{draft}\n".encode())
    end_pools()


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

    def run(self, task: str) -> Report:
        """Run a claimed task and draft its outcome."""
        started, log_start = time.time(), _log_size()
        self._meter.start()
        outcome = outcomes.call(self._call, (task,), {})
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

    def _call(self, task: str) -> Any:
        self._name, self._func = task, None
        header, parts = message.unpack(self._spool.read(f"claimed/{self._worker}/{task}"), self._store.read)
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
