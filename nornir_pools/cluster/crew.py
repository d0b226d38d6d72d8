"""A job that runs several tasks at once: workers side by side, and this process, which starts them and looks after them.

::

    crew ─┬─ worker 7_0 ─── child
          ├─ worker 7_0+1 ─ child
          └─ …

Each is a worker like any other, with its claims, words and log, and keeps to its own part of the node.

The scheduler knows of jobs only, so the crew does for a worker what the scheduler does for a job: it ends one that the pool
wants to be ended (for a task that is cancelled), tells the pool of one that has died, and starts another in its place, under
the next number.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

from .beginning import arguments_of_jobs, prepare
from .clusters import cluster_of
from .division import Needs, Node, enter
from .folder import FLAGS
from .mates import Company, Mate
from .names import job_of, log_file, post_of
from .signals import Terminated, signals
from .spool import Spool

__all__ = ["Crew", "main"]

_LOOK = 1.0  # seconds between two looks for what the pool wants
_OWN_END = 2.0  # seconds in which SIGTERM reaches the crew, too, if it is the whole job that is to end
_LAST_WORD = 1_000_000  # its number: no worker says as many
_INTERRUPTED = 128 + signal.SIGTERM
_PR_SET_PDEATHSIG = 1  # see prctl(2)


class Crew:
    """The workers of a job, `count` at once, with what they have to share and what each task needs. `step`: srun has started
    the job; `node`: the scheduler's name for where it runs, if it could choose another."""

    task_timeout: float | None = None
    """As of each worker."""

    def __init__(
        self,
        spool: Spool,
        group: int,
        job: str,
        count: int,
        shared: tuple[Node, Needs],
        *,
        step: bool = False,
        node: str = "",
        idle_seconds: float = 0.0,
    ) -> None:
        self.count = count
        self._spool = spool
        self._group = group
        self._job = job
        self._shared = shared
        self._step = step
        self._node = node
        self._idle_seconds = idle_seconds
        self._company = Company(count)
        self._numbers = itertools.count()
        self._workers: dict[int, Mate] = {}  # by process
        self._called_off: set[str] = set()
        self._dead: list[tuple[float, Mate, str]] = []  # when the pool is to be told, and how it has ended
        self._losses = 0

    def serve(self) -> None:
        """Start the workers, and return when none is left."""
        try:
            for place in range(self.count):
                self._start(place)
            while self._workers or self._dead:
                signals.sleep(_LOOK)
                self._reap()
                self._tell_deaths()
                self._heed()
        except Terminated:
            for pid in self._workers:
                os.kill(pid, signal.SIGTERM)  # (it is there, since it was not waited for)
            for pid in self._workers:
                os.waitpid(pid, 0)

    def _start(self, place: int) -> None:
        number = next(self._numbers)
        mate = Mate(
            self._spool,
            self._group,
            self._job,
            company=self._company,
            at_once=self.count,
            number=number,
            place=place,
            predecessors=[] if number else self._predecessors(),
            node=self._node,
            idle_seconds=self._idle_seconds,
        )
        mate.task_timeout = self.task_timeout
        log = f"jobs/{log_file(post_of(mate.name))}" if self._step or number else ""
        if log:
            mate.facts["log"] = os.path.join(os.path.abspath(self._spool.path), log)
        self._company.rest(place)
        sys.stdout.flush()
        sys.stderr.flush()
        crew = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no more processes, no memory
            if not self._workers:
                raise
            sys.stderr.write(f"worker {mate.name} cannot be started: {error}\n")
            self._company.leave(place)
            return
        if pid == 0:
            self._be_worker(mate, crew, log)
        self._workers[pid] = mate

    def _predecessors(self) -> Sequence[str]:
        """The workers that this job had before it was requeued, as far as they have left anything."""
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        names = self._spool.names("claimed") if restart else []
        return [name for name in names if job_of(post_of(name)) == self._job and int(name.rpartition("-r")[2]) < restart]

    def _be_worker(self, mate: Mate, crew: int, log: str) -> NoReturn:
        status = 1
        try:
            signals.install()
            _end_with(crew)
            worker = os.getpid()
            os.register_at_fork(after_in_child=lambda: _end_with(worker) if os.getppid() == worker else None)  # its child
            if log:
                self._open_log(log)
            enter(*self._shared, mate.place, self.count)
            mate.serve()
            status = _INTERRUPTED if mate.interrupted else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _open_log(self, name: str) -> None:
        """Give a worker a log of its own: what several tasks write into one could not be told apart."""
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | FLAGS, 0o600, dir_fd=self._spool.fd)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)

    # --- what becomes of them

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            mate, code = self._workers.pop(pid), os.waitstatus_to_exitcode(status)
            if code == 0:  # by its own will, and it has said so
                self._company.leave(mate.place)
                continue
            self._company.rest(mate.place)
            ending = f"0:{-code}" if code < 0 else "0:15" if code == _INTERRUPTED else f"{code}:0"
            wait = _OWN_END if ending == "0:15" and mate.name not in self._called_off else 0.0
            self._dead.append((time.monotonic() + wait, mate, ending))

    def _tell_deaths(self) -> None:
        """Tell the pool of workers that have died, and start others in their places."""
        due = [item for item in self._dead if item[0] <= time.monotonic()]
        for item in due:
            _, mate, ending = item
            self._dead.remove(item)
            self._company.leave(mate.place)
            with contextlib.suppress(OSError):  # the run is closed, or its folder out of reach for long
                self._spool.say(mate.name, _LAST_WORD, "left", {**mate.known, "reason": f"died {ending}"})
                self._losses += mate.name not in self._called_off
                if self._losses <= self.count and "todo" in self._spool.names("."):
                    self._start(mate.place)

    def _heed(self) -> None:
        """End the workers that the pool wants to be ended."""
        with contextlib.suppress(OSError):  # it can be looked for again
            for word in self._spool.offers(self._group)[1]:
                kind, _, name = word.partition(".")
                if kind == "end" and job_of(post_of(name)) == self._job:
                    self._spool.remove(f"todo/{self._group}/{word}")
                    self._called_off.add(name)
                    for pid, mate in self._workers.items():
                        if mate.name == name:
                            os.kill(pid, signal.SIGTERM)


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str] | None = None) -> None:
    """Serve a run: ``python -m nornir_pools.cluster.crew FOLDER [--at-once N] …``."""
    parser = arguments_of_jobs("nornir_pools.cluster.crew", __doc__.splitlines()[0])
    parser.add_argument("--at-once", default="auto", help='how many tasks at once; "auto": as many as the job has room for')
    parser.add_argument("--cpus", type=int, default=0, help="CPUs that a task needs")
    parser.add_argument("--memory", type=int, default=0, help="bytes that it needs")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that it needs")
    parser.add_argument("--step", action="store_true", help="srun has started this, in an allocation")
    options = parser.parse_args(arguments)
    node, needs = Node.here(os.environ), Needs(options.cpus, options.memory, options.gpus)
    name = os.environ.get("SLURMD_NODENAME", "") if options.step or not options.job or cluster_of(options.job) else ""
    count = node.fits(needs) if options.at_once == "auto" else int(options.at_once)
    if prepared := prepare(options):
        crew = Crew(*prepared, count, (node, needs), step=options.step, node=name, idle_seconds=options.idle)
        crew.task_timeout = options.task_timeout
        crew.serve()


if __name__ == "__main__":
    main()
