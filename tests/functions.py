"""What the tests' tasks run: functions of a module, so that they can be sent by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn


def add(a: Any, b: Any = 1) -> Any:
    return a + b


def echo(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def process_id() -> int:
    return os.getpid()


def wait_for_file(path: str, value: Any = None, seconds: float = 50) -> Any:
    """Return once the file is there; the test makes it."""
    end = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)
    return value


def touch_and_wait(mark: str, path: str, value: Any = None) -> Any:
    Path(mark).touch()
    return wait_for_file(path, value)


def write_pid_and_wait(pid_file: str, path: str) -> None:
    Path(f"{pid_file}.new").write_text(str(os.getpid()))
    os.rename(f"{pid_file}.new", pid_file)
    wait_for_file(path)


def wait_and_fail(path: str) -> NoReturn:
    wait_for_file(path)
    raise PlainError(path)


class Busy:
    """Keeps the workers of a pool busy, until `end`. They are when this is made."""

    def __init__(self, pool: Any, folder: Path, workers: int = 2) -> None:
        self._go = folder / "go"
        marks = [folder / f"busy-{number}" for number in range(workers)]
        self.tasks = [pool.add_task("busy", touch_and_wait, str(mark), str(self._go)) for mark in marks]
        for mark in marks:
            wait_for_file(str(mark))

    def end(self) -> None:
        """Let the workers go on."""
        self._go.touch()
        for task in self.tasks:
            if not task.cancelled():
                task.wait(50)


class PlainError(Exception):
    pass


def make_plain_error(*_: object) -> PlainError:
    """Something a weak reference can be made to."""
    return PlainError()


class FalseError(Exception):
    def __bool__(self) -> bool:
        return False


class EmptyError(Exception):
    def __len__(self) -> int:
        return 0


class OwnConstructorError(Exception):
    """Its pickle does not load: the constructor takes other arguments than `args` holds."""

    def __init__(self, code: int, place: str) -> None:
        super().__init__(f"code {code} at {place}")
        self.code = code


class LockInsideError(Exception):
    def __init__(self) -> None:
        super().__init__("lock inside")
        self.lock = threading.Lock()


class NoTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class RefusesToBeSent:
    def __reduce__(self) -> NoReturn:
        raise TypeError("refuses to be sent")


class Harmful:
    """Does something to the process that pickles it, or to the one that reads the pickle."""

    def __init__(self, how: str, *, read: bool) -> None:
        self.how = how
        self.read = read

    def __reduce__(self) -> Any:
        return (harm, (self.how,)) if self.read else harm(self.how)


def harm(how: str) -> Any:
    return refuse() if how == "refuse" else exit_with(3) if how == "exit" else die(how)


def harmful_result(how: str) -> Harmful:
    return Harmful(how, read=False)


class RefusesToBeRead:
    def __reduce__(self) -> Any:
        return refuse, ()


def touch(path: str) -> None:
    """Leave a mark."""
    Path(path).touch()


def append_line(path: str, line: object) -> None:
    """Add a line to a file by one write, so that lines of several processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def refuse() -> NoReturn:
    raise ValueError("refuses to be read")


def fail(error: type[BaseException] = ValueError, *args: Any) -> NoReturn:
    raise error(*args)


def fail_with_cause() -> NoReturn:
    values: dict[str, int] = {}
    try:
        values["missing"] += 1
    except KeyError as error:
        raise ValueError("outer") from error
    raise AssertionError("there was a value")


def give(kind: str) -> Any:
    """Values that cannot be sent, or not be read."""
    if kind == "generator":
        return (i for i in range(3))
    if kind == "lock":
        return threading.Lock()
    return RefusesToBeRead() if kind == "unreadable" else RefusesToBeSent()


def exit_with(code: Any) -> NoReturn:
    sys.exit(code)


