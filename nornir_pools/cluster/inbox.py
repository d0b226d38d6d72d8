"""What workers deliver: words about themselves, and outcomes of tasks, which complete the Futures."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from .. import message
from ..errors import SpoolError
from ..outcome import Outcome
from .cancelling import Cancelling
from .history import told
from .idle_cpus import IdleCpus
from .lag import Lag
from .ledger import Ledger
from .names import post_of, word_order
from .spool import HANDED_BACK, IN_DOUBT, Spool, task_number
from .supply import Supply
from .values import Values

__all__ = ["Inbox"]

logger = logging.getLogger("nornir_pools")

# Of a worker's words:
_JOURNALLED = ("job", "group", "worker", "host", "node", "log", "pid", "born", "reason", "at", "at_once", "cpus")


class Inbox:
    """The inbox of one run, seen by its holder. Only the watcher's thread looks into it."""

    def __init__(
        self, pool: str, spool: Spool, ledger: Ledger, values: Values, supply: Supply, cancelling: Cancelling, lag: Lag
    ) -> None:
        self.failed_logs: set[str] = set()
        """The logs of jobs in which tasks have failed, by name."""
        self._pool = pool
        self._spool = spool
        self._ledger = ledger
        self._values = values
        self._supply = supply
        self._cancelling = cancelling
        self._lag = lag
        self._idle_cpus = IdleCpus(pool)
        self._accepted: dict[int, tuple[Outcome, dict[str, Any]]] = {}  # by task: outcomes, with what to journal of them

    def collect(self) -> bool:
        """Take what is in the inbox; returns whether there was anything."""
        begun = time.time()
        names = self._spool.inbox()
        self._lag.note_listing(begun, names)
        taken, fault = self._take_each(names)
        # Journalled, then removed, then told: whatever happens in between, the outcome stands somewhere. What cannot be
        # journalled now is journalled the next time.
        if self._accepted:
            self._spool.note_all([entry for _, entry in self._accepted.values()])
        for name in taken:
            self._spool.remove(f"inbox/{name}")
        accepted, self._accepted = self._accepted, {}
        for number, (outcome, _) in accepted.items():
            task = self._ledger.take(number)
            if task is not None:
                try:
                    self._ledger.complete(task, outcome)
                except Exception as error:  # that the pool stops now cannot be written down, say: the others are complete, too
                    fault = fault or error
        if fault is not None:
            raise fault
        return bool(taken)

    def _take_each(self, names: list[str]) -> tuple[list[str], Exception | None]:
        """Take words, in the order they were said, then outcomes; returns what was taken, and the first fault there was.

        A file that cannot be read now is taken the next time, and does not keep the others.
        """
        words = sorted((name for name in names if name.startswith("+")), key=word_order)
        taken: list[str] = []
        fault: Exception | None = None
        for name in [*words, *(name for name in names if not name.startswith("+"))]:
            try:
                (self._take_word if name.startswith("+") else self._accept)(name)
                taken.append(name)
            except FileNotFoundError:  # over NFS, a name may be listed and yet be thought of as missing for a while
                continue
            except OSError as error:
                fault = fault or error
        return taken, fault

    def _take_word(self, name: str) -> None:
        data, renamed = self._spool.read_dated(f"inbox/{name}")
        self._lag.note_file(name, renamed)
        at = self._lag.here(renamed)
        try:
            facts = {**json.loads(data), "at": at}
        except ValueError as error:  # perhaps a file server has crashed; what it said is found out in other ways
            logger.warning("pool %r: a worker's word, %s, is damaged, and passed over: %s", self._pool, name, error)
            return
        facts["log"] = self._spool.log_path_of(facts)
        word = name.rpartition(".")[2]
        if word == "cancel":
            self._cancelling.ask(facts["tasks"])
            return
        if facts["group"] >= len(self._ledger.groups):  # somebody has sent it by hand
            logger.warning(
                "pool %r: the worker of job %s on %s is there for group %d of the run %s, which has groups up to %d: it finds "
                "no task; see what was given to it as --group",
                *(self._pool, facts["job"], facts["host"], facts["group"], self._spool.path.name, len(self._ledger.groups) - 1),
            )
            return
        self._supply.take_word(word, facts)
        self._ledger.budget.note(word, post_of(facts["worker"]), self._ledger.groups[facts["group"]], at)
        self._spool.note(t=word, **{name: facts.get(name) for name in _JOURNALLED})

    def _accept(self, name: str) -> None:
        number = task_number(name)
        entry = self._ledger.find(number)
        if number in self._accepted:
            return  # another try was faster
        try:
            data, renamed = self._values.read_head(name, entry.task if entry else None)
            self._lag.note_file(name, renamed)
            facts = message.read_header(data)
            if "ok" not in facts:  # it is the call: see Spool.draft_outcome
                raise ValueError("there was no room for it (disk full, or quota)")
        except ValueError as error:  # perhaps a file server has crashed, and what it had taken is not all there
            if entry is not None:
                where = f"is not in the run's folder {self._spool.path}, or not whole"
                what = f"task {entry.task.name!r}: its outcome {where}: {error}"
                self._ledger.give_up(number, SpoolError(what, folder=str(self._spool.path)))
            return
        facts["log"] = self._spool.log_path_of(facts)
        if name.endswith((HANDED_BACK, IN_DOUBT)) and self._supply.endings.take_back(name, facts):
            return
        if entry is None:
            return  # another try was faster, or the task was given up
        outcome = self._values.outcome(data, facts, entry.task)
        if name.startswith(f"{entry.file}."):
            if "cause" in facts and self._supply.endings.see_to_death(entry, outcome):
                return
        elif "cause" in facts:  # of an earlier try, which another has followed already
            return
        else:  # an earlier try, given up for dead, has made it after all
            self._spool.withdraw(entry.group.number, entry.file)
            self._spool.drop(entry.group.number, entry.file)
        record = {"t": "done", "n": number, "outcome": name, **told(facts, self._spool)}
        record |= self._values.put_away(name, data, outcome, entry.task)
        self._accepted[number] = outcome, record
        if entry.attempt and facts["ok"]:
            self._spool.drop_failed(number, entry.attempt)
        self._supply.note_done(facts["worker"])
        if (not facts["ok"] or facts.get("status")) and facts["log"]:
            self.failed_logs.add(facts["log"].rpartition("/")[2])
        group = entry.group
        group.fruitless = 0
        if "started" in facts:
            self._supply.endings.note_end(number, facts)
            self._ledger.note_time(group, facts["finished"] - facts["started"])
            self._idle_cpus.note(group, facts)
