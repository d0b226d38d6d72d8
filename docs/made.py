"""Parts of the pages that are made from the code: the picture of the architecture, and the commands of the command line."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from html import escape
from typing import Any

from tests.imports import MODULES, own_imports

__all__ = ["GROUPS", "PARTS", "PLACES", "arrows", "group_of", "shown"]

# The groups of the picture from top to bottom: folder and modules. A new module needs a place here.
GROUPS: dict[str, tuple[str, str]] = {
    "programs": ("", "cli demo __main__"),
    "for other tools": ("", "joblib testing pretend"),
    "public functions": ("", "nornir_pools api attaching looking examining"),
    "pools by name": ("", "registry getting upstream shared_memory"),
    "examination": ("cluster", "doctor nodeside verdicts trial probe"),
    "pool of jobs": ("cluster", "pool run children adopting resuming keys plan choosing again packed"),
    "watcher": (
        "cluster",
        "watcher supply submissions audit endings obituary retries refusals ledger budget failures jobs nodes cancelling "
        "idle_cpus values talker inbox dismissals roll",
    ),
    "launcher": ("cluster", "launcher local_launcher allocation launching"),
    "looking": ("cluster", "views reading clearing"),
    "worker": (
        "cluster",
        "worker child element arrays doubt offers environment measures signals limiting tmpdir "
        "beginning crew pace mates division",
    ),
    "slurm": ("cluster", "slurm answers queue nodelists sites states clusters withdrawals polling"),
    "spool": ("cluster", "spool folder names journal packs lease shared history places lag frozen freezing context"),
    "pools of this machine": (
        "local",
        "threads processes commands serial machine companion process_worker pipe shared memory deadlines limited servers",
    ),
    "what pools share": ("", "base poolbase adding holding parents tasks mapping appearance calling_off progress"),
    "commands and processes": ("", "command lines streams tail starting deaths profiling"),
    "task and outcome": (
        "",
        "task outcome calls heeding initializing limits hosts message errors options settings "
        "findings here kinds cpus condition turns members _version",
    ),
}
_WHOLE = ("cli", "demo", "pretend")  # stand for all that is in them
_EMPTY = ("local", "cluster")  # their __init__ has nothing but a docstring
PLACES = {
    "" if name == "nornir_pools" else f"{folder}.{name}" if folder else name: title
    for title, (folder, names) in GROUPS.items()
    for name in names.split()
}


def group_of(module: str) -> str:
    """The group that a module stands in. Raises KeyError if GROUPS has no place for it."""
    top = module.partition(".")[0]
    return PLACES[top if top in _WHOLE else module]


def arrows() -> set[tuple[str, str]]:
    """Which group imports from which."""
    pairs = {(group_of(module), group_of(other)) for module in MODULES if module not in _EMPTY for other in own_imports(module)}
    return {(upper, lower) for upper, lower in pairs if upper != lower}


def shown(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that are drawn: without those that lead where others lead, too, by way of a third group."""
    below: dict[str, set[str]] = {}
    for title in reversed(GROUPS):
        direct = {lower for upper, lower in pairs if upper == title}
        below[title] = direct.union(*(below[lower] for lower in direct))
    return {
        (upper, lower) for upper, lower in pairs if not any(lower in below[other] for above, other in pairs if above == upper)
    }


def _box(title: str) -> str:
    _, names = GROUPS[title]
    words = [f"{name}/" if name in _WHOLE else name for name in names.split()]
    lines = "<br/>".join(textwrap.wrap(", ".join(words), 30, break_long_words=False))
    return f'"{title}" [label=<<b>{escape(title)}</b><br/><font point-size="11">{lines}</font>>];'


def _architecture() -> str:
    """The picture, for Graphviz."""
    folders = dict.fromkeys(folder for folder, _ in GROUPS.values())
    lines = []
    for folder in folders:
        boxes = [_box(title) for title, (place, _) in GROUPS.items() if place == folder]
        frame = f'subgraph cluster_{folder} {{ label="{folder}/"; labeljust=l; ' if folder else ""
        lines += [frame, *boxes, "}" if folder else ""]
    lines += [f'"{upper}" -> "{lower}";' for upper, lower in sorted(shown(arrows()))]
    return "\n".join(
        [
            "```{graphviz}",
            ":alt: The groups of modules from the programs at the top to tasks and outcomes at the bottom; arrows lead down",
            "",
            "digraph {",
            'nodesep=0.25; ranksep=0.4; fontname="sans-serif"; fontsize=11; color="#99aabb"; fontcolor="#5577aa";',
            'node [shape=box, style="rounded,filled", fillcolor="#eef3fb", color="#5577aa", fontname="sans-serif"];',
            'edge [color="#5577aa", arrowsize=0.7];',
            *lines,
            "}",
            "```",
        ]
    )


def _commands() -> str:
    """Every command of ``nornir-pools`` with its arguments and options, as they tell of themselves."""
    import typer.main

    from nornir_pools.cli import app

    group: Any = typer.main.get_command(app)
    return "\n".join(part for name, command in group.commands.items() for part in _command(name, command))


def _command(name: str, command: Any) -> list[str]:
    params = [param for param in command.params if param.name != "help"]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param not in arguments]
    usage = " ".join(["nornir-pools", name, *["[OPTIONS]"] * bool(options), *(param.metavar for param in arguments)])
    rows = [(param.metavar, param.help) for param in arguments]
    rows += [(_words(param), param.help) for param in options]
    return [
        f"## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n",
        *(["| | |\n|---|---|"] if rows else []),
        *(f"| `{words}` | {told} |" for words, told in rows),
        *([f"\nExample: `{command.epilog.removeprefix('Example: ')}`\n"] if command.epilog else []),
    ]


def _words(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {option.metavar or 'N'}"


PARTS: dict[str, Callable[[], str]] = {"<!-- the picture -->": _architecture, "<!-- the commands -->": _commands}
"""What stands for a part in a page, and what makes it."""
