"""A message: a JSON header that anybody can read, and a pickle whose large buffers stand beside it.

Calls and outcomes travel between processes, and lie in a run's folder, in this form::

    {"name": …, "sizes": [120, 64000000]}\\n    padded with blanks to a multiple of 64 bytes
    <pickle><padding><buffer><padding>…          each part padded to a multiple of 64 bytes

Buffers are pickled out of band (PEP 574), so that an array is written from where it lies and becomes an array again
without being copied. Reading the header runs nothing of the pickle.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

Buffer: TypeAlias = "bytes | bytearray | memoryview"
Share: TypeAlias = Callable[[memoryview], "str | None"]
"""Stores a large read-only buffer once for many messages and returns its name, or None to have it in the message."""

__all__ = ["ALIGNMENT", "Buffer", "Share", "dump", "load", "pack", "read_header", "size_of", "unpack", "with_header"]

ALIGNMENT = 64  # bytes: what numpy likes arrays to start at
_OUT_OF_BAND = 1 << 16  # bytes: smaller buffers are cheaper inside the pickle
_PLAIN = frozenset({int, float, complex, bool, str, type(None)})


def pack(header: dict[str, Any], parts: Sequence[Buffer], share: Share | None = None) -> list[Buffer]:
    """A message for a file: the header and the parts that `dump` gave, to be written one after the other.

    A buffer that `share` stores elsewhere is only named: "sizes" has its name in place of its size.
    """
    sizes: list[int | str] = []
    inside: list[Buffer] = []
    for part in parts:
        name = share(part) if share is not None and isinstance(part, memoryview) and part.readonly else None
        sizes.append(len(part) if name is None else name)
        if name is None:
            inside += [part, bytes(-len(part) % ALIGNMENT)]
    return [_head({**header, "sizes": sizes}), *inside]


def read_header(data: Buffer) -> dict[str, Any]:
    """The header of a message. Raises ValueError if this is none."""
    header = json.loads(bytes(data[: _header_end(data)]))
    if not isinstance(header, dict) or "sizes" not in header:
        raise ValueError("not a message of nornir_pools")
    return header


def size_of(data: Buffer) -> int:
    """How many bytes the message has whose beginning this is. Raises ValueError if this is none."""
    sizes = [int(size) for size in read_header(data)["sizes"] if not isinstance(size, str)]
    return _header_end(data) + sum(size + -size % ALIGNMENT for size in sizes)


def with_header(data: Buffer, **more: Any) -> list[Buffer]:
    """The message with more in its header, to be written one part after the other."""
    return [_head({**read_header(data), **more}), memoryview(data)[_header_end(data) :]]


def unpack(data: Buffer, fetch: Callable[[str], memoryview] | None = None) -> tuple[dict[str, Any], list[memoryview]]:
    """The header and the parts of a message; the parts are views of `data`. Raises ValueError if it was cut off.

    `fetch` gives the buffers that were stored elsewhere.
    """
    header = read_header(data)
    view = memoryview(data)
    position = _header_end(data)
    parts = []
    for size in header["sizes"]:
        if isinstance(size, str):
            if fetch is None:
                raise ValueError(f"a buffer of this message is stored elsewhere, as {size}")
            parts.append(fetch(size))
            continue
        parts.append(view[position : position + size])
        position += size + -size % ALIGNMENT
    if position > len(view):
        raise ValueError(f"a message of {position} bytes was cut off at {len(view)}")
    return header, parts


def dump(value: Any) -> list[Buffer]:
    """The pickle of `value` and its large buffers. Raises what pickling raises."""
    if _is_plain(value):
        return [pickle.dumps(value, pickle.HIGHEST_PROTOCOL)]
    buffers: list[Buffer] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    import cloudpickle  # 30 ms, and workers that pass numbers and names never need it

    stream = io.BytesIO()
    pickler = cloudpickle.Pickler(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=keep_in_band)
    pickler.dump(value)
    return [stream.getvalue(), *buffers]  # (not getbuffer: a stream whose buffer is out cannot be collected)


def load(parts: Sequence[Buffer]) -> Any:
    """What `dump` was given. Arrays in it stay views of the parts: writable if these are."""
    return pickle.loads(parts[0], buffers=parts[1:])


def _head(header: dict[str, Any]) -> bytes:
    head = json.dumps(header).encode()
    return head + b" " * (-(len(head) + 1) % ALIGNMENT) + b"\n"


def _header_end(data: Buffer) -> int:
    if isinstance(data, memoryview):  # of a file that may be large, and is not to be copied
        size = 1 << 16
        while (end := bytes(data[:size]).find(b"\n")) < 0 and size < len(data):
            size *= 8
    else:
        end = data.find(b"\n")
    if end < 0:
        raise ValueError("not a message of nornir_pools")
    return end + 1


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Whether pickle alone is right for it: numbers, names, importable functions, and small containers of such."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is bytes:
        return len(value) < _OUT_OF_BAND
    if depth and kind in (tuple, list) and len(value) <= 32:
        return _are_plain(value, depth - 1)
    if depth and kind is dict and len(value) <= 32:
        return all(type(key) is str for key in value) and _are_plain(value.values(), depth - 1)
    return _is_importable_function(value)


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    # A plain loop: this is done for every task, and nothing else is as much of what a short one costs.
    for item in values:  # noqa: SIM110
        if type(item) not in _PLAIN and not _is_plain(item, depth):
            return False
    return True


def _is_importable_function(value: Any) -> bool:
    if type(value) is not type(_is_plain):
        return False
    module = sys.modules.get(value.__module__)
    if module is None or module.__name__ == "__main__" or _by_value(module.__name__):
        return False
    return getattr(module, value.__qualname__, None) is value


def _by_value(module: str) -> bool:
    """Whether the user has asked cloudpickle to send that module's functions by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and any(
        module == name or module.startswith(name + ".") for name in cloudpickle.list_registry_pickle_by_value()
    )
