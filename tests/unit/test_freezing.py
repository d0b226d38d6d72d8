"""The user's own modules: which they are, and that what was stored is what is imported."""

from __future__ import annotations

import importlib
import json
import linecache
import os
import py_compile
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

import nornir_pools as pools
from nornir_pools.cluster import freezing
from nornir_pools.cluster.freezing import Freezer, with_todays_code
from nornir_pools.cluster.frozen import FrozenCode, FrozenLoader, stored_modules
from nornir_pools.cluster.shared import SharedStore
from nornir_pools.cluster.spool import Spool


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedStore]:
    """A run's, and a working folder ``tree`` whose modules can be imported; afterwards they are forgotten."""
    spool = Spool.create(tmp_path / "run")
    (tmp_path / "tree").mkdir()
    monkeypatch.chdir(tmp_path / "tree")
    monkeypatch.syspath_prepend(str(tmp_path / "tree"))
    modules, finders = dict(sys.modules), list(sys.meta_path)
    yield SharedStore(spool, "pool")
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.meta_path[:] = finders
    linecache.clearcache()
    spool.close()


def write(path: str, text: str = "VALUE = 1\n") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def imported(name: str) -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module(name)


def forget(*names: str) -> None:
    """As in a worker, which has not imported them."""
    for name in names:
        sys.modules.pop(name, None)


def digests(freezer: Freezer) -> list[str]:
    found: list[str] = json.loads(freezer.into(b"{}"))["code"]
    return found


def stored(store: SharedStore, freezer: Freezer) -> set[str]:
    return {module.name for digest in digests(freezer) for module in stored_modules(store, digest)}


