"""Run by Python when it starts, if this folder is on PYTHONPATH: has a worker observe itself (../inside.py)."""

import os

if "BENCHMARK_INSIDE" in os.environ:
    from tests.benchmarks import inside

    inside.begin(os.environ["BENCHMARK_INSIDE"])
