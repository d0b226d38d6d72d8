"""Lists of commands, one a line, as the templates of slurm/ run them: lines that have succeeded leave a mark.

::

    LIST                the commands; blank lines and those that begin with # are none
    LIST.done/NUMBER    line NUMBER has succeeded, and is not run again
    LIST.logs/NUMBER    what it has printed, where the lines of one job would share a log
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import CommandRunner, run_command

__all__ = ["CommandList", "RunLine"]

SHELL = "/bin/bash"  # as in an sbatch script, which is where such lines come from


class CommandList:
    """A list in a file. Raises OSError if that cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        # (bytes that are no UTF-8 stay what they are, in a file's name, say)
        texts = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
        lines = ((number, text.removesuffix("\r")) for number, text in enumerate(texts, 1))  # of an editor on Windows
        self.commands = {number: text for number, text in lines if text and not text.startswith("#")}
        """By the number of the line."""

    def mark(self, number: int) -> Path:
        """The file that says that the line has succeeded."""
        return Path(f"{self.path}.done", str(number))

    def log(self, number: int) -> Path:
        """The file for what the line prints, if it has one of its own."""
        return Path(f"{self.path}.logs", str(number))

    def marked(self) -> set[int]:
        """The lines that have succeeded."""
        try:
            return {int(name) for name in os.listdir(f"{self.path}.done") if name.isdigit()}
        except FileNotFoundError:
            return set()


@dataclass(frozen=True)
class RunLine(CommandRunner):
    """Runs a line as `run_command` does, with its output going into the log of its job. If it succeeds it leaves its mark."""

    mark: str
    log: str = ""
    """A file for what it prints, which goes into the job's log once the line has ended; "": at once."""

    def __call__(self, command: str, **options: Any) -> tuple[int, str, str]:
        if self.log:
            result = self._run_with_log(command, options)
        else:
            result = run_command(command, executable=SHELL, stdout=1, stderr=2, **options)
        if result[0] == 0:
            os.makedirs(os.path.dirname(self.mark), exist_ok=True)
            with open(self.mark, "w"):
                pass
        return result

    def _run_with_log(self, command: str, options: dict[str, Any]) -> tuple[int, str, str]:
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        with open(self.log, "wb+") as log:
            try:
                return run_command(command, executable=SHELL, stdout=log.fileno(), stderr=log.fileno(), **options)
            finally:
                log.seek(0)
                with open(1, "wb", closefd=False) as job:
                    shutil.copyfileobj(log, job)
