"""What a pretend SLURM knows: files in one folder, written by its commands and by what runs its jobs.

::

    jobs/7_0        a job, as JSON; written only by the process that runs the array (and by sbatch, before that)
    numbers/7       taken
    scripts/7       what the jobs of array 7 run
    requests/7_0.cancel   somebody wants that of a job
    dooms/7_0       how the job is to end, and when
    ends/000001     an end that a test has asked for, and that has not come; so refusals/000001
    settings        which nodes there are, and the like
    nodes/7         there is a process that runs the jobs of array 7

(No module that takes long to load is used: each call of a command is a process that begins with this one.)
"""

from __future__ import annotations

import json
import os
from typing import Any

__all__ = ["FOLDERS", "OVER", "Store"]

FOLDERS = ("jobs", "numbers", "scripts", "requests", "dooms", "ends", "refusals", "nodes")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "PREEMPTED", "NODE_FAIL")

Job = dict[str, Any]


class Store:
    """The folder of one pretend SLURM."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, *names: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.folder, *names)

    def write(self, name: str, value: Any) -> None:
        """Write a file at once, as JSON."""
        draft = self.path(f"{name}.{os.getpid()}.draft".replace("/", "."))
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(draft, self.path(name))

    def read(self, name: str) -> Any:
        """What stands in a file; None if there is none."""
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """The files of a folder, sorted."""
        return sorted(os.listdir(self.path(folder)))

    def take(self, name: str) -> bool:
        """Remove a file; returns whether it was there, and nobody else was faster."""
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            return False
        return True

    def new_number(self) -> int:
        """The next number of a job."""
        number = max(map(int, os.listdir(self.path("numbers"))), default=0)
        while True:
            number += 1
            try:
                os.close(os.open(self.path("numbers", str(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                return number
            except FileExistsError:
                continue

    def put(self, job: Job) -> None:
        """Write down a job as it is now."""
        self.write(f"jobs/{job['id']}", job)

    def jobs(self, ids: list[str] | None = None) -> list[Job]:
        """The jobs, in the order they were sent: all of them, or those of these ids (7: all of array 7; 7_0: that one)."""
        found = [job for name in self.names("jobs") if (job := self.read(f"jobs/{name}"))]
        found.sort(key=lambda job: (job["array"], job["index"] or 0))
        return found if ids is None else [job for job in found if {job["id"], str(job["array"]), str(job["number"])} & {*ids}]

    def next_refusal(self) -> str | None:
        """Take the first of the refusals that were asked for."""
        for name in self.names("refusals"):
            text = self.read(f"refusals/{name}")
            if text is not None and self.take(f"refusals/{name}"):
                return str(text)
        return None

    def next_end(self, task: str) -> dict[str, Any] | None:
        """Take the first of the ends that were asked for, for this task or for any."""
        for name in self.names("ends"):
            end: dict[str, Any] | None = self.read(f"ends/{name}")
            if end is not None and end["task"] in (None, task) and self.take(f"ends/{name}"):
                return end
        return None
