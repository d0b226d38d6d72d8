"""Where runs live, and how they are found again: in the folders for runs, and by an index in the user's data folder."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import PoolError, RunNotFoundError, SpoolError
from ..options import Options
from .lease import holder_of
from .spool import Spool

__all__ = [
    "RunInfo",
    "find_run",
    "known_runs",
    "local_folders_of",
    "look_at",
    "note_run",
    "remove_old_runs",
    "runs_folder",
    "warn_if_local",
]

logger = logging.getLogger("nornir_pools")

_KEPT_DAYS = 14


@dataclass(frozen=True)
class RunInfo:
    """One run, as it is found on disk."""

    name: str
    """The pool's name, when it was started, and a few characters that tell runs of the same second apart."""
    pool: str
    path: Path
    started: float
    """In seconds since the epoch."""
    state: str
    """"held" by a live process, "left" by the one that held it (its jobs may go on: `attach` to it), or "closed"."""
    holder: str
    """The process that holds the run, or held it last; "" if it let it go."""


def runs_folder(options: Options) -> Path:
    """Where runs live. Raises SpoolError if that cannot be written."""
    if options.folder:
        folder = Path(options.folder).expanduser().absolute()
        if not _writable(folder):
            raise SpoolError(f"the folder for runs, {folder}, cannot be written; set another with folder=", folder=str(folder))
        return folder
    candidates = _default_folders()
    for folder in candidates:
        if _writable(folder):
            return folder
    places = ", ".join(map(str, candidates))
    raise SpoolError(f"no folder for runs can be written, of {places}; set one with folder= or NORNIR_POOLS_FOLDER")


def _default_folders() -> list[Path]:
    scratch = os.environ.get("SCRATCH")
    first = [Path(scratch) / "nornir_pools"] if scratch else []
    return [*first, Path.cwd() / ".nornir_pools", Path.home() / ".nornir_pools"]


def _writable(folder: Path) -> bool:
    """Whether the folder is there and can be written, or can be made."""
    while not os.path.exists(folder):
        if folder.parent == folder:
            return False
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def warn_if_local(path: Path) -> None:
    """Warn of a folder that the nodes of a cluster will not see."""
    for local in local_folders_of(path):
        logger.warning(
            "the run's folder %s is under %s, which the nodes of a cluster do not share: they may not see the tasks; "
            "set a shared one with folder= or NORNIR_POOLS_FOLDER",
            path,
            local,
        )


def local_folders_of(path: Path) -> list[str]:
    """The folders above it that each machine has for itself, as far as names tell."""
    places = {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"}
    return sorted(place for place in places if path.is_relative_to(place))


# --- finding runs


def _index() -> Path:
    """The folder that has, for each run of this user, a file of its name that holds its path."""
    import platformdirs

    return Path(platformdirs.user_data_dir("nornir_pools")) / "runs"


def note_run(path: Path) -> None:
    """Have a run found from any folder. The index is a convenience: where the home folder cannot be written there is none."""
    try:
        _index().mkdir(mode=0o700, parents=True, exist_ok=True)
        (_index() / path.name).write_text(str(path), encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        logger.info("run %s is not in the index of runs: %s", path.name, error)


def known_runs() -> list[RunInfo]:
    """This user's runs, the oldest first: those of the index, and those in the folders where runs live by default."""
    paths = {path.name: path for path in (*_indexed_paths(), *_default_paths())}
    found = []
    for path in paths.values():
        with contextlib.suppress(PoolError):  # something else lies there, or somebody else's
            found.append(look_at(path))
    return sorted(found, key=lambda run: run.started)


def _indexed_paths() -> Iterator[Path]:
    try:
        entries = list(_index().iterdir())
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            path = Path(entry.read_text(encoding="utf-8", errors="surrogateescape"))
            if path.parent.is_dir() and not path.exists():
                entry.unlink()  # the run was removed
            else:  # (or its filesystem is not to be seen from this machine)
                yield path


def _default_paths() -> Iterator[Path]:
    given, _ = {**settings.file_options(), **settings.environment_options()}.get("folder", ("", ""))
    for folder in [Path(str(given)).expanduser()] if given else _default_folders():
        with contextlib.suppress(OSError):
            yield from (path.absolute() for path in folder.iterdir())


def look_at(path: Path) -> RunInfo:
    """What a run's folder tells. Raises PoolError if it is no run, or not this user's."""
    spool = Spool(path)
    try:
        facts = json.loads(spool.read("run.json"))
        holder = holder_of(spool)
        state = "held" if holder is not None and holder.live else "left"
        if _is_closed(path / "journal.jsonl"):
            state = "closed"
        return RunInfo(path.name, facts["pool"], path, facts["started"], state, str(holder or ""))
    except (OSError, ValueError, KeyError) as error:
        raise RunNotFoundError(f"{path} holds no run that can be read: {error}") from error
    finally:
        spool.close()


def find_run(wanted: str | os.PathLike[str]) -> Path:
    """The folder of the run with that path, name, or unique beginning of a name; of a pool's name the newest run, and of
    "last" the newest of all. Raises RunNotFoundError.
    """
    path = Path(wanted).expanduser()
    if (path / "run.json").is_file():
        return path.absolute()
    runs = known_runs()
    word = os.fspath(wanted)
    for chosen in (
        [run for run in runs if run.name == word],
        [run for run in runs if run.pool == word or word == "last"][-1:],
        [run for run in runs if run.name.startswith(word)],
    ):
        if len(chosen) == 1:
            return chosen[0].path
        if chosen:
            names = ", ".join(run.name for run in chosen)
            raise RunNotFoundError(f"{word!r} is the beginning of more than one run's name: {names}")
    names = ", ".join(run.name for run in runs[-5:]) or "none"
    raise RunNotFoundError(f"there is no run {word!r}; the newest ones are: {names}. If it lives elsewhere, give its path")


def remove_old_runs(folder: Path) -> None:
    """Remove runs that were closed more than 14 days ago: what is kept of a run is kept that long."""
    before = time.time() - _KEPT_DAYS * 86400
    for path in folder.iterdir():
        journal = path / "journal.jsonl"
        try:
            status = journal.lstat()
            if status.st_mtime < before and status.st_uid == os.geteuid() and _is_closed(journal):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # no run, or somebody else's
            continue


def _is_closed(journal: Path) -> bool:
    """Whether the journal's last word is that the run was closed."""
    try:
        with journal.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().splitlines()
    except FileNotFoundError:  # its process died before it had added a task
        return False
    try:
        return bool(lines) and json.loads(lines[-1]).get("t") == "closed"
    except ValueError:  # its process died while it wrote this line
        return False
