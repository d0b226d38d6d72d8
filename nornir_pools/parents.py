"""Tasks as arguments of other tasks: finding them, waiting for them, and what becomes of a task if one of them fails.

A task that was given as an argument (its child's *parent*) is replaced by its value; so is one in a list, tuple or dict,
and in such inside of such. Only these exact types are looked into: what else holds a task is passed as it is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from typing import Any

from . import outcome as outcomes
from .calls import Stand
from .errors import CommandError, OptionError, ParentFailedError
from .outcome import Outcome
from .task import CommandTask, Task
from .turns import wait_for

__all__ = ["Parents", "check_after", "replace_tasks"]

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_DEEPEST = 16  # containers inside of each other: those below are passed as they are


class _Swap:
    """Replaces what is of one kind in arguments. What holds none of it is returned as the same object."""

    def __init__(self, kind: type, new: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._new = new
        self._done: dict[int, Any] = {}  # by id; a container that contains itself finds itself in here

    def __call__(self, value: Any, depth: int = _DEEPEST) -> Any:
        if isinstance(value, self._kind):
            return self._new(value)
        kind = type(value)
        if not depth or (kind is not list and kind is not tuple and kind is not dict):
            return value
        if _PLAIN.issuperset(map(type, value.values() if kind is dict else value)):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value
            before = list(value.values()) if kind is dict else value
            after = [self(item, depth - 1) for item in before]
            if any(new is not old for new, old in zip(after, before, strict=True)):
                self._done[id(value)] = dict(zip(value, after, strict=True)) if kind is dict else kind(after)
        return self._done[id(value)]


def replace_tasks(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], Sequence[Task]]:
    """The arguments with a `Stand` in place of each task, and the tasks, each once, in the order of the stands' indices."""
    if _PLAIN.issuperset(map(type, args)) and (not kwargs or _PLAIN.issuperset(map(type, kwargs.values()))):
        return args, kwargs, ()  # almost always, and done for every task
    stands: dict[Task, Stand] = {}

    def stand_for(task: Task) -> Stand:
        return stands.setdefault(task, Stand(len(stands), task.name))

    swap = _Swap(Task, stand_for)
    args, kwargs = swap(args), swap(kwargs)
    return args, kwargs, tuple(stands)


def check_after(after: Any) -> tuple[futures.Future[Any], ...]:
    """The tasks of the option `after`. Raises OptionError if it is anything else."""
    tasks = (after,) if isinstance(after, futures.Future) else tuple(after) if isinstance(after, Iterable) else (after,)
    for task in tasks:
        if not isinstance(task, futures.Future):
            raise OptionError(f"the option 'after' takes a task, or a list of tasks, that are to be over first, not {task!r}")
    return tasks


class _Listener:
    """What a parent calls when it is done. It calls on nobody once that is settled: a Future keeps its callbacks, and is not
    to keep its children and their other parents with them."""

    def __init__(self, parents: Parents) -> None:
        self.parents: Parents | None = parents

    def __call__(self, parent: futures.Future[Any]) -> None:
        parents = self.parents
        if parents is not None:
            parents._note(parent)


class Parents:
    """The tasks that `task` waits for: those whose `values` it gets, and those that it only comes `after`."""

    def __init__(self, task: Task, values: Sequence[Task], after: Sequence[futures.Future[Any]]) -> None:
        self.task = task
        self.values = values
        self.after = after
        self._left = len(values) + len(after) + 1
        self._claimed = False
        self._listener = _Listener(self)
        self._lock = threading.Lock()  # guards _left and _claimed; nothing is called under it

    def claim(self) -> bool:
        """Exactly one party decides what becomes of the task; returns whether that is the caller."""
        with self._lock:
            claimed, self._claimed = self._claimed, True
        self._listener.parents = None
        return not claimed

    def listen(self) -> None:
        """Have `settle` called once all parents are done, or one has failed; now, if that is so already."""
        for parent in (*self.values, *self.after):
            parent.add_done_callback(self._listener)
        self._note(None)

    def _note(self, parent: futures.Future[Any] | None) -> None:
        with self._lock:
            self._left -= 1
            left = self._left
        if not left or (parent is not None and (parent.cancelled() or _error_of(parent) is not None)):
            _take_turn(self)

    def settle(self) -> None:
        """Start the task, or fail or cancel it with its parents, unless that was done."""
        if self.claim():
            self.task._pool._settle(self)

    def settle_if_due(self) -> None:
        """As `settle`, if all parents are done, though whoever has completed the last one has not come to it yet."""
        if all(parent.done() for parent in (*self.values, *self.after)):
            self.settle()

    def wait(self, timeout: float | None = None) -> float | None:
        """Block until all parents are done, or the time is over; returns what is left of it."""
        end = None if timeout is None else time.monotonic() + timeout
        for parent in (*self.values, *self.after):
            if isinstance(parent, Task):
                timeout = parent._pool._assist(parent, timeout)
            wait_for(parent, timeout)
            timeout = None if end is None else max(0.0, end - time.monotonic())
        return timeout

    def verdict(self) -> tuple[bool, Outcome | None]:
        """Whether the task can be run; if not, its outcome (None: it is cancelled, as a parent was)."""
        for parent in (*self.values, *self.after):
            if parent.done():
                if parent.cancelled():
                    return False, None
                if (error := _error_of(parent)) is not None:
                    if isinstance(parent, Task):
                        self.task._blamed = parent._pool, parent.task_id, parent._blamed
                    return False, outcomes.failure(_parent_failed(self.task, parent, error), self.task.name)
        return True, None

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the parents' values in place of the stands."""
        swap = _Swap(Stand, lambda stand: self.values[stand.index].result())
        return swap(args), swap(kwargs)


def _error_of(parent: futures.Future[Any]) -> BaseException | None:
    """How a parent that is done has failed. (A task's value is not read for that, nor is it taken for asked about.)"""
    if not isinstance(parent, Task):
        return parent.exception()
    if isinstance(parent, CommandTask) and parent._exception is None and parent._returncode:
        return CommandError(
            f"the command ended with exit status {parent._returncode}: {parent.stderrdata[-500:].strip()}".rstrip(": "),
            returncode=parent._returncode,
            stdout=parent.stdoutdata,
            stderr=parent.stderrdata,
        )
    return parent._exception


def _parent_failed(task: Task, parent: futures.Future[Any], error: BaseException) -> ParentFailedError:
    what = f"task {task.name!r} of pool {task._pool.name!r} was not run, since "
    name = getattr(parent, "name", "") or repr(parent)
    if isinstance(error, ParentFailedError) and error.__cause__ is not None:
        what += f"its parent, task {name!r}, was not, since task {error.root!r} has failed"
        root, cause = error.root, error.__cause__
    else:
        what += f"its parent, task {name!r}, has failed"
        root, cause = name, error
    result = ParentFailedError(f"{what}: {outcomes.error_text(cause)}", task=task.name, parent=name, root=root)
    result.__cause__ = cause
    return result


class _Turns(threading.local):
    waiting: deque[Parents] | None = None


_turns = _Turns()


def _take_turn(parents: Parents) -> None:
    """Settle it, after those that this thread is settling: a failure goes down a chain of any length without recursion."""
    if _turns.waiting is not None:
        _turns.waiting.append(parents)
        return
    _turns.waiting = deque([parents])
    interrupt: BaseException | None = None
    try:
        while _turns.waiting:
            try:
                _turns.waiting.popleft().settle()
            except BaseException as error:  # Ctrl-C: the others must not wait for ever
                interrupt = error
    finally:
        _turns.waiting = None
    if interrupt is not None:
        raise interrupt