def test_of_packages_all_is_stored_and_of_what_is_installed_nothing(
    store: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("own/__init__.py", "own/used.py", "own/inner/__init__.py", "own/inner/later.py", "own/data/no_module.py"):
        write(path)
    write("env/lib/site-packages/installed.py")
    write("single.py")
    write("not_imported.py")
    write("../elsewhere/other.py")
    monkeypatch.syspath_prepend("env/lib/site-packages")
    monkeypatch.syspath_prepend("../elsewhere")
    for name in ("own.used", "installed", "single", "other"):
        imported(name)
    assert stored(store, Freezer(store, "run")) == {"own", "own.used", "own.inner", "own.inner.later", "single"}


def test_the_tree_is_the_whole_checkout(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write(".git/config")
    write("src/module.py")
    write("scripts/script.py")
    monkeypatch.chdir("scripts")
    monkeypatch.syspath_prepend("../src")
    imported("module")
    assert stored(store, Freezer(store, "run")) == {"module"}


def test_what_is_imported_later_is_added(store: SharedStore) -> None:
    write("first.py")
    write("second.py")
    imported("first")
    freezer = Freezer(store, "run")
    (one,) = digests(freezer)
    write("first.py", "VALUE = 'changed'\n")
    imported("second")
    assert digests(freezer)[:1] == [one]
    assert [[module.name for module in stored_modules(store, digest)] for digest in digests(freezer)] == [["first"], ["second"]]


def test_what_was_stored_is_not_stored_again(store: SharedStore) -> None:
    write("own/__init__.py")
    write("own/later.py")
    imported("own")
    freezer = Freezer(store, "run")
    before = digests(freezer)
    write("own/later.py", "VALUE = 'changed'\n")
    imported("own.later")
    assert digests(freezer) == before


def test_code_is_imported_as_it_was(store: SharedStore) -> None:
    write("own/__init__.py")
    write("own/used.py", "def fail():\n    raise ValueError('first')  # as it was\n")
    write("space/inside.py")
    data = write("own/data.json", "[7]")
    imported("own.used")
    imported("space.inside")
    code = digests(Freezer(store, "run"))
    forget("own", "own.used", "space", "space.inside")
    write("own/used.py", "VALUE = 2\n")
    Path("space/inside.py").unlink()
    shutil.rmtree("space")
    FrozenCode(store).use(code)
    used = imported("own.used")
    assert used.__file__ == os.path.abspath("own/used.py")
    assert Path(used.__file__).with_name("data.json").read_text() == data.read_text()
    assert "as it was" in linecache.getline(used.__file__, 2)
    linecache.checkcache()
    assert "as it was" in linecache.getline(used.__file__, 2)
    assert importlib.import_module("own").__path__ == [os.path.abspath("own")]
    assert imported("space.inside").VALUE == 1
    write("own/new.py", "VALUE = 3\n")
    assert imported("own.new").VALUE == 3  # was not there when the code was stored


def test_bytecode_serves_as_long_as_it_is_of_the_same_source(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write("own.py", "VALUE = 1\n")
    imported("own")
    code = digests(Freezer(store, "run"))
    py_compile.compile(str(source))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    frozen = FrozenCode(store)
    frozen.use(code)
    forget("own")
    with monkeypatch.context() as patch:
        patch.setattr(FrozenLoader, "source_to_code", lambda *_: pytest.fail("was compiled again"))
        assert imported("own").VALUE == 1
    write("own.py", "VALUE = 'another'\n")
    compiled = Path(py_compile.compile(str(source)) or "")
    before = compiled.read_bytes()
    forget("own")
    assert imported("own").VALUE == 1
    assert compiled.read_bytes() == before


def test_tasks_of_two_scripts_get_each_their_own(store: SharedStore) -> None:
    write("own.py", "VALUE = 'one'\n")
    imported("own")
    one = digests(Freezer(store, "run"))
    write("own.py", "VALUE = 'the other'\n")
    other = digests(Freezer(store, "run"))
    forget("own")
    frozen = FrozenCode(store)
    for code, value in ((one, "one"), (other, "the other"), ([], "the other"), (one, "one")):
        frozen.use(code)
        own = imported("own")
        assert value == own.VALUE
    assert sys.meta_path.count(frozen) == 1


def test_a_debugger_keeps_what_it_has_imported_unless_it_was_changed(store: SharedStore) -> None:
    write("same.py")
    write("changed.py")
    same, changed = imported("same"), imported("changed")
    code = digests(Freezer(store, "run"))
    write("changed.py", "VALUE = 'changed'\n")
    FrozenCode(store).use(code)
    assert imported("same") is same
    assert imported("changed") is not changed
    assert imported("changed").VALUE == 1


def test_an_extension_is_loaded_from_where_it_is_unless_it_was_changed(store: SharedStore) -> None:
    file = write(f"fast{EXTENSION_SUFFIXES[0]}", "machine code")
    sys.modules["fast"] = module = ModuleType("fast")
    module.__file__ = str(file.absolute())
    code = digests(Freezer(store, "run"))
    frozen = FrozenCode(store)
    frozen.use(code)
    spec = frozen.find_spec("fast")
    assert spec is not None
    assert spec.origin == str(file.absolute())
    file.write_text("another machine's code")
    spec = frozen.find_spec("fast")
    assert spec is not None
    assert spec.origin != str(file.absolute())
    assert Path(spec.origin or "").read_text() == "machine code"


def test_a_task_hands_on_the_code_that_it_runs(store: SharedStore) -> None:
    write("own.py", "VALUE = 'one'\n")
    imported("own")
    code = digests(Freezer(store, "run"))
    forget("own")
    write("own.py", "VALUE = 'the other'\n")
    FrozenCode(store).use(code)
    assert imported("own").VALUE == "one"
    assert digests(Freezer(store, "inner")) == code


def test_todays_code_takes_the_place_of_the_old(store: SharedStore) -> None:
    write("own.py", "VALUE = 'one'\n")
    write("gone.py")
    imported("own")
    imported("gone")
    context = Freezer(store, "run").into(b'{"cwd": "here"}')
    write("own.py", "VALUE = 'the other'\n")
    Path("gone.py").unlink()
    todays = json.loads(with_todays_code(store, context))
    assert todays["cwd"] == "here"
    (digest,) = todays["code"]
    (own,) = stored_modules(store, digest)
    assert (own.name, bytes(own.data)) == ("own", b"VALUE = 'the other'\n")


@pytest.mark.parametrize(("most", "expected"), [(2, {"own"}), (0, set())])
def test_above_a_bound_only_what_was_imported_is_stored_or_nothing_and_that_is_said(
    store: SharedStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, most: int, expected: set[str]
) -> None:
    for path in ("own/__init__.py", "own/a.py", "own/b.py"):
        write(path)
    imported("own")
    monkeypatch.setattr(freezing, "_MOST_FILES", 2)
    if not most:
        monkeypatch.setattr(freezing, "_MOST_BYTES", 5)
    assert stored(store, Freezer(store, "run")) == expected
    assert ("frozen_code=False" in caplog.text) == (not most)


def test_what_could_not_be_stored_is_stored_with_the_next_task(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write("single.py")
    imported("single")
    freezer = Freezer(store, "run")
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "write", lambda *args: (_ for _ in ()).throw(pools.SpoolError("no room")))
        with pytest.raises(pools.SpoolError):
            freezer.into(b"{}")
    assert "single" in stored(store, freezer)
