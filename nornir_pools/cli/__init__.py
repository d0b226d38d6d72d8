"""The command line, ``nornir-pools``: it does what a script could, by the package's public names.

What a command needs beyond typer is imported when it runs: ``--help`` has to answer at once.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import nornir_pools as pools

from . import acting, clearing, doctor, efficiency, looks, reasons, report, runs, sbatch
from .output import say

__all__ = ["app", "main"]

app = typer.Typer(
    name="nornir-pools",
    help="Run work on a SLURM cluster or this machine, see what it is doing, and find out why it failed.",
    epilog="To begin: nornir-pools run tasks.txt, where tasks.txt has one shell command a line. Exit status: 0, 1 if tasks "
    "failed, 2 for wrong use, 3 for what is lost or out of reach.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"nornir-pools {pools.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


for part in (runs, looks, reasons, acting, efficiency, report, sbatch, clearing, doctor):
    part.add_to(app)


@app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def demo(context: typer.Context) -> None:
    """Put a mosaic together from tiles of a micrograph."""
    from nornir_pools.demo.main import main as run_demo

    raise typer.Exit(run_demo(context.args))


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names and paths may have what no encoding can write
    try:
        app(args=arguments, prog_name="nornir-pools")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
