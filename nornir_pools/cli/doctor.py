"""The command that looks whether all is well: doctor."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

import nornir_pools as pools

from .naming import Json
from .output import FAILED, OK, as_json, command, complain, fail, on_terminal, say, styled

__all__ = ["add_to"]

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_SUBJECT = 15  # characters


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools doctor --partition short --folder /scratch/me/runs")(doctor)


@command
def doctor(
    partition: Annotated[str, typer.Option(help="SLURM partition.", metavar="NAME")] = "",
    account: Annotated[str, typer.Option(help="SLURM account.", metavar="NAME")] = "",
    folder: Annotated[str, typer.Option(help="Where runs would live.", metavar="PATH")] = "",
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import", help="A package of your tasks, whose import is timed; may be given more than once.", metavar="NAME"
        ),
    ] = None,
    json: Json = False,
    write: Annotated[bool, typer.Option("--write", help="Write what was found into nornir_pools.toml, here.")] = False,
) -> None:
    """Look whether pools can work here, with one small job: folder, SLURM, Python, limits. Takes less than a minute."""
    given = {"slurm_partition": partition, "slurm_account": account, "folder": folder}
    findings = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # whatever ends it, nothing is left behind
    _wait_on()
    with contextlib.closing(pools.examine(imports, **{name: value for name, value in given.items() if value})) as found:
        for finding in found:
            findings.append(finding)
            _wait_off()
            if not json:
                _show(finding)
            _wait_on()
    _wait_off()
    if json:
        as_json([asdict(finding) for finding in findings])
    verdicts = [finding.verdict for finding in findings]
    if not json:
        counts = [f"{verdicts.count(kind)} {kind}{'s' if verdicts.count(kind) > 1 else ''}" for kind in ("problem", "warning")]
        say(", ".join(count for count in counts if count[0] != "0") or "All is well.")
        if "problem" not in verdicts:
            say("next: nornir-pools run TASKFILE")
    if write:
        _write(findings)
    raise typer.Exit(FAILED if "problem" in verdicts else OK)


def _wait_on() -> None:
    """While nothing is told, a terminal shows that something goes on: the job may have to wait."""
    if sys.stderr.isatty() and on_terminal():
        sys.stderr.write("looking …\r")
        sys.stderr.flush()


def _wait_off() -> None:
    if sys.stderr.isatty() and on_terminal():
        sys.stderr.write("\033[K")
        sys.stderr.flush()


def _show(finding: pools.Finding) -> None:
    """One line, on a terminal folded to fit; what to do next is below it."""
    indent = 9 + _SUBJECT
    width = max(50, min(shutil.get_terminal_size().columns, 130)) if on_terminal() else 100_000
    lines = textwrap.wrap(finding.words, width - indent, break_on_hyphens=False, break_long_words=False) or [""]
    if finding.advice:
        advice = textwrap.wrap(finding.advice, width - indent - 6, break_on_hyphens=False, break_long_words=False)
        lines += [("next: " if number == 0 else "      ") + line for number, line in enumerate(advice)]
    first = styled(finding.verdict.ljust(8), _STYLES[finding.verdict])
    say(f"{first} {finding.subject.ljust(_SUBJECT - 1)} {lines[0]}")
    for line in lines[1:]:
        say(" " * indent + line)
    sys.stdout.flush()


def _write(findings: list[pools.Finding]) -> None:
    try:
        written = pools.write_settings(findings)
    except pools.OptionError as error:
        complain(str(error))
        return
    except OSError as error:
        fail(f"nornir_pools.toml cannot be written here: {error.strerror}")
    if not written.changed:
        complain(f"{written.path} says all of that already")
        return
    complain(f"{written.path} is written:")
    for line in written.text.splitlines():
        complain(f"  {line}")
    if written.kept is not None:
        complain(f"the file that was there is kept as {written.kept.name}: its comments are not in the new one")
