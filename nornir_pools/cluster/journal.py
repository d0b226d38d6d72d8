"""A run's journal: what its holder did, one JSON object a line. Only the holder writes it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .folder import FLAGS, Folder, tried_again, write_all

__all__ = ["Journal"]


class Journal(Folder):
    """A run's folder, of which this part knows the journal."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._journal = -1  # its descriptor, opened when first needed
        self._torn = False  # the last line may be a part of one

    def close(self) -> None:
        """Let the folder go."""
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1
        super().close()

    def note(self, **entry: Any) -> None:
        """Add a line to the journal: one write, so that it is there whole if this process dies the next moment."""
        self.note_all([entry])

    @tried_again
    def note_all(self, entries: Sequence[dict[str, Any]]) -> None:
        """Add lines to the journal by one write."""
        now = round(time.time(), 3)
        text = "".join(json.dumps({**entry, "time": now}, default=str) + "\n" for entry in entries)
        try:
            if self._journal < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | FLAGS
                self._journal = os.open("journal.jsonl", flags, 0o600, dir_fd=self._fd)
            write_all(self._journal, [("\n" + text if self._torn else text).encode()])
        except OSError as error:
            self._torn = True  # a full disk takes half a line: the next one must not be lost with it
            raise self.error("cannot be written (journal.jsonl)", error) from error
        self._torn = False

    def journal(self) -> bytes:
        """All of the journal."""
        return bytes(self.read("journal.jsonl")) if "journal.jsonl" in self.names(".") else b""

    def over(self) -> set[int]:
        """The numbers of the tasks whose end the journal has."""
        ends = (b'"t": "done"', b'"t": "given up"', b'"t": "cancelled"')
        over = set()
        for line in self.journal().splitlines():
            if any(end in line for end in ends):
                with contextlib.suppress(ValueError):  # half written
                    over.add(int(json.loads(line)["n"]))
        return over
