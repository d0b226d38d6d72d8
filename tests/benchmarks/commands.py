"""What does a shell command cost, against a pool of threads that calls subprocess.run, and xargs?

Two at once, each through ``sh -c``, output captured (but by xargs).
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


def xargs(command: str, count: int) -> dict[str, float]:
    numbers = "\n".join(map(str, range(count)))
    begun = time.perf_counter()
    subprocess.run(
        ["xargs", "-P", str(WORKERS), "-I{}", "sh", "-c", command],
        input=numbers,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return _numbers(count, begun)


def cases(count: int = 500) -> list[Case]:
    large = "head -c 1000000 /dev/zero"
    peer = "ThreadPoolExecutor and subprocess.run"
    return [
        Case(
            "true",
            [
                Contender("nornir_pools", ours, ("true", 0, count)),
                Contender(peer, threads, ("true", 0, count)),
                Contender("xargs -P", xargs, ("true", count), needs="xargs"),
            ],
        ),
        Case(
            "1 MB printed",
            [
                Contender("nornir_pools", ours, (large, 1_000_000, count // 5)),
                Contender(peer, threads, (large, 1_000_000, count // 5)),
            ],
        ),
    ]
