"""The command line: ``python -m nornir_pools``, also installed as ``nornir-pools``."""

from __future__ import annotations

import argparse
import sys

from . import __version__
from .demo import main as demo

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="nornir-pools", description="Run work on threads, processes or a SLURM cluster.")
    parser.add_argument("--version", action="version", version=f"nornir-pools {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("demo", help="put a mosaic together from overlapping tiles of a real micrograph")
    demo.add_arguments(command)
    command.set_defaults(run=demo.run)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
