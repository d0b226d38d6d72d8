"""Benchmarks: this package and its peers side by side. ``python -m tests.benchmarks`` lists them."""
