"""The command line: ``python -m nornir_pools``, also installed as ``nornir-pools``."""

from __future__ import annotations

import sys

from .cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
