"""Messages: what is pickled how, and what a reader says about a broken one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nornir_pools import message

from .. import functions


def file_of(header: dict[str, Any], parts: list[message.Buffer]) -> bytes:
    return b"".join(message.pack(header, parts))


def test_message_holds_header_and_parts() -> None:
    data = file_of({"name": "a\nb", "n": 1}, [b"first", b"", b"x" * 100])
    header, parts = message.unpack(data)
    assert (header["name"], header["n"]) == ("a\nb", 1)
    assert [bytes(part) for part in parts] == [b"first", b"", b"x" * 100]


def test_header_is_read_without_unpickling() -> None:
    data = file_of({"name": "safe"}, message.dump(functions.RefusesToBeRead()))
    assert message.read_header(data)["name"] == "safe"
    assert message.read_header(memoryview(data))["name"] == "safe"


def test_parts_begin_where_arrays_like_to_begin() -> None:
    data = bytearray(file_of({}, [b"x" * 65, b"y" * 3]))
    _, parts = message.unpack(data)
    starts = [np.frombuffer(part, np.uint8).ctypes.data - np.frombuffer(data, np.uint8).ctypes.data for part in parts]
    assert [start % 64 for start in starts] == [0, 0]


@pytest.mark.parametrize("data", [b"", b"no header", b"[1]\n", b"{}\n", b"\xff\xfe\n", b"x" * 100_000])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own error is one as well
        message.unpack(data)


def test_cut_off_message_is_refused() -> None:
    data = file_of({}, [b"x" * 100, b"y" * 100])
    for length in (len(data) - 1, len(data) - 64, len(data) - 200):
        with pytest.raises(ValueError, match="cut off"):
            message.unpack(data[:length])


def test_shared_buffer_is_only_named() -> None:
    large = np.arange(100_000)
    large.flags.writeable = False
    stored: dict[str, memoryview] = {}

    def share(buffer: memoryview) -> str:
        stored["there"] = buffer
        return "there"

    pieces = message.pack({}, message.dump(large), share)
    data = b"".join(pieces)
    assert len(data) < 2000
    with pytest.raises(ValueError, match="stored elsewhere, as there"):
        message.unpack(data)
    _, parts = message.unpack(data, stored.__getitem__)
    assert (message.load(parts) == large).all()


def test_writable_buffer_is_never_shared() -> None:
    pieces = message.pack({}, message.dump(np.arange(100_000)), lambda buffer: pytest.fail("was shared"))
    assert sum(map(len, pieces)) > 800_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, 2.5, 3j, True, "text", b"bytes"),
        {"a": [1, {"b": functions.add}]},
        b"x" * 100_000,
        list(range(1000)),
        {1: "key that is no text"},
        {1, 2},
        [[[[[1]]]]],
    ],
)
def test_value_survives(value: Any) -> None:
    assert message.load(message.dump(value)) == value


def test_large_array_travels_beside_the_pickle() -> None:
    array = np.arange(100_000)
    pickled, buffer = message.dump({"array": array})
    assert len(pickled) < 2000
    assert np.shares_memory(np.frombuffer(buffer, array.dtype), array)


def test_small_array_travels_inside_the_pickle() -> None:
    assert len(message.dump(np.arange(10))) == 1


def test_array_is_as_writable_as_what_it_was_read_from() -> None:
    data = file_of({}, message.dump(np.arange(100_000)))
    for source, writable in ((bytearray(data), True), (data, False)):
        assert message.load(message.unpack(source)[1]).flags.writeable is writable


def test_array_with_gaps_survives() -> None:
    array = np.arange(200_000).reshape(400, 500)[::2, ::3]
    assert (message.load(message.dump(array)) == array).all()


def test_function_of_an_imported_module_travels_by_name() -> None:
    (pickled,) = message.dump(functions.add)
    assert b"tests.functions" in bytes(pickled)
    assert message.load([pickled]) is functions.add


def test_lambda_and_closure_travel_by_value() -> None:
    offset = 5
    assert message.load(message.dump(lambda n: n + offset))(1) == 6


def test_function_hidden_under_its_own_name_travels_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    original = functions.add
    monkeypatch.setattr(functions, "add", lambda *args: "another")
    assert message.load(message.dump(original))(1, 2) == 3


def test_function_of_the_main_script_travels_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ModuleType("__main__")
    exec("def double(n):\n    return 2 * n\n", script.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", script)
    parts = message.dump((script.double, (4,), {}))
    del script.double
    func, args, _ = message.load(parts)
    assert func(*args) == 8


def test_module_registered_by_value_is_sent_by_value() -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(functions)
    try:
        assert b"tests.functions" not in b"".join(message.dump((functions.add,)))[:60]
        assert message.load(message.dump((functions.add,)))[0] is not functions.add
    finally:
        cloudpickle.unregister_pickle_by_value(functions)


def test_error_of_pickling_is_the_callers() -> None:
    with pytest.raises(TypeError, match="refuses to be sent"):
        message.dump([functions.RefusesToBeSent()])


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, lambda data: memoryview(bytes(data))], ids=["bytes", "bytearray", "memoryview"]
)
def test_a_header_may_be_long(kind: Callable[[bytes], message.Buffer]) -> None:
    header = {"modules": [f"package.module_{number}" for number in range(40_000)]}
    data = kind(b"".join(message.pack(header, [b"abc", b"d" * 100])))
    read, parts = message.unpack(data)
    assert {name: read[name] for name in header} == header
    assert [bytes(part) for part in parts] == [b"abc", b"d" * 100]
    with pytest.raises(ValueError, match="not a message"):
        message.unpack(kind(b"x" * 1_000_000))