def die(how: str) -> NoReturn:
    if how == "os._exit":
        os._exit(3)
    if how == "segfault":
        import faulthandler

        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def die_once(mark: str) -> str:
    """End the worker that runs this, unless the mark is there already."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(50)
    return "second try"


def leave_child_and_die(go: str) -> NoReturn:
    """A child that keeps everything open that this process has open, until the test makes that file; then a sudden death."""
    if os.fork() == 0:
        try:
            wait_for_file(go)
        finally:
            os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def surroundings(*names: str) -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    return {"cwd": os.getcwd(), "umask": mask, "path": list(sys.path), **{name: os.environ.get(name) for name in names}}


def disturb_surroundings() -> None:
    """Leave everything different from what it was."""
    os.environ["LEFT_BEHIND"] = "yes"
    os.environ.pop("MARK", None)
    os.umask(0o007)
    os.chdir("/")
    sys.path.insert(0, "/left/behind")


def make_array(n: int) -> Any:
    import numpy as np

    return np.arange(n, dtype=np.float64)


def sum_and_flags(array: Any) -> tuple[float, bool]:
    return float(array.sum()), bool(array.flags.writeable)


def double_in_place(array: Any) -> Any:
    array *= 2
    return array


def pool_inside(kind: str) -> Any:
    import nornir_pools as pools

    get: Any = {"threads": pools.GetThreadPool, "processes": pools.GetMultithreadingPool}[kind]
    with get("inside", 2) as pool:
        return pool.add_task("in", add, 1, 2).wait_return()


def run_program(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Counter:
    """For bound methods, class methods and instances that are called."""

    def __init__(self, start: int) -> None:
        self.start = start

    def plus(self, n: int) -> int:
        return self.start + n

    @classmethod
    def made(cls, n: int) -> int:
        return cls(n).start

    @staticmethod
    def twice(n: int) -> int:
        return 2 * n

    def __call__(self, n: int) -> int:
        return self.start * n


def sum_two(one: Any, other: Any) -> tuple[float, float, bool]:
    """The sums of two arrays, and whether both can be written."""
    one += 0
    return float(one.sum()), float(other.sum()), bool(one.flags.writeable and other.flags.writeable)


class Traced:
    """A value that leaves the id of each process that unpickles it in a file."""

    def __init__(self, number: int, log: str, size: int = 0) -> None:
        import numpy as np

        self.number = number
        self.log = log
        self.filling = np.ones(size // 8)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        append_line(self.log, os.getpid())


def traced(number: int, log: str, size: int = 0) -> Traced:
    return Traced(number, log, size)


def sum_traced(values: list[Traced]) -> int:
    return sum(value.number for value in values)


def needs_file(path: str) -> int:
    if not Path(path).exists():
        raise ValueError(path)
    return 1


def sum_two_lists(values: list[Any]) -> float:
    return float(values[0].sum()) + float(values[1])


_set_up = threading.local()


def set_up(path: str, value: Any, seconds: float = 0.0) -> None:
    """What a pool's initializer does: note where it was called, and keep a value for the tasks of this thread."""
    _set_up.value = value
    os.environ["SET_UP"] = str(value)
    append_line(path, f"{os.getpid()} {threading.get_ident()}")
    time.sleep(seconds)


def what_was_set_up() -> tuple[Any, str]:
    return getattr(_set_up, "value", None), f"{os.getpid()} {threading.get_ident()}"


def fail_unless_set_up(mark: str) -> Any:
    """Fail the first time in any case."""
    if not Path(mark).exists():
        Path(mark).touch()
        raise PlainError(mark)
    return what_was_set_up()[0]


def start_programs_and_hang(path: str) -> None:
    """Note this process, its child and its grandchild, and do not end."""
    child = subprocess.Popen(["/bin/sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    append_line(path, f"{os.getpid()} {child.pid} {child.stdout.readline().strip()}")
    time.sleep(1000)


def hang_once(log: str) -> int:
    """Do not end, the first time."""
    append_line(log, os.getpid())
    if len(Path(log).read_text().splitlines()) == 1:
        time.sleep(100)
    return os.getpid()


def succeed_once(log: str) -> None:
    append_line(log, os.getpid())
    if len(Path(log).read_text().splitlines()) > 1:
        raise PlainError(log)
