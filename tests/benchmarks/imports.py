"""What does it cost to import the package, and to use it once and leave, against what peers cost?

Fresh processes, less what a Python that does nothing takes in turn with them. Checks that the import loads nothing heavy.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from .harness import Case, Contender, check

__all__ = ["cases"]

HEAVY = ("submitit", "numpy", "rich")
TURNS = 5  # of a measurement
USE_OURS = "import nornir_pools as p; assert p.GetThreadPool('x', 1).add_task('t', abs, -1).wait_return() == 1"
USE_STANDARD = (
    "from concurrent.futures import ThreadPoolExecutor as P\nwith P(1) as pool: assert pool.submit(abs, -1).result() == 1"
)

USE_JOBLIB = "import joblib as j; assert j.Parallel(1, prefer='threads')([j.delayed(abs)(-1)]) == [1]"


def seconds_of(*words: str) -> float:
    before = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before


def on_top(*words: str) -> dict[str, float]:
    """What a program takes more than none."""
    seconds_of(*words)  # bytecode is written, files are in memory
    pairs = [(seconds_of("-c", "pass"), seconds_of(*words)) for _ in range(TURNS)]
    nothing, program = zip(*pairs, strict=True)
    return {"more than an empty program [ms]": (statistics.median(program) - statistics.median(nothing)) * 1e3}


def of_package() -> dict[str, float]:
    """Importing this package; what it must not load is looked for in a process that is not timed."""
    program = f"import sys; from nornir_pools import *; sys.exit(str([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    check(done.stderr.strip() == "[]", f"import nornir_pools loads {done.stderr}")
    return on_top("-c", "from nornir_pools import *")  # what the import by itself loads only when it is used


def cases() -> list[Case]:
    peers = ("submitit", "joblib", "loky", "cfut", "dask.distributed", "dask_jobqueue", "parsl", "executorlib", "ray")
    return [
        Case(
            "import",
            [
                Contender("nornir_pools", on_top, ("-c", "import nornir_pools")),
                Contender("nornir_pools, all that it offers", of_package),
                Contender("concurrent.futures with both pools", on_top, ("-c", "import concurrent.futures.process")),
                *(Contender(name, on_top, ("-c", f"import {name}"), needs=name) for name in peers),
            ],
            wanted="less than 60 ms",
        ),
        Case(
            "one task on a thread, and the end of the program",
            [
                Contender("nornir_pools", on_top, ("-c", USE_OURS)),
                Contender("ThreadPoolExecutor", on_top, ("-c", USE_STANDARD)),
                Contender("joblib", on_top, ("-c", USE_JOBLIB), needs="joblib"),
            ],
        ),
        Case(
            "command line",
            [
                Contender("nornir_pools --help", on_top, ("-m", "nornir_pools", "--help")),
                Contender("dask --help", on_top, ("-m", "dask", "--help"), needs="dask"),
                Contender("ray --help", on_top, ("-m", "ray.scripts.scripts", "--help"), needs="ray"),
            ],
        ),
    ]
