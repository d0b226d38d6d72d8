"""The node's side of an examination: the small job is sent, waited for, talked with, and what it says is judged."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..findings import OK, PROBLEM, WARNING, Finding
from . import answers, sites, slurm, verdicts
from .trial import NOT_SEEN, NOT_WRITABLE, Trial

__all__ = ["NodeSide"]

_ASK = 1.0  # seconds between two questions what has become of the job
_LAST = 5.0  # seconds in which files of a job that has ended may still appear
_NO_FOLDER = "choose a folder on a file system that this machine and the nodes share, with --folder"


class NodeSide:
    """The job of one examination, which has to be over at `ends` (by the monotonic clock)."""

    def __init__(
        self, trial: Trial, packages: Sequence[str], environment: Mapping[str, str], ends: float, *, asked: bool
    ) -> None:
        self._trial = trial
        self._packages = packages
        self._asked_for = asked  # whether the user has named the packages
        self._environment = environment
        self._ends = ends
        self._job = ""
        self._facts: dict[str, str] = {}  # what the scheduler says of the job
        self._asked = 0.0
        self._sent = 0.0

    def send(self) -> Finding | None:
        """Send the job; returns what is wrong if that cannot be done."""
        self._sent = time.monotonic()
        try:
            self._job = self._trial.send(self._packages)
        except slurm.SlurmError as error:
            if answers.is_transient(str(error)):
                words = f"could not be sent now: {verdicts.line_of(error)}"
                return Finding("job", WARNING, words, "ask again in a while; pools wait and try again")
            return Finding("job", PROBLEM, f"sbatch refuses it: {verdicts.line_of(error)}", "mend the option that it names")
        return None

    def findings(self, here: Mapping[str, Any] | None) -> Iterator[Finding]:
        """What the job finds, beside what was found on this machine."""
        hello = self._wait("hello", self._ends)
        if hello is None:
            yield self._without_a_word()
            return
        host = hello["host"]
        took = time.monotonic() - self._sent
        yield Finding("job", OK, f"job {self._job.partition('_')[0]} has started on {host} within {took:.0f} s")
        seen = f"{self._trial.path.parent} is seen and can be written on {host}"
        yield Finding("folder there", OK, seen, options={"folder": str(self._trial.path.parent)})
        yield verdicts.of_clock(self._trial.ahead - hello["ahead"], host)
        self._trial.say("ping")
        pong = self._wait("pong", self._ends)
        if pong is None:
            words = f"{host} has not seen, or not answered, a file from here"
            yield Finding("lateness", PROBLEM, words + self._with_log(), _NO_FOLDER)
            return
        yield verdicts.of_lateness(pong["late"], self._trial.lateness("pong"))
        if here is not None:
            yield verdicts.of_python(here["version"], pong, f"on {host}")
            yield verdicts.of_packages(here["packages"], pong, f"on {host}")
        if pong["cpus"] is not None:
            yield Finding("CPUs there", OK, f"a job that asks for 1 may use {pong['cpus']} on {host}")
        if self._packages:
            yield self._imports(host)

    def _imports(self, host: str) -> Finding:
        done: list[Mapping[str, Any]] = []
        begun = time.monotonic()
        for number, name in enumerate(self._packages):
            facts = self._wait(f"import-{number}", self._ends)
            if facts is None:
                done.append({"name": name, "seconds": time.monotonic() - begun, "error": "given up"})
                break
            done.append(facts)
        return verdicts.of_imports(done, f"on {host}", self._asked_for)

    def _wait(self, name: str, until: float) -> dict[str, Any] | None:
        """What the job writes under that name; None if it has ended without, or time is up."""
        pause = 0.01
        while True:
            facts = self._trial.heard(name)
            now = time.monotonic()
            if facts is not None or now > until:
                return facts
            if now - self._asked > _ASK and until == self._ends:
                self._ask()
                if slurm.is_over(self._state):  # what it wrote last may be on its way
                    until = now + (_LAST if self._facts.get("ExitCode") == "0:0" else _ASK)
            time.sleep(pause)
            pause = min(1.1 * pause, 0.1)

    def _ask(self) -> None:
        try:
            self._facts = sites.job_facts(self._job, self._environment, 10.0)
        except slurm.SlurmError as error:
            if "Invalid job id" in str(error):
                self._facts = {"JobState": "COMPLETED"}  # it is gone
        self._asked = time.monotonic()

    @property
    def _state(self) -> str:
        return self._facts.get("JobState", "")

    def _without_a_word(self) -> Finding:
        """Nothing was seen of the job: why?"""
        folder, node = self._trial.path.parent, self._facts.get("NodeList", "the node")
        code = self._facts.get("ExitCode", "")
        if code == NOT_SEEN:
            return Finding("folder there", PROBLEM, f"{folder} is not seen on {node}", _NO_FOLDER)
        if code == NOT_WRITABLE:
            return Finding("folder there", PROBLEM, f"{folder} is seen on {node}, but cannot be written there", _NO_FOLDER)
        if not slurm.is_over(self._state):
            return self._still_waiting(node)
        if code in ("0:0", ""):
            words = f"the job has run on {node}, but nothing that it wrote into {folder} has appeared here"
            return Finding("folder there", PROBLEM, words, _NO_FOLDER)
        if code in ("126:0", "127:0"):
            log = re.sub(r"^.*slurm_script: line \d+: ", "", self._trial.log())
            advice = "have jobs start a Python that the nodes see, in an environment on a shared file system (option python=)"
            return Finding("Python", PROBLEM, f"the one that jobs start cannot be run on {node}: {log}", advice)
        words = f"the job has ended on {node}: {self._state}, exit code {code}{self._with_log()}"
        advice = "look at the options python= and slurm_setup=: can this Python be started on the nodes?"
        return Finding("job", PROBLEM, words, advice)

    def _still_waiting(self, node: str) -> Finding:
        waited = time.monotonic() - self._sent
        if self._state in ("", "PENDING"):
            reason = self._facts.get("Reason", "")
            words = f"still waits after {waited:.0f} s" + (f" ({reason})" if reason not in ("", "None") else "")
            if slurm.is_hopeless(reason):
                return Finding("job", PROBLEM, f"{words}, and will for ever", "choose another --partition or --account")
            start = self._facts.get("StartTime", "Unknown")
            when = "" if start in ("Unknown", "N/A") else f"; SLURM expects to start such a job at {start.replace('T', ' ')}"
            advice = "the nodes were not looked at: ask again when the cluster is less busy"
            return Finding("job", WARNING, words + when, advice)
        words = f"is on {node} ({self._state}), but after {waited:.0f} s it has not said a word{self._with_log()}"
        return Finding("job", WARNING, words, "Python may be slow to start there, or what it writes slow to appear: ask again")

    def _with_log(self) -> str:
        log = self._trial.log()
        return f"; its log ends: {log}" if log else ""
