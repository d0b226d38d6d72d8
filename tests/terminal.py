"""A program in a terminal of its own, as a user has it: with Ctrl-C, and a connection that can drop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType

__all__ = ["ROOT", "Terminal"]

ROOT = Path(__file__).resolve().parents[1]


class Terminal:
    """Runs a Python script, or with an empty one an interactive interpreter. A ``with`` block kills what is left of it."""

    def __init__(self, script: str, *options: str, **environment: str) -> None:
        self.text = ""
        """What it has printed and was not seen yet."""
        self.everything = ""
        self._master, slave = pty.openpty()
        Path("script.py").write_text(script)
        self.process = subprocess.Popen(
            [sys.executable, *options, *(["script.py"] if script else ["-i", "-q"])],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            # (From Python 3.13 on, tracebacks have colours on a terminal: not in what tests look for.)
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PYTHON_COLORS": "0", **environment},
        )
        os.close(slave)

    def press(self, keys: str) -> None:
        """Press keys; "\\x03" is Ctrl-C."""
        os.write(self._master, keys.encode())

    def see(self, words: str, seconds: float = 40) -> None:
        """Wait until these words were printed, after all that was seen before."""
        end = time.monotonic() + seconds
        while words not in self.text:
            if not self._read(0.1) and self.process.poll() is not None:
                self._read(0)
                assert words in self.text, f"the program has ended without {words!r}:\n{self.text}"
            assert time.monotonic() < end, f"{words!r} does not appear:\n{self.text}"
        self.text = self.text.partition(words)[2]

    def end(self, seconds: float) -> int:
        """Wait for the end and return the exit status (or minus a signal's number)."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"the program does not end:\n{self.text}"
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """The connection drops."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            data = os.read(self._master, 65536)
            text = data.decode("utf-8", "replace").replace("\r\n", "\n")
            self.text += text
            self.everything += text
            return bool(data)
        return False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()
