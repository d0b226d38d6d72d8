"""The run's folder: private, complete or absent, and each call taken by exactly one."""

from __future__ import annotations

import errno
import json
import os
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import nornir_pools as pools
from nornir_pools import SpoolError
from nornir_pools.cluster import folder as folders
from nornir_pools.cluster.folder import FULL, PASSING, Folder, write_all
from nornir_pools.cluster.places import remove_old_runs
from nornir_pools.cluster.spool import FORMAT, Spool, task_name, task_number

from .. import functions
from .script import run_script


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.create(tmp_path / "runs" / "run")
    made.describe({"pool": "p"})
    yield made
    made.close()


def waiting(spool: Spool, group: int) -> int:
    """How many calls of the group wait."""
    shards = [name for name in spool.names(f"todo/{group}") if name.isdigit()]
    return sum(len(spool.names(f"todo/{group}/{shard}")) for shard in shards)


def content(spool: Spool) -> set[str]:
    return {str(path.relative_to(spool.path)) for path in spool.path.rglob("*") if path.is_file()}


# --- the folder itself


def test_run_is_described_and_nobody_else_can_look(spool: Spool) -> None:
    assert json.loads((spool.path / "run.json").read_text()) == {"format": FORMAT, "pool": "p"}
    assert content(spool) == {"run.json"}
    for path in (spool.path, *spool.path.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0


def test_run_is_private_under_any_umask(tmp_path: Path) -> None:
    for mask in (0, 0o277):
        before = os.umask(mask)
        try:
            Spool.create(tmp_path / f"run{mask}").close()
        finally:
            os.umask(before)
        assert (tmp_path / f"run{mask}").stat().st_mode & 0o777 == 0o700


def test_existing_run_is_not_taken_over(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="cannot be made: File exists"):
        Spool.create(spool.path)


def test_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "runs" / "run"
    with pytest.raises(SpoolError, match=r"cannot be made: Not a directory; .*NORNIR_POOLS_FOLDER") as caught:
        Spool.create(path)
    assert caught.value.folder == str(path)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o702, 0o777])
def test_folder_open_to_others_is_refused(mode: int, spool: Spool) -> None:
    spool.path.chmod(mode)
    with pytest.raises(SpoolError, match=f"with mode {mode:o}; it must be this user's"):
        Spool(spool.path)


def test_folder_of_another_user_is_refused(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(SpoolError, match=f"belongs to uid {uid}"):
        Spool(spool.path)


def test_missing_folder_file_and_link_are_refused(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(spool.path)
    for name in ("missing", "file", "link"):
        with pytest.raises(SpoolError, match=f"{name} cannot be opened"):
            Folder(tmp_path / name)


def test_link_inside_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (spool.path / "inbox" / "1.0.w").symlink_to(tmp_path / "secret")
    for read in (spool.read, spool.open_file):
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            read("inbox/1.0.w")


def test_closed_folder_frees_its_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = Spool.create(tmp_path / "run")
    made.note(a=1)
    made.publish(1, task_name(1), [b"x"])
    made.keep("0000001.0.w", b"y")
    made.close()
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


# --- files are complete or absent


def test_file_is_written_elsewhere_and_renamed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    rename = os.rename

    def note(*args: Any, **kwargs: Any) -> None:
        seen.append(spool.names("shared"))
        rename(*args, **kwargs)

    monkeypatch.setattr(os, "rename", note)
    spool.write("shared/name", [b"a", memoryview(b"bc"), bytearray(b"d")], who="pool")
    assert seen == [[]]
    assert spool.read("shared/name") == b"abcd"
    assert content(spool) == {"run.json", "shared/name"}


def test_full_disk_leaves_nothing_and_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, parts: Any) -> None:
        os.write(fd, b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders, "write_all", full)
    with pytest.raises(SpoolError, match=f"{spool.path} cannot be written: No space left on device") as caught:
        spool.publish(1, task_name(1), [b"whole"])
    assert caught.value.errno == errno.ENOSPC
    assert content(spool) == {"run.json"}


def test_quota_that_shows_when_the_file_is_closed_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    close = os.close

    def refuse(fd: int) -> None:
        close(fd)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", refuse)
        with pytest.raises(SpoolError, match="cannot be written"):
            spool.write("shared/name", [b"x"], "pool")
    assert content(spool) == {"run.json"}


def test_removed_folder_is_told_and_nothing_hangs(spool: Spool) -> None:
    spool.discard(keep_logs=())
    (spool.path / "run.json").unlink()
    spool.path.rmdir()
    with pytest.raises(SpoolError, match="No such file or directory"):
        spool.publish(1, task_name(1), [b"x"])
    with pytest.raises(SpoolError, match=r"journal\.jsonl"):
        spool.note(a=1)
    assert spool.names("inbox") == []
    assert waiting(spool, 1) == 0


def test_many_parts_and_short_writes_arrive_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = [bytes([n % 256]) * (n % 7) for n in range(3000)]
    writev = os.writev
    monkeypatch.setattr(
        os, "writev", lambda fd, views: writev(fd, [views[0][:3], *views[1:5]] if len(views[0]) < 4 else [views[0][:3]])
    )
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT, 0o600)
    write_all(fd, parts)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"".join(parts)


