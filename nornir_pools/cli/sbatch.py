"""The command that prints templates for sbatch. They stand in slurm/ of the source, to which the folder templates leads."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .naming import Json
from .output import as_json, command, complain, fail, say, short, table

__all__ = ["add_to"]

_PLACE = Path(__file__).parent / "templates"  # a link in the source, a folder where the package is installed
_SITE_LINE = re.compile(r'^eval "\$\{SITE_SETUP:-\}".*\n', re.MULTILINE)
_OPTIONS = {"slurm_account": "account", "slurm_partition": "partition", "slurm_qos": "qos"}
_WORD = re.compile(r"[\w.,@:+/-]+")


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: nornir-pools template array > array.sbatch")(template)


@command
def template(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The template: array, or array.sbatch.")] = "",
    every: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
    site: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A site.toml whose account, partition and setup lines it gets.")
    ] = None,
    json: Json = False,
) -> None:
    """Print a script for sbatch, ready to use: arrays over lists and functions, workers for a run, requeueing, containers."""
    if every or not name:
        if not every:
            fail("which template? nornir-pools template --list lists them")
        _list(json)
        return
    path = _find(name)
    text = path.read_text(encoding="utf-8")
    if site is not None:
        text = _for_site(path, text, _read_site(site))
    sys.stdout.write(text)
    if beside := _sends(path, text):
        commands = ", ".join(f"nornir-pools template {other.partition('.')[0]} > {other}" for other in beside)
        complain(f"{path.name} sends {' and '.join(beside)}, to stand beside it: {commands}")


def _templates() -> list[Path]:
    return sorted([*_PLACE.glob("*.sbatch"), *_PLACE.glob("*.sh"), _PLACE / "site.toml"])


def _find(name: str) -> Path:
    known = _templates()
    found = [path for path in known if name in (path.name, path.stem)]
    if not found:
        fail(f"there is no template {name!r}, but {', '.join(path.stem for path in known)}")
    return found[0]


def _list(json: bool) -> None:
    about = [(path.name, _about(path.read_text(encoding="utf-8"))) for path in _templates()]
    if json:
        as_json([{"name": name, "about": words} for name, words in about])
        return
    table(["TEMPLATE", "WHAT IT DOES"], [[name, short(words, 110)] for name, words in about])
    say()
    say("One of them: nornir-pools template array > array.sbatch; its first lines say how it is called.")


def _about(text: str) -> str:
    """The first sentence of a template's comment."""
    lines = [line for line in text.splitlines() if not line.startswith(("#!", "#SBATCH"))]
    paragraph = " ".join(line.lstrip("# ") for line in lines[: lines.index("#")])
    return re.split(r"(?<=\.) ", paragraph)[0].rstrip(".:")


def _sends(path: Path, text: str) -> list[str]:
    """Other templates that it hands to sbatch."""
    if path.suffix != ".sh":
        return []
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#") and "usage:" not in line)
    return [other.name for other in _templates() if other != path and re.search(rf"[/-]{re.escape(other.name)}\b", body)]


def _read_site(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except ValueError as error:
        fail(f"{path}: {error}")
    if unknown := set(facts) - set(_OPTIONS) - {"slurm_setup"}:
        fail(f"{path}: templates have no use for {', '.join(sorted(unknown))}")
    for name, value in facts.items():
        if name == "slurm_setup":
            if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
                fail(f"{path}: slurm_setup has to be a list of shell lines")
        elif not isinstance(value, str) or not _WORD.fullmatch(value):
            fail(f"{path}: {name} cannot be {value!r}")
    return facts


def _for_site(path: Path, text: str, site: Mapping[str, Any]) -> str:
    """The template with the site's options and setup lines in the places where `with-site` would have them from outside."""
    options = {_OPTIONS[name]: value for name, value in site.items() if name in _OPTIONS}
    setup = "\n".join(site.get("slurm_setup", []))
    if path.suffix == ".sbatch":
        lines = text.splitlines(keepends=True)
        last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH "))
        lines[last + 1 : last + 1] = [f"#SBATCH --{name}={value}\n" for name, value in options.items()]
        return _SITE_LINE.sub(lambda _: f"# of the site\n{setup}\n", "".join(lines)) if setup else "".join(lines)
    if path.suffix != ".sh":
        fail(f"{path.name} takes nothing from a site.toml: it is one")
    exports = [f"export SBATCH_{name.upper()}={shlex.quote(value)}\n" for name, value in options.items()]
    exports += [f"export SITE_SETUP={shlex.quote(setup)}\n"] if setup else []
    head, strict, body = text.partition("set -euo pipefail\n")  # what it hands to sbatch has them from its environment
    return "".join([head, strict, *exports, body])
