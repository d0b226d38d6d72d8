"""What does a shell command cost, against a pool of threads that calls subprocess.run, xargs and GNU parallel?

Two at once, each through a shell, output captured: of xargs and parallel, that of all commands together.
"""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from .harness import Case, Contender, check
from .work import WORKERS

__all__ = ["cases"]


def _numbers(count: int, begun: float) -> dict[str, float]:
    return {f"{count} commands, each [ms]": (time.perf_counter() - begun) / count * 1e3}


def ours(command: str, length: int, count: int) -> dict[str, float]:
    import nornir_pools as pools

    begun = time.perf_counter()
    with pools.GetProcessPool("benchmark", WORKERS) as pool:
        tasks = [pool.add_process("command", command) for _ in range(count)]
        texts = [task.wait_return() for task in tasks]
        result = _numbers(count, begun)
    check([task.returncode for task in tasks] == [0] * count, "the statuses")
    check([len(text) for text in texts] == [length] * count, "what they print")
    return result


def run_captured(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def threads(command: str, length: int, count: int) -> dict[str, float]:
    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [pool.submit(run_captured, command) for _ in range(count)]
        done = [task.result() for task in tasks]
        result = _numbers(count, begun)
    check([process.returncode for process in done] == [0] * count, "the statuses")
    check([len(process.stdout) for process in done] == [length] * count, "what they print")
    return result


def by_program(words: list[str], length: int, count: int) -> dict[str, float]:
    """A program that runs the command for each number of its input."""
    numbers = "".join(f"{number}\n" for number in range(count)).encode()
    begun = time.perf_counter()
    done = subprocess.run(words, input=numbers, check=True, stdout=subprocess.PIPE)
    result = _numbers(count, begun)
    check(len(done.stdout) == length * count, "what they print")
    return result


def case(title: str, command: str, length: int, count: int) -> Case:
    peer = "ThreadPoolExecutor and subprocess.run"
    jobs = str(WORKERS)
    xargs = ["xargs", "-P", jobs, "-I{}", "sh", "-c", command]
    parallel = ["parallel", "--jobs", jobs, "-N0", "--", command]
    return Case(
        title,
        [
            Contender("nornir_pools", ours, (command, length, count)),
            Contender(peer, threads, (command, length, count)),
            Contender("xargs -P", by_program, (xargs, length, count), needs="xargs"),
            Contender("GNU parallel", by_program, (parallel, length, count), needs="parallel"),
        ],
        f"≥ 0.95 × {peer}, ≥ 0.77 × the others",
    )


def cases(count: int = 500) -> list[Case]:
    return [
        case("true", "true", 0, count),
        case("1 MB printed", "head -c 1000000 /dev/zero", 1_000_000, count // 5),
    ]