# --- a bad moment of the filesystem


def flaky(monkeypatch: pytest.MonkeyPatch, name: str, number: int, times: int) -> list[int]:
    """Have a function of `os` fail so often; returns a list of the failures."""
    real = getattr(os, name)
    failures: list[int] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(failures) < times:
            failures.append(number)
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)
    return failures


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("listdir", lambda spool: spool.names("todo/1/0000")),
        ("open", lambda spool: spool.read(f"todo/1/0000/{task_name(1)}")),
        ("open", lambda spool: os.close(spool.open_file("run.json"))),
        ("preadv", lambda spool: spool.read("run.json")),
        ("rename", lambda spool: spool.claim(1, "0000", task_name(1), "w") or pytest.fail("it was not claimed")),
        ("rename", lambda spool: spool.publish(1, task_name(2), [b"x"])),
        ("writev", lambda spool: spool.publish(1, task_name(2), [b"x"])),
        ("writev", lambda spool: spool.note(t="x")),
        ("mkdir", lambda spool: spool.make_folder("claimed/other")),
        ("unlink", lambda spool: spool.remove(f"todo/1/0000/{task_name(1)}")),
        ("rmdir", lambda spool: spool.remove_folder("claimed/w")),
        ("open", lambda spool: Spool(spool.path).close()),
    ],
)
def test_a_fault_that_may_pass_is_tried_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, name: str, operation: Callable[[Spool], Any], number: int
) -> None:
    spool.make_folder("claimed/w")
    spool.publish(1, task_name(1), [b"x"])
    failures = flaky(monkeypatch, name, number, 3)
    operation(spool)
    assert failures == [number] * 3


