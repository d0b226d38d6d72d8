"""Memory without a name, and its way through a pipe."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from nornir_pools import message
from nornir_pools.local import memory
from nornir_pools.local.memory import LARGE, MemoryFile, into_files, open_file
from nornir_pools.local.pipe import Channel

pytestmark = pytest.mark.skipif(not memory.AVAILABLE, reason="no memory files here")


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = map(Channel, Pipe())
    yield ours, theirs
    ours.close()
    theirs.close()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_what_is_mapped_is_writable_is_its_own_and_leaves_no_descriptor() -> None:
    before = descriptors()
    parts: list[Any] = [b"first", bytearray(b"x" * 100), b"", b"last"]
    file = MemoryFile(parts)
    views, others = (open_file(os.dup(file.fd), file.sizes, None) for _ in range(2))
    views[1][0] = ord("y")
    assert [bytes(view) for view in views] == [b"first", b"y" + b"x" * 99, b"", b"last"]
    assert others[1][0] == ord("x")
    file.close()
    file.close()
    assert bytes(views[3]) == b"last"
    del views, others
    assert descriptors() == before
    assert not memory._held


def test_file_with_a_token_is_mapped_once_and_read_only() -> None:
    file = MemoryFile([b"x" * 100], 77)
    first, second = (open_file(os.dup(file.fd), file.sizes, 77)[0] for _ in range(2))
    assert first.obj is second.obj
    assert first.readonly
    del first, second
    assert 77 not in memory._mappings


def test_large_buffers_go_into_one_file_and_small_messages_into_none() -> None:
    view = memoryview(bytearray(LARGE // 2))
    assert into_files([b"pickle", view]) == [b"pickle", view]
    (file,) = into_files([b"pickle", view, view])
    assert isinstance(file, MemoryFile)
    assert file.sizes == [6, LARGE // 2, LARGE // 2]


def test_known_buffers_have_files_of_their_own_in_their_place() -> None:
    known = MemoryFile([bytes(LARGE)], 5)
    fixed, own = memoryview(bytes(LARGE)), memoryview(bytearray(LARGE))
    parts = into_files([b"p", own, fixed, b"q"], lambda view: known)
    assert parts[1:] == [known, b"q"]
    assert isinstance(parts[0], MemoryFile)
    assert parts[0].sizes == [1, LARGE]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.ENOSPC])
@pytest.mark.parametrize("call", ["memfd_create", "pwrite"])
def test_where_no_memory_file_can_be_had_the_parts_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(number, os.strerror(number))

    before = descriptors()
    monkeypatch.setattr(os, call, refuse)
    parts: list[message.Buffer] = [b"p", memoryview(bytearray(LARGE))]
    assert into_files(parts) == parts
    assert descriptors() == before


def test_files_and_mappings_leave_most_descriptors_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (40, 40))
    files = [MemoryFile([b"x"]) for _ in range(10)]
    with pytest.raises(OSError, match="open files"):
        MemoryFile([b"x"])
    before = descriptors()
    (view,) = open_file(os.dup(files[0].fd), [1], None)  # a copy
    assert (bytes(view), view.readonly, descriptors()) == (b"x", False, before)
    (view,) = open_file(os.dup(files[0].fd), [1], 3)
    assert view.readonly


@pytest.mark.parametrize("change", [0, LARGE // 2, LARGE + 4])
def test_stored_bytes_are_compared_exactly(change: int) -> None:
    data = bytearray(os.urandom(LARGE + 5))
    file = MemoryFile([data])
    assert file.holds(memoryview(data))
    assert not file.holds(memoryview(data)[1:])
    data[change] ^= 1
    assert not file.holds(memoryview(data))


def test_descriptors_come_with_their_own_message(channels: tuple[Channel, Channel]) -> None:
    ours, theirs = channels
    before = descriptors()
    sent: list[Any] = []
    for number in range(40):
        big = bytes([number]) * LARGE
        sent += [(number, [b"small", b"p"]), (-number, [b"beside", MemoryFile([b"%d" % number, big]), b"x" * 70_000])]
    sender = threading.Thread(target=theirs.send, args=(sent,))
    sender.start()
    for number in range(40):
        assert ours.receive() == (number, [b"small", b"p"])
        label, parts = ours.receive()
        assert (label, [bytes(part) for part in parts[:2]]) == (-number, [b"beside", b"%d" % number])
        assert (parts[2][0], parts[2][-1], len(parts[2])) == (number, number, LARGE)
        assert parts[3] == b"x" * 70_000
    sender.join()
    del sent, parts, sender
    assert descriptors() == before


def test_message_may_have_more_files_than_the_system_passes_at_once(channels: tuple[Channel, Channel]) -> None:
    ours, theirs = channels
    theirs.send([("many", [MemoryFile([b"%d" % number]) for number in range(600)]), ("next", [b"n"])])
    assert [bytes(part) for part in ours.receive()[1]] == [b"%d" % number for number in range(600)]
    assert ours.receive() == ("next", [b"n"])


def test_descriptors_that_cannot_be_had_are_an_error_of_their_own_message(channels: tuple[Channel, Channel]) -> None:
    ours, theirs = channels
    theirs.send([("lost", [b"a", *[MemoryFile([b"x"]) for _ in range(4)], b"b"]), ("good", [b"c"])])
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 1, hard))
    fillers = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        os.close(fillers.pop())  # one may be had
        label, parts = ours.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)
    with pytest.raises(OSError, match="no descriptor or no memory left for a large array") as caught:
        message.load(parts)
    assert (label, caught.value.errno) == ("lost", errno.EMFILE)
    assert ours.receive() == ("good", [b"c"])
    theirs.send([("also good", [MemoryFile([b"d"])])])
    assert [bytes(part) for part in ours.receive()[1]] == [b"d"]
    assert descriptors() <= before


def test_channel_that_is_closed_closes_what_was_not_read() -> None:
    before = descriptors()
    ours, theirs = map(Channel, Pipe())
    theirs.send([(1, [b"1"]), (2, [MemoryFile([b"x"])])])
    ours.receive()
    ours.close()
    theirs.close()
    assert descriptors() == before


def test_sending_waits_while_too_many_descriptors_are_on_their_way(
    channels: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = channels
    seen: list[float] = []
    sendmsg = theirs._socket.sendmsg

    class Refusing:
        def sendmsg(self, *args: Any) -> int:
            if not seen:
                raise OSError(errno.ETOOMANYREFS, "too many")
            return sendmsg(*args)

        sendall = theirs._socket.sendall
        close = theirs._socket.close

    monkeypatch.setattr(theirs, "_socket", Refusing())
    monkeypatch.setattr("nornir_pools.local.pipe.time.sleep", seen.append)
    theirs.send([("label", [MemoryFile([b"x"])])])
    assert [bytes(part) for part in ours.receive()[1]] == [b"x"]
    assert len(seen) == 1
