"""What runs the jobs of one array: a process that starts them, ends them when it is to, and writes down what they do."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, NoReturn

from .store import OVER, Store

__all__ = ["Node"]

_LOOK = 0.01  # seconds between two looks at what is wanted
_KILL_WAIT = 5.0  # seconds from SIGTERM to SIGKILL
_REQUEUE = 0.5  # seconds until a job that was requeued starts again (SLURM: two minutes)

Job = dict[str, Any]


class Node:
    """Runs the jobs of an array."""

    def __init__(self, store: Store, array: int) -> None:
        self._store = store
        self._array = str(array)
        self._jobs: dict[str, Job] = {job["id"]: job for job in store.jobs([self._array])}
        self._processes: dict[int, Job] = {}
        self._killed: dict[int, float] = {}  # by process: when what has not heeded SIGTERM is killed

    def run(self) -> None:
        """Return once all jobs are over."""
        try:
            while any(job["state"] not in OVER for job in self._jobs.values()):
                for job in self._jobs.values():
                    if job["state"] == "PENDING" and time.time() >= job["begin"]:
                        self._start(job)
                self._heed_wishes()
                self._reap()
                time.sleep(_LOOK)
        finally:
            for pid in self._processes:
                _signal(pid, signal.SIGKILL)
            self._store.take(f"nodes/{self._array}")

    def _start(self, job: Job) -> None:
        others = [node for node in job["nodes"] if node not in job["exclude"]] or job["nodes"]
        job.update(state="RUNNING", reason="None", started=time.time(), ended=None)
        job["node"] = others[(job["number"] + job["restarts"]) % len(others)]
        job["end"] = job["started"] + 60 * job["minutes"] if job["minutes"] else None
        self._store.put(job)
        pid = os.fork()
        if pid == 0:
            _become(job, self._store.path("scripts", self._array))
        self._processes[pid] = job

    def _heed_wishes(self) -> None:
        for name in self._store.names("requests"):
            job = self._jobs.get(name.partition(".")[0])
            if job is None or not self._store.take(f"requests/{name}") or job["state"] in OVER:
                continue
            requeue = name.endswith(".requeue")
            if job["state"] == "PENDING" and not requeue:
                self._over(job, "CANCELLED", "0:0")
            elif job["state"] == "RUNNING":
                end = {"state": "CANCELLED", "signal": signal.SIGTERM, "at": 0.0, "requeue": requeue}
                self._store.write(f"dooms/{job['id']}", end)
        now = time.time()
        dooms = self._store.names("dooms")
        for pid, job in self._processes.items():
            doom = self._store.read(f"dooms/{job['id']}") if job["id"] in dooms else None
            if pid not in self._killed and doom is not None and doom["at"] <= now:
                self._killed[pid] = now + _KILL_WAIT
                _signal(pid, doom["signal"])
            elif self._killed.get(pid, now) < now or (job["end"] and job["end"] + _KILL_WAIT < now):
                _signal(pid, signal.SIGKILL)
            elif job["end"] and job["end"] < now and pid not in self._killed:
                end = {"state": "TIMEOUT", "signal": signal.SIGTERM, "at": 0.0, "requeue": False}
                self._store.write(f"dooms/{job['id']}", end)

    def _reap(self) -> None:
        while self._processes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            job = self._processes.pop(pid)
            doomed = self._killed.pop(pid, None) is not None
            _signal(pid, signal.SIGKILL)  # what it has started and left
            doom = self._store.read(f"dooms/{job['id']}") if doomed else None
            self._store.take(f"dooms/{job['id']}")
            code = os.waitstatus_to_exitcode(status)
            exit_code = f"{max(code, 0)}:{max(-code, 0)}"
            if doom is None:
                self._over(job, "FAILED" if code else "COMPLETED", exit_code)
            elif doom["requeue"]:
                job.update(state="PENDING", reason="BeginTime", restarts=job["restarts"] + 1, begin=time.time() + _REQUEUE)
                self._store.put(job)
            else:
                self._over(job, doom["state"], exit_code)

    def _over(self, job: Job, state: str, exit_code: str) -> None:
        job.update(state="COMPLETED" if state == "LOST" else state, exit_code=exit_code, ended=time.time(), reason="None")
        if state == "OUT_OF_MEMORY":
            job.update(exit_code="0:125", memory=job["asked"])
        job["hidden"] = state == "LOST"
        self._store.put(job)


def _become(job: Job, script: str) -> NoReturn:
    """In the new process: be the job."""
    try:
        os.setsid()
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        array = {"SLURM_ARRAY_JOB_ID": str(job["array"]), "SLURM_ARRAY_TASK_ID": str(job["index"])}
        variables = {
            "SLURM_JOB_ID": str(job["number"]),
            "SLURM_JOB_NAME": job["name"],
            "SLURM_JOB_PARTITION": job["partition"],
            "SLURM_CLUSTER_NAME": job["cluster"],
            "SLURM_SUBMIT_DIR": job["folder"],
            "SLURMD_NODENAME": job["node"],
            "SLURM_CPUS_ON_NODE": str(job["cpus"]),
            **({} if job["index"] is None else array),
            **({"SLURM_RESTART_COUNT": str(job["restarts"])} if job["restarts"] else {}),
            **({"SLURM_JOB_END_TIME": str(int(job["end"]))} if job["end"] else {}),
        }
        os.execvpe("bash", ["bash", script, *job["arguments"]], {**os.environ, **variables})
    finally:
        os._exit(127)


def _signal(session: int, number: int) -> None:
    """Send a signal to all processes of a job."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                os.kill(int(name), number)
        except (OSError, IndexError):  # it has ended
            continue
