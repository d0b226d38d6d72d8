"""An element of an array that somebody has sent by hand: it runs its own line of a list, as a task of the array's run.

``python -m nornir_pools.cluster.element LIST`` is what slurm/array.sbatch and slurm/gpu.sbatch call. It ends with the line's
exit status, so that SLURM knows of a failure, too.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..errors import JobTimeoutError, PoolError, SpoolError, TaskTimeoutError, WorkerDiedError
from ..lines import CommandList
from .arrays import close_if_done, run_of_array
from .child import Report
from .folder import FULL, PASSING
from .signals import signals
from .slurm import job_end
from .spool import Spool, task_number
from .worker import Worker

__all__ = ["LineWorker", "main"]

_INTERRUPTED = 128 + signal.SIGTERM
_AT_THE_LIMIT = 10.0  # seconds to the end of the job: SIGTERM comes then, or a little later
_PATIENCE = 60.0  # seconds in which the folder may have a bad moment, or be full


class LineWorker(Worker):
    """A worker that takes the task of one line, and no other. Its node is not doubted: no pool would choose another."""

    def __init__(self, spool: Spool, job: str, line: int) -> None:
        super().__init__(spool, 0, job, node="", idle_seconds=0.0, one_task=True)
        self.status: int | None = None
        """With what the line has ended; None if its task was not there to be taken."""
        self._line = line
        self._begun: dict[str, Any] = {}

    def _claim_any(self) -> str | None:
        if self.status is None:
            for shard, tasks in self.spool.offers(self.group)[0]:
                for task in tasks:
                    if task_number(task) == self._line and self.spool.claim(self.group, shard, task, self.name):
                        self.status = _INTERRUPTED  # until there is an outcome
                        self._begun = {"started": time.time(), "log_start": os.fstat(1).st_size}
                        return task
        return None

    def _deliver(self, task: str, report: Report) -> None:
        header = message.read_header(self.spool.read(report.draft))
        status = header.get("status", 0 if header.get("ok") else 1)  # (it may be the call: see draft_outcome)
        self.status = 128 - status if status < 0 else status
        super()._deliver(task, report)

    def _tell_death(self, task: str, name: str, pid: int, error: WorkerDiedError | TaskTimeoutError) -> None:
        super()._tell_death(task, name, pid, error)
        sys.stderr.write(f"{error}\n")
        self.status = 1

    def _tell_time_is_up(self, task: str) -> None:
        """SIGTERM has come at the job's time limit: no pool is there to find out, so it is told as long as that can be done."""
        name, job, log = self._task_name(task), self.facts["job"], self.facts.get("log", "")
        what = f"task {name!r}: its job {job} reached its time limit; give it more with --time; the job's log: {log or 'none'}"
        error = JobTimeoutError(what, job_id=job, state="TIMEOUT", log=log)
        facts = {**self.facts, **self._begun, "pid": os.getpid(), "finished": time.time()}
        self.spool.keep_failed_call(self.name, task)
        frozen = outcomes.freeze(outcomes.Outcome(error=error, facts=facts), name)
        self.spool.deliver(self.spool.draft_outcome(message.pack(*frozen), task, self.name), task, self.name)

    def _say(self, word: str, **facts: Any) -> None:
        if facts.get("reason") == "interrupted" and job_end(os.environ) - time.time() < _AT_THE_LIMIT:
            for task in self.spool.claims(self.name):
                self._tell_time_is_up(task)
        try:
            super()._say(word, **facts)
        except SpoolError:
            if word != "left":  # the last element to end may have closed the run already
                raise


def main(arguments: list[str] | None = None) -> int:
    """Run the line of this element; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nornir_pools.cluster.element", description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path, help="a file with one shell command a line")
    given = parser.parse_args(arguments)
    number = int(os.environ["SLURM_ARRAY_TASK_ID"])
    try:
        lines = CommandList(given.list)
    except OSError as error:
        sys.stderr.write(f"the list {given.list} cannot be read: {error.strerror}\n")
        return 2
    if number not in lines.commands or number in lines.marked():
        return 0
    try:
        return _run(lines, number)
    except (PoolError, OSError) as error:
        sys.stderr.write(f"line {number} of {given.list}: {error}\n")
        return 1


def _run(lines: CommandList, number: int) -> int:
    path = run_of_array(lines, dict(os.environ))
    signals.install()
    os.umask(0o077)  # lines have that of the job
    worker = None
    spool = Spool(path)
    if "todo" in spool.names("."):  # else the run is over
        spool.patience, spool.passing = _PATIENCE, PASSING | FULL
        worker = LineWorker(spool, f"{os.environ['SLURM_ARRAY_JOB_ID']}_{number}", number)
        worker.serve()
        spool.remove_folder(f"claimed/{worker.name}")  # whoever looks whether all are done need not look into it
        close_if_done(path)
    if worker is None or worker.status is None:
        sys.stderr.write(
            f"line {number} of {lines.path} is not run: it was cancelled, or has ended already in the run {path.name}; to run "
            f"what has not succeeded: retry.sh {lines.path}\n"
        )
        return 1
    return worker.status


if __name__ == "__main__":
    sys.exit(main())
