"""Who imports whom in the package, read from its source: for the test of the architecture, and the picture of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nornir_pools

__all__ = ["MODULES", "PACKAGE", "imported", "own_imports", "tree_of"]

PACKAGE = Path(nornir_pools.__file__).parent


def _name_of(path: Path) -> str:
    """The module's name inside the package; "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING``, which only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from _running_nodes(other)
            continue
        yield child
        yield from _running_nodes(child)


def imported(module: str) -> Iterator[str]:
    """The full names that a module imports, in functions as well."""
    package = ["nornir_pools", *(module.split(".") if module else [])]
    if MODULES[module].name != "__init__.py":
        package.pop()
    for node in _running_nodes(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner.removeprefix("nornir_pools.") in MODULES else base


@cache
def own_imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports."""
    names = {name for name in imported(module) if name.split(".")[0] == "nornir_pools"}
    return frozenset(name.removeprefix("nornir_pools").removeprefix(".") for name in names)
