"""The run of an array that somebody has sent by hand: its tasks are lines of a list, one for each element.

No process holds it. Whichever element comes first makes it, whole, beside where it will stand, and renames it; the others
wait until a listing shows it. Whichever sees that all lines have an outcome closes it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import shutil
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import message, settings
from ..errors import PoolError, SpoolError
from ..lines import CommandList, RunLine
from ..options import Options
from . import clusters, slurm
from .context import ContextReader, fingerprints
from .history import told
from .lease import Lease
from .names import run_prefix, word_order
from .places import note_run, remove_old_runs, runs_folder
from .shared import SharedStore
from .spool import Spool, task_name, task_number

__all__ = ["close_if_done", "run_of_array"]

_PATIENCE = 60.0  # seconds after which whoever makes the run counts as dead, and another element makes it
_LONGEST_WAIT = 600.0  # seconds
_WORD = ("job", "group", "worker", "host", "node", "log", "pid", "born", "reason")  # what the journal tells of a worker


def run_of_array(lines: CommandList, environment: Mapping[str, str]) -> Path:
    """The folder of the run of this element's array, which is made if need be. Raises SpoolError if that cannot be."""
    options = Options.of({}, settings.environment_options(), settings.file_options())
    folder = runs_folder(options)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_prefix(lines.path.stem)}-{environment['SLURM_ARRAY_JOB_ID']}"
    sign = folder / f".{path.name}.making"  # whoever has made this folder makes the run
    begun = since = time.monotonic()
    # Over NFS a name that was looked for too early stays invisible for up to a minute, so it is listed.
    while path.name not in os.listdir(folder):
        waited = time.monotonic() - since
        if _has_made(sign) or (waited > _PATIENCE and _take_over(sign)):
            try:
                if path.name not in os.listdir(folder):
                    _make(path, lines, options, environment)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    sign.rmdir()
            break
        if waited > _PATIENCE:
            since = time.monotonic()  # another element was faster
        if time.monotonic() - begun > _LONGEST_WAIT:
            raise SpoolError(
                f"the run {path.name}, which another element of the array is to make, does not appear in {folder}: do all "
                "nodes see that folder? Set another with NORNIR_POOLS_FOLDER, and send the lines again with retry.sh",
                folder=str(folder),
            )
        time.sleep(random.uniform(0.05, 0.3))
    return path


