"""A backend for joblib: what scikit-learn and others run through ``joblib.Parallel`` runs on a pool, of a cluster for one.

>>> from nornir_pools.joblib import register_nornir
>>> register_nornir()
>>> with joblib.parallel_config(backend="nornir", num_threads=64, mem_gb=4, timeout_min=30):
...     GridSearchCV(estimator, grid).fit(X, y)

(The module has joblib's name, and imports joblib: nothing else of this package does.)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

try:
    from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend
    from joblib.parallel import ParallelBackendBase, SequentialBackend, register_parallel_backend
except ImportError as error:  # pragma: no cover
    raise ImportError(
        f"joblib 1.3 or newer is needed for its backend 'nornir' ({error}): pip install 'nornir_pools[joblib]'"
    ) from error

from . import api
from .adding import PoolView
from .base import PoolBase, here
from .errors import OptionError
from .options import check_names
from .task import Task

__all__ = ["NornirBackend", "register_nornir"]

_GETTERS: dict[str, Callable[..., PoolBase]] = {
    "processes": api.GetMultithreadingPool,
    "threads": api.GetThreadPool,
    "serial": api.GetSerialPool,
}


def register_nornir(*, make_default: bool = False) -> None:
    """Make ``backend="nornir"`` known to joblib; `make_default`: and what is used where no backend is named."""
    register_parallel_backend("nornir", NornirBackend, make_default=make_default)


class NornirBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs joblib's batches as tasks of a pool.

    Which one: `pool`, or that of the name `name` and the kind `kind` ("cluster", "processes", "threads", "serial") with
    `num_threads` and `options` as of its getter. It stays open, and its workers warm, from one ``Parallel`` to the next, and is
    closed as any pool is: by the end of the program, or by ClosePools. Raises OptionError for what is wrong with these.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        *,
        pool: PoolBase | PoolView | None = None,
        kind: str = "cluster",
        name: str = "joblib",
        num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        if pool is not None and (options or num_threads):
            raise OptionError("with pool=, the options are that pool's (or those of what its with_options gives)")
        if kind != "cluster" and kind not in _GETTERS:
            raise OptionError(f"kind={kind!r} is no kind of pool; there are: cluster, {', '.join(_GETTERS)}")
        check_names(options)
        self._given = pool
        self._make: Callable[[], PoolBase] = lambda: (
            api.GetClusterPool(name, num_threads, **options) if kind == "cluster" else _GETTERS[kind](name, num_threads)
        )
        self._pool: PoolBase | PoolView | None = None
        self._large: float | None = None  # bytes from which on an array is shared, as joblib's max_nbytes
        self._shared: dict[int, tuple[Any, Any]] = {}  # by id, in one call of Parallel: arrays, and what stands for them
        self._tasks: set[Task] = set()  # not done
        self._last = threading.local()  # .seconds that the batch took that this thread has just taken in

    # --- which pool, and how much of it

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        *,
        max_nbytes: float | None = None,
        mmap_mode: str | None = None,
        **_: Any,
    ) -> int:
        """Get ready for calls of `parallel`; returns how many batches are to run at once."""
        if self._nested():
            # A task that makes a pool of jobs would wait for them in its own job, and each task would make one.
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._large = max_nbytes if mmap_mode == "r" else None
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at once: of a negative number, as many fewer than the pool's `num_threads`."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1 or self._nested():
            return 1  # joblib runs all of it here, without us
        pool = self._get_pool()
        if getattr(pool, "executor", "") == "debug":
            return 1
        most = int(pool.num_threads)
        return min(n_jobs, most) if n_jobs > 0 else max(1, most + 1 + n_jobs)

    def _nested(self) -> bool:
        return bool(self.nesting_level) or here.job

    def _get_pool(self) -> PoolBase | PoolView:
        if self._given is not None:
            return self._given
        if self._pool is None or self._pool.closed:
            self._pool = self._make()
        return self._pool

    # --- one call of Parallel

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Task:
        """Have a batch run, and `callback` called with its task when that is done.

        (joblib holds a lock that the callback needs, so this must not block until other tasks are done.)
        """
        func.items = [(call, *self._replace(args, kwargs)) for call, args, kwargs in func.items]
        task = self._get_pool()._add(Task, _name_of(func), func, (), {}, may_block=False)
        self._tasks.add(task)

        def done(_: object) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # joblib raises the first, and drops the others on purpose
            if callback is not None:
                callback(task)

        task.add_done_callback(done)
        return task

    apply_async = submit  # its name before joblib 1.5

    def _replace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(self._argument, args)), {name: self._argument(value) for name, value in kwargs.items()}

    def _argument(self, value: Any) -> Any:
        """What to send in place of an argument: a large array once, for all the batches that use it."""
        numpy = sys.modules.get("numpy")
        if self._large is None or numpy is None or type(value) is not numpy.ndarray:
            return value
        if value.nbytes < self._large or value.dtype.hasobject:
            return value
        if id(value) not in self._shared:
            self._shared[id(value)] = value, self._get_pool().share(value)
        return self._shared[id(value)][1]

    def retrieve_result_callback(self, out: Task) -> Any:
        """The values of a batch. Raises what the function has raised, with the traceback of where it ran as its cause."""
        facts = out.facts
        self._last.seconds = facts["finished"] - facts["started"] if "started" in facts else None
        return out.result()

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Let the size of batches follow the time that they take, without that which they wait for jobs to start."""
        seconds = getattr(self._last, "seconds", None)
        super().batch_completed(batch_size, duration if seconds is None else seconds)

    def stop_call(self) -> None:
        """All of it is done: forget what it has shared."""
        self._shared.clear()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Take back what has not started; what runs goes on to its end, and nobody waits for it."""
        for task in list(self._tasks):
            task.cancel()

    def terminate(self) -> None:
        """A call of Parallel is over: the pool stays, for the next."""
        self.reset_batch_stats()


def _name_of(batch: Any) -> str:
    """A name for a batch of calls: the function's, and how many calls it has."""
    function = batch.items[0][0]
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name} × {len(batch.items)}" if len(batch.items) > 1 else name
