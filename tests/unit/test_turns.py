"""Waits that Ctrl-C ends, whichever thread takes the signal."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from nornir_pools import turns

from .script import run_script


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST", 0.05)


@pytest.mark.parametrize(("seconds", "told"), [(0, [0.0]), (0.03, [0.03]), (0.12, [0.05, 0.05, 0.02])])
def test_turns_last_as_long_as_the_wait_in_all(short: None, seconds: float, told: list[float]) -> None:
    asked: list[float] = []

    def wait(turn: float | None) -> bool:
        assert turn is not None
        asked.append(turn)
        time.sleep(turn)
        return False

    begun = time.monotonic()
    assert not turns.wait_in_turns(wait, seconds)
    assert time.monotonic() - begun >= seconds
    assert asked[:-1] == told[: len(asked) - 1]  # (a busy machine has fewer turns)
    assert asked[-1] <= told[len(asked) - 1]


def test_what_comes_ends_the_wait(short: None) -> None:
    answers = iter([False, False, True])
    assert turns.wait_in_turns(lambda turn: next(answers), None)


def test_other_threads_get_no_signals_and_wait_in_one_turn() -> None:
    asked: list[float | None] = []

    def wait(turn: float | None) -> bool:
        asked.append(turn)
        return False

    for seconds in (None, 100.0):
        thread = threading.Thread(target=turns.wait_in_turns, args=(wait, seconds))
        thread.start()
        thread.join()
    assert asked == [None, 100.0]


def test_a_future_and_a_thread_are_waited_for(short: None) -> None:
    future: Future[Any] = Future()
    assert not turns.wait_for(future, 0.01)
    thread = threading.Timer(0.12, future.set_result, [None])
    thread.start()
    turns.join(thread)
    assert turns.wait_for(future)
    assert not thread.is_alive()


def test_an_interrupt_that_another_thread_takes_ends_the_wait_for_a_thread() -> None:
    done = run_script(
        """
        import os, signal, threading, time
        from nornir_pools.turns import join
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        def interrupt():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(100)
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        join(thread)
        """
    )
    assert "KeyboardInterrupt" in done.err
