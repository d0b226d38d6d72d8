"""What benchmarks have measured, as Markdown tables: one for each time or rate, with ratios, and one for all else.

Tables are made from what stands in the JSON files, so that a page made from them later shows what was printed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["draw", "ratios", "short", "table", "tables"]

TIMES = ("s", "ms", "µs")


def is_compared(metric: str) -> bool:
    """Whether it is a time or a rate."""
    unit = metric.rpartition("[")[2].rstrip("]")
    return unit in TIMES or unit.endswith("/s")


def ratios(ours: Sequence[float], theirs: Sequence[float], metric: str) -> list[float]:
    """How many times as fast as theirs ours is, round by round; nothing for what is neither a time nor a rate."""
    if len(theirs) == 1:  # measured once: held against every round of ours
        theirs = list(theirs) * len(ours)
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a > 0 and b > 0]
    if not is_compared(metric):
        return []
    return [a / b if metric.endswith("/s]") else b / a for a, b in pairs]


def tables(case: Mapping[str, Any]) -> list[str]:
    """All tables of a case."""
    compared = [metric for metric in case["values"] if is_compared(metric)]
    others = [metric for metric in case["values"] if not is_compared(metric)]
    made = [table(case, metric) for metric in compared] + ([_summary(case, others)] if others else [])
    if not made:
        made = [draw([[case["title"], ""], *([name, remark] for name, remark in case["contenders"].items())])]
    return [*made[:-1], made[-1] + (f"\n\nWanted: {case['wanted']}." if case["wanted"] else "")]


def table(case: Mapping[str, Any], metric: str) -> str:
    """One metric as a Markdown table. Ratios say how many times as fast ours is; above 1 we are ahead."""
    values = case["values"][metric]
    ours = [name for name in case["contenders"] if name.startswith("nornir_pools") and values.keys() > {name}]
    rows = [[f"{case['title']}: {metric}", "median", "min-max", "rounds", *(f"{name} is × as fast" for name in ours)]]
    for name, remark in case["contenders"].items():
        numbers = values.get(name)
        if numbers is None:
            rows += [[name, remark, *[""] * (len(ours) + 2)]] if remark else []
            continue
        pairs = {other: [] if other == name else ratios(values[other], numbers, metric) for other in ours if other in values}
        rows.append(
            [
                f"{name} ({remark})" if remark else name,
                short(statistics.median(numbers)),
                f"{short(min(numbers))}-{short(max(numbers))}",
                str(len(numbers)),
                *(_spread(pairs.get(other, [])) for other in ours),
            ]
        )
    return draw(rows)


def _spread(numbers: Sequence[float]) -> str:
    return f"{statistics.median(numbers):.2f} ({min(numbers):.2f}-{max(numbers):.2f})" if numbers else ""


def _summary(case: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """The medians of metrics that are neither times nor rates."""
    rows = [[case["title"], *metrics]]
    for name, remark in case["contenders"].items():
        cells = [case["values"][metric].get(name) for metric in metrics]
        if any(cells):
            rows.append([name, *("" if numbers is None else short(statistics.median(numbers)) for numbers in cells)])
        else:
            rows += [[name, remark, *[""] * (len(metrics) - 1)]] if remark else []
    return draw(rows if len(rows) > len(metrics) else list(zip(*rows, strict=True)))


def draw(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first with the headings, as Markdown."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def short(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 else "0"
