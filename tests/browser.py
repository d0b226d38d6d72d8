"""A browser without a window, to see pages as users do."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["dom", "picture"]

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # which root must not have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def dom(page: Path) -> str:
    """A page's content once its scripts have run, as HTML."""
    return _chromium(page, "--dump-dom")


def picture(page: Path, target: Path, *options: str) -> bytes:
    """What a page looks like, as PNG."""
    _chromium(page, f"--screenshot={target}", "--window-size=1200,1600", *options)
    return target.read_bytes()


def _chromium(page: Path, *options: str) -> str:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium (Debian's package chromium) is not installed")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [program, *_OPTIONS, f"--user-data-dir={profile}", *options, page.absolute().as_uri()],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=90,
            check=True,
        )
    return done.stdout
