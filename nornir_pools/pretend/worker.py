"""The worker in jobs of a pretend SLURM: as a job begins a task, it is ended so if a test has asked for that."""

from __future__ import annotations

import os
import time

from ..cluster import worker
from ..cluster.signals import signals
from .store import Store

__all__ = ["DoomedWorker", "main"]


class DoomedWorker(worker.Worker):
    """A worker whose job may be ended as it begins a task."""

    def _run(self, task: str) -> None:
        store = Store(os.environ["PRETEND_SLURM_FOLDER"])
        end = store.next_end(self._task_name(task))
        if end is not None:
            after = end.pop("after")
            job = self.facts["job"].partition("@")[0]
            store.write(f"dooms/{job}", {**end, "at": time.time() + (after or 0.0)})
            while after is None:  # the function is never called
                signals.sleep(60.0)
        super()._run(task)


def main() -> None:
    """As the worker's own."""
    worker.Worker = DoomedWorker  # type: ignore[misc]  # of which main makes one
    worker.main()
