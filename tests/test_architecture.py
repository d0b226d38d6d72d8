"""The shape of the package: who may import whom, how long a module may be, and what stands in it."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

import nornir_pools

from .imports import MODULES, PACKAGE, imported, own_imports, tree_of

ROOT = PACKAGE.parent

# A module imports only what stands in a line above its own. A new module needs a place here.
TIERS: tuple[tuple[str, ...], ...] = (
    ("_version", "errors", "here", "kinds", "cpus", "findings", "tail", "streams", "turns"),
    ("settings", "options", "message", "members", "hosts", "limits", "condition"),
    ("outcome", "calls", "heeding"),
    ("task", "initializing"),
    ("command", "deaths", "mapping", "tasks", "progress", "starting", "profiling", "parents"),
    ("adding", "appearance", "calling_off", "lines"),
    ("holding",),
    ("base",),
    ("poolbase",),
    ("local", "local.memory", "local.deadlines", "local.servers"),
    ("local.shared",),
    ("local.pipe",),
    ("local.process_worker",),
    ("local.companion",),
    ("local.limited",),
    ("local.processes", "local.commands", "local.threads", "local.serial"),
    ("local.machine",),
    ("cluster", "cluster.clusters", "cluster.states", "cluster.names", "cluster.division"),
    ("cluster.folder", "cluster.signals", "cluster.context", "cluster.slurm", "cluster.jobs", "cluster.talker"),
    ("cluster.tmpdir", "cluster.polling"),
    ("cluster.probe", "cluster.sites", "cluster.withdrawals"),
    ("cluster.failures", "cluster.environment", "cluster.measures", "cluster.nodelists", "cluster.nodes", "cluster.lag"),
    ("cluster.journal", "cluster.lease", "cluster.answers", "cluster.queue"),
    ("cluster.packs",),
    ("cluster.spool",),
    ("cluster.shared", "cluster.history", "cluster.places"),
    ("cluster.views", "cluster.budget", "cluster.frozen"),
    ("cluster.freezing", "cluster.keys", "cluster.idle_cpus"),
    ("cluster.reading",),
    ("cluster.child", "cluster.clearing", "cluster.cancelling", "cluster.arrays"),
    ("cluster.doubt", "cluster.offers", "cluster.beginning", "cluster.pace"),
    ("cluster.limiting",),
    ("cluster.worker",),
    ("cluster.element", "cluster.mates"),
    ("cluster.crew",),
    ("cluster.launching",),
    ("cluster.launcher",),
    ("cluster.local_launcher",),
    ("cluster.allocation",),
    ("cluster.plan", "cluster.choosing", "cluster.trial", "cluster.verdicts"),
    ("cluster.nodeside",),
    ("cluster.doctor",),
    ("cluster.ledger", "cluster.obituary", "cluster.retries"),
    ("cluster.endings", "cluster.refusals"),
    ("cluster.submissions", "cluster.audit", "cluster.dismissals", "cluster.roll"),
    ("cluster.supply",),
    ("cluster.values",),
    ("cluster.inbox",),
    ("cluster.watcher",),
    ("cluster.run",),
    ("cluster.adopting", "cluster.children"),
    ("cluster.resuming",),
    ("cluster.pool",),
    ("cluster.again", "cluster.packed"),
    ("registry",),
    ("shared_memory", "upstream", "getting"),
    ("api", "attaching", "looking", "examining"),
    ("joblib", "pretend", "pretend.store"),
    ("pretend.tables", "pretend.node", "pretend.worker"),
    ("pretend.commands",),
    ("testing",),
    ("",),  # the package itself
)
TOP = ("demo", "cli", "__main__")  # programs: above everything, in no order of their own
PRINTS = ("demo.main", "cli", "__main__")
LONGEST_MODULE = 300
LONGEST_FUNCTION = 50


def is_top(module: str, names: tuple[str, ...] = TOP) -> bool:
    return module in names or module.startswith(tuple(f"{name}." for name in names))


LIBRARY = [module for module in MODULES if not is_top(module)]


def importers_of(name: str) -> set[str]:
    return {module for module in MODULES if any(other.split(".")[0] == name for other in imported(module))}


def test_every_module_imports_only_from_lower_levels() -> None:
    places = {name: number for number, names in enumerate(TIERS) for name in names}
    for module in LIBRARY:
        assert module in places, f"nornir_pools.{module} has no place in TIERS"
        too_high = {name for name in own_imports(module) if is_top(name) or places[name] >= places[module]}
        assert not too_high, f"nornir_pools.{module} imports from above"


def test_modules_import_each_other_in_no_circle() -> None:
    left = {module: own_imports(module) - {module} for module in MODULES}
    while left:
        free = {module for module, names in left.items() if not names & left.keys()}
        assert free, f"a circle within {sorted(left)}"
        left = {module: names for module, names in left.items() if module not in free}


def test_a_program_module_goes_by_the_public_names_only() -> None:
    for module in filter(is_top, MODULES):
        assert {name for name in own_imports(module) if not is_top(name)} <= {""}, module


def test_modules_are_short() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert not {module: length for module, length in lengths.items() if length > LONGEST_MODULE}


def test_functions_are_short() -> None:
    lengths = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}


def test_only_programs_print() -> None:
    for module in MODULES:
        if not is_top(module, PRINTS):
            calls = [node.func for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
            assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"], module


def test_only_the_launcher_imports_submitit() -> None:
    assert importers_of("submitit") == {"cluster.launcher"}


def test_only_few_modules_start_programs() -> None:
    assert {module for module in importers_of("subprocess") if not is_top(module)} <= {"command", "cluster.slurm"}


def test_every_call_of_a_slurm_command_has_a_time_limit() -> None:
    starters = {"Popen", "check_call", "check_output", "execv", "execve", "execvp", "getoutput", "popen", "system"}
    places = {
        (module, function.name)
        for module in MODULES
        if module.startswith("cluster")
        for function in ast.walk(tree_of(module))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr in starters or node.func.attr.startswith(("spawn", "posix_spawn")) or _is_of_subprocess(node.func))
    }
    assert places == {("cluster.slurm", "run")}
    (run,) = [node for node in tree_of("cluster.slurm").body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    (communicate,) = [
        node
        for node in ast.walk(run)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "communicate"
    ]
    assert [keyword.arg for keyword in communicate.keywords] == ["timeout"]


def _is_of_subprocess(func: ast.Attribute) -> bool:
    return isinstance(func.value, ast.Name) and func.value.id == "subprocess"


def test_every_module_says_what_it_is() -> None:
    assert not [module for module in MODULES if module != "_version" and not ast.get_docstring(tree_of(module))]


def test_every_module_lists_what_it_offers() -> None:
    for module in LIBRARY:
        if MODULES[module].name == "__init__.py" or module == "_version":
            continue
        loaded = importlib.import_module(f"nornir_pools.{module}")
        offered = set(getattr(loaded, "__all__", ()))
        own = {
            node.name
            for node in tree_of(module).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        }
        assert own <= offered, f"nornir_pools.{module}.__all__ is incomplete"
        assert not {name for name in offered if not hasattr(loaded, name)}, module


def test_a_type_checker_finds_every_name_of_the_package_where_a_program_does() -> None:
    (read,) = (node for node in tree_of("").body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in read.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: f"nornir_pools.{node.module}" for node in imports for alias in node.names}
    assert len(nornir_pools.__all__) == len(set(nornir_pools.__all__))
    assert set(nornir_pools.__all__) == {*homes, "__version__"}
    for name, home in homes.items():
        assert getattr(nornir_pools, name) is getattr(importlib.import_module(home), name)


def test_the_package_has_its_modules_and_nothing_else_as_attributes() -> None:
    program = (
        "import nornir_pools as pools\n"
        "assert pools.poolbase.PoolBase is pools.IPool and pools.task.Task is pools.Task\n"
        "assert {'GetThreadPool', 'wait'} <= set(dir(pools))\n"
        "assert not hasattr(pools, 'nonsense')\n"
        "from nornir_pools import *\n"
        "GetThreadPool, Task, attach, _pool_kind\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_only_the_upstream_functions_have_upstreams_spelling() -> None:
    for module in MODULES:
        if module in ("api", "upstream", "members"):
            continue
        for node in ast.walk(tree_of(module)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.name == node.name.lower(), f"{module}.{node.name}"


def test_no_path_of_one_machine_is_mentioned() -> None:
    pattern = rf"(?<![\w.~}}])/(?:{'|'.join(['home', 'root', 'Users', 'work'])})/"
    for module, path in MODULES.items():
        assert not re.search(pattern, path.read_text(encoding="utf-8")), module


def test_import_loads_nothing_heavy() -> None:
    heavy = (
        "submitit",
        "numpy",
        "rich",
        "cloudpickle",
        "typer",
        "asyncio",
        "platformdirs",
        "filelock",
        "nornir_pools.cluster.launcher",
    )
    assert loaded_by("from nornir_pools import *", heavy) == []


@pytest.mark.parametrize("module", ["cluster.worker", "local.process_worker"])
def test_a_worker_loads_little_until_a_task_needs_more(module: str) -> None:
    """Every job begins with that, and a job of short tasks takes not much longer."""
    heavy = ("logging", "concurrent.futures", "inspect", "hashlib", "uuid", "nornir_pools.base", "nornir_pools.command")
    assert loaded_by(f"import nornir_pools.{module}", heavy) == []


def loaded_by(statement: str, names: Sequence[str]) -> list[str]:
    """Which of these modules are loaded after the statement in a process of its own."""
    program = f"import sys; {statement}; print(*(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_starts_nothing_and_sets_nothing() -> None:
    program = (
        "import logging, os, signal, sys, threading\n"
        "before = dict(os.environ), list(sys.path), os.getcwd(), signal.getsignal(signal.SIGINT)\n"
        "from nornir_pools import *\n"
        "assert before == (dict(os.environ), list(sys.path), os.getcwd(), signal.getsignal(signal.SIGINT))\n"
        "assert threading.active_count() == 1\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('nornir_pools').handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
