"""How the jobs of this user are: asked for once, for all pools of this process that want to know it at about the same time."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping

from .. import settings
from . import clusters, slurm

__all__ = ["States", "ask"]

_TELLING = ("PATH", "SLURM_CONF", clusters.VARIABLE, settings.SLURM_BIN)  # which SLURM is asked, and how


class States(dict[str, str]):
    """The state of each job that a scheduler still knows."""

    def __init__(self, states: Mapping[str, str], asked: float) -> None:
        super().__init__(states)
        self.asked = asked
        """When that was asked for, by the monotonic clock: jobs that are younger cannot be in it."""


class _Question:
    def __init__(self) -> None:
        self._lock = threading.Lock()  # who comes while SLURM is being asked waits for that answer
        self._asked = -math.inf
        self._answer: dict[str, str] | slurm.SlurmError = {}

    def ask(self, environment: Mapping[str, str], since: float) -> States:
        with self._lock:
            if self._asked < since:
                self._asked = time.monotonic()
                try:
                    self._answer = slurm.states(environment)
                except slurm.SlurmError as error:
                    self._answer = error
            if isinstance(self._answer, slurm.SlurmError):
                raise slurm.SlurmError(str(self._answer))
            return States(self._answer, self._asked)


_questions: dict[tuple[str | None, ...], _Question] = {}


def ask(environment: Mapping[str, str], age: float = 0.0) -> States:
    """What `slurm.states` says, or has said to anybody here at most `age` seconds ago. Raises slurm.SlurmError likewise."""
    since = time.monotonic() - age
    question = _questions.setdefault(tuple(map(environment.get, _TELLING)), _Question())
    return question.ask(environment, since)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_questions.clear)  # a lock may be held by a thread that is not there
