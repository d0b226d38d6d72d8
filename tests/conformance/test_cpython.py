"""The list of CPython's own checks is complete, and what it names exists."""

from __future__ import annotations

import ast
import sys
import sysconfig
from pathlib import Path

import pytest

from .cpython import CHECKS

HERE = Path(__file__).parent


def checks_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_the_list_names_is_there() -> None:
    found: dict[str, set[str]] = {}
    for module, check, _, where in CHECKS:
        if where.startswith("– "):
            continue
        file, _, name = where.partition("::")
        tests = found.setdefault(file, checks_in(HERE / file))
        assert name in tests, f"{module}.{check}: there is no {where}"
    assert len({row[:2] for row in CHECKS}) == len(CHECKS)


def test_the_list_lacks_none_of_this_pythons_checks() -> None:
    tests = Path(sysconfig.get_path("stdlib"), "test")
    files = [*tests.glob("test_concurrent_futures/*.py"), *tests.glob("test_concurrent_futures.py")]
    if not files or sys.version_info >= (3, 14):
        pytest.skip("this Python comes without its tests, or is newer than the list")
    listed = {check for _, check, _, _ in CHECKS}
    assert {name for file in files for name in checks_in(file)} - {"test_interpreter_pool"} <= listed
