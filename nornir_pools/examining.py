"""Can pools work here, and how well? An examination, and the file of options that follows from it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import settings
from .errors import OptionError
from .findings import PROBLEM, Finding
from .options import Options

__all__ = ["WrittenSettings", "examine", "write_settings"]


def examine(packages: Sequence[str] | None = None, **options: Any) -> Generator[Finding, None, None]:
    """Look at this machine, the scheduler and, with one small job, a node, as pools with these options would use them.

    Gives one finding after the other, in less than a minute, and leaves nothing behind, also if it is closed before its
    end. `packages` are those whose import is timed on both sides (None: those of numpy, scipy, skimage and torch that are
    installed). Raises OptionError.
    """
    chosen = Options.of(options, settings.environment_options(), settings.file_options())
    from .cluster import doctor

    return doctor.examine(chosen, packages)


@dataclass(frozen=True)
class WrittenSettings:
    """What was written."""

    path: Path
    text: str
    changed: bool
    """Whether it says anything else than before; if not, nothing was written."""
    kept: Path | None = None
    """Where the file that was there before is kept."""


def write_settings(findings: Iterable[Finding]) -> WrittenSettings:
    """Write a ``nornir_pools.toml`` into the working folder, with the options that follow from an examination.

    Options of a file that is there already stay, unless the examination found others, and that file is kept under another
    name. Returns what it says now. Raises OptionError if a finding is a problem, OSError if nothing can be written.
    """
    findings = list(findings)
    if wrong := [finding for finding in findings if finding.verdict == PROBLEM]:
        raise OptionError(f"nothing is written while there are problems ({', '.join(finding.subject for finding in wrong)})")
    path = Path.cwd() / settings.FILE_NAME
    known = {name: value for name, (value, place) in settings.file_options().items() if place == str(path)}
    before = dict(known)
    for finding in findings:
        known.update(finding.options)
    text = "# Defaults of cluster pools, found by: nornir-pools doctor --write\n"
    text += "".join(f"{name} = {_toml(value)}\n" for name, value in known.items())
    if known == before and path.exists():
        return WrittenSettings(path, text, False)
    kept = _keep(path) if path.exists() else None
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)  # a file that a group can write is not read
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return WrittenSettings(path, text, True, kept)


def _keep(path: Path) -> Path:
    """Give the file a second name, which it keeps when another takes the first."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    os.link(path, kept)
    return kept


def _toml(value: Any) -> str:
    """A value in TOML, whose texts, numbers and lists are written as in JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