def _has_made(sign: Path) -> bool:
    try:
        sign.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _take_over(sign: Path) -> bool:
    """Whether this element is the one that goes on in place of one that has died: a rename succeeds for one only."""
    aside = sign.with_name(f"{sign.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        sign.rename(aside)
        aside.rmdir()
        return _has_made(sign)
    return False


def _make(path: Path, lines: CommandList, options: Options, environment: Mapping[str, str]) -> None:
    options = replace(options, executor="slurm", resume=False).with_task(_job_options(environment))
    draft = path.with_name(f".{path.name}.draft-{uuid.uuid4().hex[:6]}")
    try:
        with contextlib.closing(Spool.create(draft)) as spool:
            _fill(spool, lines, options, environment)
        draft.rename(path)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if path.name not in os.listdir(path.parent):
            raise
        return  # this element was so slow that another has made it meanwhile
    for left in path.parent.glob(f".{path.name}.draft-*"):  # by an element that has died
        shutil.rmtree(left, ignore_errors=True)
    note_run(path)
    remove_old_runs(path.parent)


def _fill(spool: Spool, lines: CommandList, options: Options, environment: Mapping[str, str]) -> None:
    """Journal the array's lines as tasks, and publish their calls. The number of a task is that of its line."""
    array = environment["SLURM_ARRAY_JOB_ID"]
    elements = _elements(environment) - lines.marked()
    tasks = {number: command for number, command in lines.commands.items() if number in elements}
    jobs = [f"{array}_{number}" for number in tasks]
    spool.note_all(
        [
            {"t": "group", "n": 0, "options": options.plain()},
            {"t": "sending", "name": array, "group": 0, "count": len(jobs)},
            {"t": "jobs", "name": array, "group": 0, "ids": jobs},
            *({"t": "task", "n": n, "name": f"line {n}", "group": 0, "command": command} for n, command in tasks.items()),
        ]
    )
    context = SharedStore(spool, "pool").put(ContextReader(environment).read())
    for number, command in tasks.items():
        call = RunLine(str(lines.mark(number))), (command,), {"cwd": os.getcwd()}
        spool.publish(0, task_name(number), message.pack({"name": f"line {number}", "context": context}, message.dump(call)))
    spool.describe(
        {
            "pool": run_prefix(lines.path.stem),
            "python": "{}.{}".format(*sys.version_info),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "started": time.time(),
            "environment": fingerprints(environment),
            "executor": "slurm",
            "num_threads": options.max_jobs or 256,
            "options": options.plain(),
            "array": array,
        }
    )


def _elements(environment: Mapping[str, str]) -> set[int]:
    """The indices of the array's elements. Where SLURM does not say: all there may be."""
    first, last, step, count = (int(environment[f"SLURM_ARRAY_TASK_{word}"]) for word in ("MIN", "MAX", "STEP", "COUNT"))
    whole = set(range(first, last + 1, step or 1))
    if len(whole) == count:
        return whole
    mine = f"{environment['SLURM_ARRAY_JOB_ID']}_"
    with contextlib.suppress(slurm.SlurmError):
        return {
            int(job.removeprefix(mine))
            for job in slurm.states(clusters.on(environment, ""))
            if re.fullmatch(rf"{mine}\d+", job)
        }
    return set(range(first, last + 1))


def _job_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """What this job was sent with: what is run again is to have the same."""
    given: dict[str, Any] = {}
    if (cpus := environment.get("SLURM_CPUS_PER_TASK", "")).isdigit():
        given["cpus_per_task"] = int(cpus)
    if (memory := environment.get("SLURM_MEM_PER_NODE", "")).isdigit() and int(memory):
        given["mem_gb"] = round(int(memory) / 1024, 6)
    if (gpus := environment.get("SLURM_GPUS_ON_NODE", "")).isdigit() and int(gpus):
        given["gpus_per_node"] = int(gpus)
    if math.isfinite(left := slurm.job_end(environment) - time.time()) and left > 0:
        given["timeout_min"] = max(
            1, math.ceil((left - 1) / 60)
        )  # (it has only just begun, and its end is known to the second)
    for name in ("partition", "account"):
        if value := environment.get(f"SLURM_JOB_{name.upper()}", "").replace("(null)", ""):
            given[f"slurm_{name}"] = value
    if setup := environment.get("SITE_SETUP", ""):
        given["slurm_setup"] = setup.splitlines()
    return given


# --- its end


def close_if_done(path: Path) -> None:
    """Close the run if each of its tasks is over, as its pool would: with all that is known in the journal, and few files.

    Whatever is in the way, the run is complete without.
    """
    with contextlib.suppress(PoolError, OSError, ValueError), contextlib.closing(Spool(path)) as spool:
        if not _is_done(spool):
            return
        lease = Lease(spool)
        lease.take()
        try:
            if _is_done(spool):
                _close(spool)
        finally:
            lease.release()


def _is_done(spool: Spool) -> bool:
    """Whether no call waits or runs; looked at in the order in which calls move."""
    if any(tasks for _, tasks in spool.offers(0)[0]):
        return False
    claims = {claim for worker in spool.names("claimed") for claim in spool.claims(worker)}
    return not claims or claims <= {".".join(name.split(".")[:2]) for name in spool.answers()}


def _close(spool: Spool) -> None:
    over = spool.over()
    spool.resume()
    entries, logs = [], set()
    inbox = spool.inbox()
    words = sorted((name for name in inbox if name.startswith("+")), key=word_order)
    for name in [*words, *(name for name in inbox if not name.startswith("+"))]:
        data = spool.read(f"inbox/{name}")
        if name.startswith("+"):
            facts = json.loads(data)
            entries.append({"t": name.rpartition(".")[2], **{word: facts.get(word) for word in _WORD}})
        elif (number := task_number(name)) not in over:
            over.add(number)
            facts = told(message.read_header(data), spool)
            entries.append({"t": "done", "n": number, "outcome": name, **facts})
            if not facts["ok"] or facts.get("status"):
                logs.add(facts.get("log", ""))
    spool.note_all([*entries, {"t": "closed"}])
    spool.discard(keep_logs=logs)