def test_a_fault_that_stays_is_told_after_a_while(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.patience = 0.2
    begun = time.monotonic()
    with monkeypatch.context() as patch:
        failures = flaky(patch, "listdir", errno.EIO, 1000)
        with pytest.raises(OSError, match="Input/output error"):
            spool.names("todo")
    assert 0.05 < time.monotonic() - begun < 5
    assert len(failures) > 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_waited_for_only_by_whom_that_is_asked(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert len(flaky(monkeypatch, "writev", number, 1)) == 0
    with pytest.raises(SpoolError, match=os.strerror(number)):
        spool.publish(1, task_name(1), [b"x"])
    monkeypatch.undo()
    spool.passing = PASSING | FULL
    flaky(monkeypatch, "writev", number, 2)
    spool.publish(1, task_name(1), [b"x"])
    assert waiting(spool, 1) == 1


@pytest.mark.parametrize("retry", [True, False])
def test_a_rename_that_was_done_though_it_is_said_it_was_not(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, retry: bool
) -> None:
    """Over NFS a request is repeated if its answer is lost, and the second one finds no such file."""
    spool.make_folder("claimed/w")
    spool.publish(1, task_name(1), [b"x"])
    spool.claim(1, "0000", task_name(1), "w")
    real = os.rename

    def rename(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        if retry:
            assert spool.try_again("w", task_name(1), 1, task_name(1, 1))
        else:
            assert spool.seize("w", task_name(1))
            spool.drop_seized("w", task_name(1))
    assert not spool.try_again("w", task_name(1), 1, task_name(1, 2))
    assert not spool.seize("w", task_name(1))
    assert (spool.claims("w"), waiting(spool, 1)) == ([], int(retry))


def test_a_call_whose_rename_was_done_though_it_is_said_it_was_not_stands_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, workers = os.rename, iter(["w"])

    def rename(source: str, target: str, **where: int) -> None:
        real(source, target, **where)
        if (worker := next(workers, None)) is not None:  # before the answer comes, a worker has the call
            real(target, f"claimed/{worker}/{task_name(1)}", **where)
        real(source, target, **where)

    spool.make_folder("claimed/w")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        spool.publish(1, task_name(1), [b"x"])
        spool.publish(1, task_name(2), [b"x"])
        assert (spool.claims("w"), waiting(spool, 1)) == ([task_name(1)], 1)
        assert spool.withdraw(1, task_name(2))
    spool.drop(1, task_name(2))
    assert content(spool) == {"run.json", f"claimed/w/{task_name(1)}"}


def test_a_call_stands_for_its_outcome_where_there_is_no_room_for_any(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.make_folder("claimed/w")
    spool.publish(1, task_name(1), [b"call"])
    spool.claim(1, "0000", task_name(1), "w")
    flaky(monkeypatch, "writev", errno.ENOSPC, 1)
    spool.deliver(spool.draft_outcome([b"outcome"], task_name(1), "w"), task_name(1), "w")
    assert spool.read(f"inbox/{task_name(1)}.w") == b"call"
    assert spool.claims("w") == []


def test_the_file_servers_clock_is_read_and_nothing_left(spool: Spool) -> None:
    assert abs(spool.clock() - time.time()) < 5
    assert content(spool) == {"run.json"}


# --- the way of a task


def test_task_names_are_numbers_with_a_try() -> None:
    assert task_name(12) == "0000012.0"
    assert task_name(12, 3) == "0000012.3"
    assert task_number("0000012.3.worker.1") == 12
    assert sorted(map(task_name, (9, 10, 100))) == [task_name(n) for n in (9, 10, 100)]


def test_task_goes_from_todo_by_claimed_to_inbox(spool: Spool) -> None:
    task = task_name(1)
    spool.publish(7, task, [b"call"])
    offers, words = spool.offers(7)
    ((shard, tasks),) = list(offers)
    assert (tasks, words, waiting(spool, 7), waiting(spool, 8)) == ([task], set(), 1, 0)
    spool.make_folder("claimed/w1")
    spool.make_folder("claimed/w2")
    assert spool.claim(7, shard, task, "w1")
    assert not spool.claim(7, shard, task, "w2")
    assert (spool.claims("w1"), spool.claims("w2"), waiting(spool, 7)) == ([task], [], 0)
    assert spool.read(f"claimed/w1/{task}") == b"call"
    spool.deliver(spool.draft("inbox", [b"outcome"], "w1"), task, "w1")
    assert spool.names("inbox") == [f"{task}.w1"]
    assert spool.read(f"inbox/{task}.w1") == b"outcome"
    assert spool.claims("w1") == []


def test_each_call_is_claimed_by_exactly_one_of_many(spool: Spool) -> None:
    for number in range(50):
        spool.publish(1, task_name(number), [b"x"])
    got: dict[str, list[str]] = {f"w{n}": [] for n in range(4)}
    withdrawn: list[str] = []
    for worker in got:
        spool.make_folder(f"claimed/{worker}")
    barrier = threading.Barrier(5)

    def work(worker: str) -> None:
        barrier.wait()
        for shard, tasks in spool.offers(1)[0]:
            got[worker] += [task for task in tasks if spool.claim(1, shard, task, worker)]

    def withdraw() -> None:
        barrier.wait()
        withdrawn.extend(task for task in map(task_name, range(49, -1, -1)) if spool.withdraw(1, task))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in got] + [threading.Thread(target=withdraw)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain(withdrawn, *got.values())) == [task_name(n) for n in range(50)]


def test_withdrawn_call_is_gone_and_a_claimed_one_is_not_withdrawn(spool: Spool) -> None:
    for number in (1, 2):
        spool.publish(1, task_name(number), [b"x"])
    assert spool.withdraw(1, task_name(1))
    assert spool.withdraw(1, task_name(1))  # it lies aside already: the ledger says whose it is
    assert not spool.withdraw(1, task_name(9))
    spool.make_folder("claimed/w")
    ((shard, _),) = list(spool.offers(1)[0])
    spool.claim(1, shard, task_name(2), "w")
    assert not spool.withdraw(1, task_name(2))
    spool.drop(1, task_name(1))
    assert content(spool) == {"run.json", f"claimed/w/{task_name(2)}"}


def test_withdrawn_call_that_was_not_dropped_can_wait_again(spool: Spool) -> None:
    spool.publish(1, task_name(1), [b"x"])
    assert spool.withdraw(1, task_name(1))
    assert waiting(spool, 1) == 0
    assert spool.withdrawn(1) == [task_name(1)]
    spool.restore(1, task_name(1))
    assert waiting(spool, 1) == 1
    assert spool.withdrawn(1) == []


def test_call_that_is_given_back_waits_again(spool: Spool) -> None:
    spool.publish(1, task_name(1), [b"x"])
    ((shard, _),) = list(spool.offers(1)[0])
    spool.make_folder("claimed/w")
    spool.claim(1, shard, task_name(1), "w")
    assert spool.give_back(1, task_name(1), "w")
    assert not spool.give_back(1, task_name(1), "w")
    assert waiting(spool, 1) == 1


def test_oldest_calls_come_first_over_all_shards(spool: Spool) -> None:
    for number in (2500, 3, 1001, 999, 1000):
        spool.publish(1, task_name(number), [b"x"])
    assert [task for _, tasks in spool.offers(1)[0] for task in tasks] == [
        task_name(number) for number in (3, 999, 1000, 1001, 2500)
    ]
    assert len(spool.names("todo/1")) == 3


def test_shards_that_are_empty_go_but_for_the_last_into_which_new_calls_come(spool: Spool) -> None:
    for number in (1, 1001, 2001, 3001):
        spool.publish(1, task_name(number), [b"x"])
        if number != 1001:
            assert spool.withdraw(1, task_name(number))
            spool.drop(1, task_name(number))
    assert [(shard, len(tasks)) for shard, tasks in spool.offers(1)[0]] == [("0001", 1), ("0003", 0)]
    assert sorted(spool.names("todo/1")) == ["0001", "0003"]


def test_a_call_comes_back_though_its_shard_is_removed_at_that_moment(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.publish(1, task_name(1), [b"x"])
    assert spool.withdraw(1, task_name(1))
    moments = iter([True])

    def move(self: Spool, source: str, target: str) -> bool:
        if next(moments, False):
            assert self.remove_folder("todo/1/0000")
        return real(self, source, target)

    real = Spool.move
    monkeypatch.setattr(Spool, "move", move)
    spool.restore(1, task_name(1))
    assert next(moments, None) is None
    assert waiting(spool, 1) == 1


def test_a_call_is_published_however_often_its_shard_is_removed_at_that_moment(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(3))

    def draft(self: Spool, folder: str, *how: Any) -> str:
        if next(moments, None) is not None:
            assert self.remove_folder("todo/1/0000")
        return real(self, folder, *how)

    real = Spool.draft
    monkeypatch.setattr(Spool, "draft", draft)
    spool.publish(1, task_name(1), [b"x"])
    assert next(moments, None) is None
    assert waiting(spool, 1) == 1


def test_shard_that_was_emptied_takes_calls_again(spool: Spool) -> None:
    spool.publish(1, task_name(1), [b"x"])
    assert spool.withdraw(1, task_name(1))
    assert waiting(spool, 1) == 0
    spool.publish(1, task_name(2), [b"y"])
    assert waiting(spool, 1) == 1


def test_words_for_workers_are_no_shards(spool: Spool) -> None:
    spool.tell_workers(1, "stop")
    spool.tell_workers(1, "quit.w1")
    offers, words = spool.offers(1)
    assert (list(offers), words, waiting(spool, 1)) == ([], {"stop", "quit.w1"}, 0)


def test_words_of_workers_stand_in_the_inbox(spool: Spool) -> None:
    spool.say("12_3.0", 2, "idle", {"a": 1})
    assert spool.names("inbox") == ["+12_3.0.2.idle"]
    assert json.loads(spool.read("inbox/+12_3.0.2.idle")) == {"a": 1}


# --- what stays


def test_journal_has_a_line_for_each_entry(spool: Spool) -> None:
    spool.note(task=1, name="a\nb")
    spool.note_all([{"task": 2}, {"task": 3}])
    lines = (spool.path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == [1, 2, 3]


def test_collected_outcomes_are_found_again_in_few_files(spool: Spool) -> None:
    places = {}
    for number in range(1, 1200):
        places[number] = spool.keep(f"{task_name(number)}.w", b"outcome %d" % number)
    spool.write(f"inbox/{task_name(5)}.w", [b"L" * 100_000], who="w")
    large = spool.keep(f"{task_name(5)}.w", b"L" * 100_000)
    for number, place in places.items():
        data = spool.read(place["file"])
        assert data[place["at"] : place["at"] + place["size"]] == b"outcome %d" % number
    assert spool.read(large["file"]) == b"L" * 100_000
    assert spool.names("inbox") == []
    assert len(content(spool)) == 3


def test_closed_run_leaves_its_story_and_the_logs_that_are_wanted(spool: Spool) -> None:
    spool.note(a=1)
    spool.publish(1, task_name(1), [b"x"])
    for name in ("1_0.log", "1_1.log", "np.sh"):
        (spool.path / "jobs" / name).touch()
    spool.discard(keep_logs=["1_1.log"])
    assert content(spool) == {"run.json", "journal.jsonl", "jobs/1_1.log"}
    spool.discard(keep_logs=())
    assert {path.name for path in spool.path.iterdir()} == {"run.json", "journal.jsonl"}


# --- where runs live, as the pool chooses it


AS_ORDINARY_USER = """
    import os, pathlib, shutil, sys, tempfile
    import platformdirs
    import nornir_pools as pools
    # now, since the user may not see where they are
    import nornir_pools.api, nornir_pools.cluster.pool, nornir_pools.local.processes
    from nornir_pools.cluster.spool import Spool
    base = pathlib.Path(tempfile.mkdtemp())
    os.chdir(base)
    for name, mode in (("home", 0o700), ("locked", 0o555), ("shut", 0o000)):
        (base / name).mkdir()
        (base / name).chmod(mode)
    os.environ.update(HOME=str(base / "home"), XDG_CONFIG_HOME=str(base / "home"))
    root = os.geteuid() == 0
    if root:  # which may write everywhere
        for path in (base, base / "home", base / "shut"):
            os.chown(path, 65534, 65534)
        os.setgroups([])
        os.setresgid(65534, 65534, 0)
        os.setresuid(65534, 65534, 0)
    try:
        {check}
    finally:
        if root:
            os.seteuid(0)
        (base / "shut").chmod(0o700)
        shutil.rmtree(base)
"""


def run_as_ordinary_user(check: str) -> None:
    lines = textwrap.indent(textwrap.dedent(check), 8 * " ").strip()
    done = run_script(AS_ORDINARY_USER.replace("{check}", lines))
    assert (done.status, done.err) == (0, "")


def test_folder_for_runs_that_cannot_be_written_is_refused_when_the_pool_is_made() -> None:
    run_as_ordinary_user(
        """
        for place in (base / "locked", base / "locked" / "sub", base / "shut" / "sub"):
            try:
                pools.GetClusterPool("p", 1, executor="local", folder=str(place))
            except pools.SpoolError as error:
                assert str(place) in str(error) and "set another with folder=" in str(error), error
                assert error.folder == str(place), error.folder
            else:
                sys.exit("a pool was made")
            assert not pools.dictKnownPools
            try:
                Spool.create(place / "run")
            except pools.SpoolError as error:
                assert "Permission denied" in str(error), error
            else:
                sys.exit("a run was made")
        assert not list((base / "locked").iterdir())
        """
    )


def test_scratch_that_cannot_be_written_is_passed_over() -> None:
    run_as_ordinary_user(
        """
        for scratch in ("locked", "shut", "shut/mine", "missing", "locked/mine"):
            os.environ["SCRATCH"] = str(base / scratch)
            place = pools.GetClusterPool(scratch, 1, executor="local")._folder
            good = base / scratch / "nornir_pools" if scratch == "missing" else base / ".nornir_pools"
            assert place == good, (scratch, place)
        os.chdir(base / "locked")
        del os.environ["SCRATCH"]
        assert pools.GetClusterPool("home", 1, executor="local")._folder == base / "home" / ".nornir_pools"
        """
    )


def test_runs_live_in_the_setting_else_in_scratch_else_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(name: str, **options: Any) -> Path:
        return pools.GetClusterPool(name, 1, executor="local", **options)._folder

    assert place("a") == tmp_path / ".nornir_pools"
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    assert place("b") == tmp_path / "scratch" / "nornir_pools"
    monkeypatch.setenv("NORNIR_POOLS_FOLDER", "by_variable")
    assert place("c") == tmp_path / "by_variable"
    assert place("d", folder="by_argument") == tmp_path / "by_argument"


def test_pool_without_a_task_writes_nothing(tmp_path: Path) -> None:
    pool = pools.GetClusterPool("p", 1, executor="local")
    assert pool.folder is None
    with pytest.raises(TypeError, match="not callable"):
        pool.add_task("t", functions.add(1, 2))
    pool.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_runs_closed_more_than_14_days_ago_are_removed(tmp_path: Path) -> None:
    for name, days, last in (("old", 15, "closed"), ("open", 15, "task"), ("new", 13, "closed")):
        spool = Spool.create(tmp_path / name)
        spool.note(t="task", n=1)
        spool.note(t=last)
        spool.close()
        then = time.time() - days * 86400
        os.utime(tmp_path / name / "journal.jsonl", (then, then))
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").touch()
    remove_old_runs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new", "no run", "open"]
