"""What runs in a worker process: calls come in through a pipe, outcomes go out, until the pipe is closed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from .. import message
from .. import outcome as outcomes
from ..here import PROFILES, end_at_once, end_pools
from .memory import into_files, let_go
from .pipe import Channel
from .shared import trim

__all__ = ["work"]


def work(
    pipe: Connection,
    tickets: Connection | None,
    environment: dict[str, str],
    folder: str,
    initial: Sequence[message.Buffer] | None,
) -> None:
    """Answer calls until the other side is gone. The worker starts with the parent's environment and folder of then.

    `initial` is the call of an initializer, whose outcome is sent first; with no parts, just that the worker is ready.
    """
    # Ctrl-C reaches the whole group of the terminal, and is the parent's to act upon. (A handler, unlike SIG_IGN, is not
    # inherited by the programs that a task starts.)
    signal.signal(signal.SIGINT, _leave_to_parent)
    signal.signal(signal.SIGTERM, end_at_once)
    channel = Channel(pipe)
    if hasattr(os, "register_at_fork"):
        # The parent knows of this worker's death by the end of the pipe: nothing that a task forks may hold it open.
        os.register_at_fork(after_in_child=channel.close)
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)
    with contextlib.suppress(OSError):  # the folder is gone: tasks that need it will say so
        os.chdir(folder)
    if initial is None or _greet(channel, initial):
        _answer_calls(channel, tickets)
    end_pools()


def _greet(channel: Channel, initial: Sequence[message.Buffer]) -> bool:
    """Call the initializer and say how that went; returns whether there are to be tasks."""
    outcome = outcomes.call(_load_and_call, (initial,), {}) if initial else outcomes.Outcome()
    outcome.value = None  # nobody's
    facts, frozen = outcomes.freeze(outcome, "initializer")
    try:
        channel.send([((facts, 0, False), frozen)])
    except OSError:
        return False  # nobody is left to read it
    return outcome.error is None


def _answer_calls(channel: Channel, tickets: Connection | None) -> None:
    while True:
        try:
            (name, number), parts = _next_call(channel, tickets)
        except (EOFError, OSError):
            break
        outcome = outcomes.call(_load_and_call, (parts,), {})
        facts, frozen = outcomes.freeze(outcome, name)
        del outcome
        results = into_files(frozen)
        del frozen
        done_with = let_go(parts)
        del parts
        trim()
        try:
            channel.send([((facts, number, done_with), results)])
        except OSError:
            break  # nobody is left to read it
        del results


def _next_call(channel: Channel, tickets: Connection | None) -> tuple[tuple[str, int], Sequence[message.Buffer]]:
    """Wait for a call that is this worker's to run. Raises EOFError when the other side is gone."""
    if tickets is None:
        return channel.receive()
    while True:
        try:
            ticket = os.read(tickets.fileno(), 4)
            break
        except BlockingIOError:  # the pool reads them as well, and does not want to wait
            select.select([tickets], [], [])
    if not ticket:
        raise EOFError
    wanted = int.from_bytes(ticket, "big")
    while True:
        label, parts = channel.receive()
        if label[1] == wanted:  # else the pool has taken that call back
            return label, parts


def _load_and_call(parts: Sequence[message.Buffer]) -> Any:
    func, args, kwargs = message.load(parts)
    if PROFILES in os.environ:
        from ..profiling import call_profiled

        return call_profiled(func, *args, **kwargs)
    return func(*args, **kwargs)


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    pass
