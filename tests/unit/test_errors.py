"""The error tree: what each is caught as, and that all of them survive pickling."""

from __future__ import annotations

import copy
import pickle
import re

from nornir_pools import errors
from nornir_pools.errors import PoolError

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "RemoteTraceback"]
DETAILS = {"task": "a name", "returncode": -9, "folder": "/there", "errno": 28}


def test_errors_survive_pickling_and_copying_with_their_parts() -> None:
    for kind in CLASSES:
        error = kind("what happened", **DETAILS)
        for twin in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is kind
            assert str(twin) == "what happened"
            assert {name: getattr(twin, name) for name in DETAILS} == DETAILS


def test_every_error_is_a_pool_error_and_explained() -> None:
    for kind in CLASSES:
        assert issubclass(kind, PoolError)
        assert kind.__doc__
        assert str(kind()) == ""


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    drawn = dict(re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__))
    assert set(drawn) == {kind.__name__ for kind in CLASSES} - {"PoolError"}
    builtin = {"ValueError", "TypeError", "RuntimeError", "OSError", "MemoryError", "LookupError"}
    for name, base in drawn.items():
        kind = getattr(errors, name)
        assert (not base) or base in [parent.__name__ for parent in kind.__bases__]
        own = {parent.__name__ for parent in kind.__bases__} & builtin
        assert own == ({base} if base else set()), name


def test_an_unfinished_wait_and_a_job_at_its_limit_are_told_apart() -> None:
    assert not issubclass(errors.JobTimeoutError, TimeoutError)
    assert not issubclass(errors.JobCancelledError, TimeoutError)


def test_remote_traceback_shows_its_text_below_the_heading() -> None:
    assert str(errors.RemoteTraceback("line one")) == "\nline one"
    assert str(pickle.loads(pickle.dumps(errors.RemoteTraceback("t")))) == "\nt"
