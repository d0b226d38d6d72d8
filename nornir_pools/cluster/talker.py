"""The thread that talks to the scheduler: one of its commands may take a minute, and results must not wait for that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

__all__ = ["Answer", "Talker"]

logger = logging.getLogger("nornir_pools")

Answer: TypeAlias = Callable[[], None]


class Talker:
    """Carries out orders one after the other. What an order returns is called by the watcher, in its own thread, which alone
    changes what is known of the jobs; `wake` tells the watcher that there is something to hear."""

    def __init__(self, pool: str, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._wake = wake
        self._orders: SimpleQueue[Callable[[], Answer | None] | None] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._thread = threading.Thread(target=self._talk, name=f"{pool}-scheduler", daemon=True)
        self._thread.start()

    def ask(self, order: Callable[[], Answer | None]) -> None:
        """Have the scheduler asked or told something, after all that was ordered before."""
        self._orders.put(order)

    def hear(self) -> bool:
        """Take in what the scheduler has answered; returns whether it has."""
        heard = False
        while True:
            try:
                answer = self._answers.get_nowait()
            except Empty:
                return heard
            try:
                answer()
            except Exception:  # perhaps the run's folder has a bad moment: the answer is as good the next time
                self._answers.put(answer)
                raise
            heard = True

    def close(self, timeout: float | None = None) -> None:
        """Carry out what was ordered, and end; wait for that, at most `timeout` seconds."""
        self._orders.put(None)
        self._thread.join(timeout)

    def _talk(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                answer = order()
                if answer is not None:
                    self._answers.put(answer)
            except Exception:  # a fault must not leave the pool without anybody to talk to the scheduler
                logger.exception("pool %r: a fault while talking to the scheduler", self._pool)
            self._wake()
