"""What a call is known by: the same in another process, and another once something has changed that counts."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nornir_pools as pools
from nornir_pools.cluster.keys import Key, Keys
from nornir_pools.parents import Parents, replace_tasks

from .. import functions

ROOT = Path(__file__).resolve().parents[2]


def key(func: Callable[..., Any] = len, *args: Any, version: Any = None, **kwargs: Any) -> Key:
    return Keys().key_of(func, args, kwargs, version)


def changed(first: Key, second: Key) -> list[str]:
    return [name for name in Key._fields if getattr(first, name) != getattr(second, name)]


PROGRAM = """
import numpy as np
from pathlib import Path
from nornir_pools.cluster.keys import Keys
from tests import functions
class Setting:
    def __init__(self, word):
        self.word = word
def outer(n):
    def inner(x):
        return x in {"a", "b", "c"} or inner(n)
    return inner
words = ["".join(["wo", "rd"]), "word"]
values = [1, 2.5, None, {"k": (1, 2)}, {"one", "two", "three"}, words, Path("none"), np.arange(5000), np.zeros((3, 3)).T]
print(Keys().key_of(outer(3), (values, Setting("x")), {"b": functions.add, "a": frozenset("abc")}, "v"))
"""


def test_it_is_the_same_in_another_process() -> None:
    keys = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1
    assert Key.read(keys.pop().strip()) is not None


def test_equal_arguments_are_the_same_whether_they_are_one_object_or_two() -> None:
    one, other = "".join(["a", "b"]), "".join(["a", "b"])
    assert key(len, one, one) == key(len, one, other)
    assert key(len, a=1, b=2) == key(len, b=2, a=1)


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, 2), (1, True), ("a", b"a"), ([1], (1,)), ({1}, {2}), (np.arange(9), np.arange(9.0)), (np.zeros(9), np.zeros((3, 3)))],
)
def test_other_arguments_are_told_apart(first: Any, second: Any) -> None:
    assert changed(key(len, first), key(len, second)) == ["arguments"]
    assert changed(key(len, large=np.arange(99_999)), key(len, large=np.arange(99_999)[::-1])) == ["arguments"]


def test_a_function_is_what_it_does_and_holds() -> None:
    def make(n: int) -> Callable[[], int]:
        return lambda: n

    assert key(make(1)) == key(make(1))
    assert changed(key(make(1)), key(make(2))) == ["code"]
    assert changed(key(functools.partial(functions.add, 1)), key(functools.partial(functions.add, 2))) == ["code"]
    assert changed(key(functions.Counter(1).plus), key(functions.Counter(2).plus)) == ["code"]
    assert key(functions.Counter(1).plus) == key(functions.Counter(1).plus)
    assert "code" in changed(key(functions.add), key(functions.echo))


def test_a_value_that_a_function_holds_may_change() -> None:
    held = [1]

    def holds(default: list[int] = held) -> int:
        return len(default)

    keys = Keys()
    before = keys.key_of(holds, (), {}, None)
    assert keys.key_of(holds, (), {}, None) == before
    held.append(2)
    assert changed(keys.key_of(holds, (), {}, None), before) == ["code"]


def test_files_count_as_long_as_they_are_paths(tmp_path: Path) -> None:
    file = tmp_path / "tile"
    assert key(len, file) != key(len, tmp_path / "other")
    file.write_text("one")
    os.utime(file, ns=(0, 1))
    before, text = key(len, [file]), key(len, str(file))
    assert key(len, [file]) == before
    os.utime(file, ns=(0, 2))
    assert changed(key(len, [file]), before) == ["files"]
    file.write_text("three")
    os.utime(file, ns=(0, 1))
    assert changed(key(len, [file]), before) == ["files"]
    assert key(len, str(file)) == text
    folder = key(len, tmp_path)
    (tmp_path / "more").touch()
    assert key(len, tmp_path) == folder


def test_the_file_of_a_function_counts_as_it_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "def helper():\n    return 1\n\ndef f():\n    return helper()\n"
    (tmp_path / "module_of_keys.py").write_text(text)
    module = importlib.import_module("module_of_keys")
    keys = Keys()
    before = keys.key_of(module.f, (), {}, None)
    (tmp_path / "module_of_keys.py").write_text(text.replace("1", "2"))
    assert keys.key_of(module.f, (), {}, None) == before
    after = Keys().key_of(module.f, (), {}, None)
    assert changed(after, before) == ["modules"]
    assert after.difference(before) == "a file that its function is in has changed"
    del sys.modules["module_of_keys"]


def test_of_a_notebook_counts_what_the_function_uses() -> None:
    def made(helper: str, other: int = 0) -> Key:
        names: dict[str, Any] = {"__name__": "__main__", "other": other}
        exec(f"def helper(x):\n    return x + {helper}\ndef f(values):\n    return [helper(v) for v in values]\n", names)
        return key(names["f"])

    assert made("1") == made("1", other=2)
    assert changed(made("1"), made("2")) == ["code"]


def test_a_version_counts() -> None:
    assert key(version="1") == key(version=1) != key(version=2)
    assert changed(key(version="1"), key()) == ["version"]


def test_what_contains_itself_has_a_key_and_what_cannot_be_sent_has_none() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert key(len, loop) == key(len, loop)
    with pytest.raises(TypeError):
        key(len, threading.Lock())


def test_a_text_that_is_no_key_is_none() -> None:
    assert Key.read("") is None
    assert Key.read(str(key())) == key()


def test_parents_count_by_their_keys() -> None:
    with pools.GetSerialPool("serial") as pool:
        one, other, unknown = [pool.add_task(name, len, "") for name in ("one", "other", "unknown")]
    one._noted, other._noted = {"key": "a"}, {"key": "b"}

    def of(*args: Any, after: Sequence[Any] = ()) -> Key:
        args, _, values = replace_tasks(args, {})
        return Keys().key_of(max, args, {}, None, Parents(unknown, values, after))

    assert of([one, 1], one) == of([one, 1], one)
    assert changed(of([one, 1], one), of([other, 1], one)) == ["arguments"]
    assert changed(of(one, other), of(other, one)) == ["arguments"]
    assert changed(of(1), of(1, after=[one])) == ["arguments"]
    assert of(1, after=[one, other]) == of(1, after=[other, one])
    for values, after in (([unknown], []), ([], [unknown]), ([], [Future()])):
        with pytest.raises(TypeError, match="among them cannot be compared either"):
            of(*values, after=after)
