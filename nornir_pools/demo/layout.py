"""The positions of all tiles from the offsets of pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nornir_pools.demo.registration import PairOffset

Position = tuple[float, float]
"""(row, column) of a tile's upper left pixel, in pixels."""

# Tiles that do not overlap reach one of these at times by the best of a dozen candidates, but not both; tiles of
# micrographs that do overlap score 0.5 and more.
LEAST_SCORE = 0.3  # see PairOffset
LEAST_SIGNIFICANCE = 7.0
ROUNDS = 24  # of reweighting
SCALE = 1.0  # pixels: a pair off by more counts for less
LARGEST_RESIDUAL = 3.0  # pixels: a pair off by more is left out


@dataclass(frozen=True)
class Layout:
    """Where the tiles lie, and the pairs that say so (``used``) or were left out in solving (``rejected``)."""

    positions: dict[str, Position]
    used: tuple[PairOffset, ...]
    rejected: tuple[PairOffset, ...]


def is_sure(pair: PairOffset) -> bool:
    """Whether the tiles of ``pair`` may be taken to overlap."""
    return pair.score >= LEAST_SCORE and pair.significance >= LEAST_SIGNIFICANCE


def groups(names: Sequence[str], pairs: Iterable[PairOffset]) -> list[list[str]]:
    """The tiles in connected groups, the largest first."""
    group = {name: [name] for name in names}
    for pair in pairs:
        one, other = group[pair.first], group[pair.second]
        if one is not other:
            one.extend(other)
            for name in other:
                group[name] = one
    unique = {id(members): members for members in group.values()}
    return sorted((sorted(members) for members in unique.values()), key=len, reverse=True)


def least_squares(index: dict[str, int], pairs: Sequence[PairOffset], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The positions (tiles, 2) that minimise the weighted squared residuals of ``pairs``, the mean position being 0."""
    matrix = np.zeros((len(pairs) + 1, len(index)))
    offsets = np.zeros((len(pairs) + 1, 2))
    roots = np.sqrt(weights)
    for number, pair in enumerate(pairs):
        matrix[number, index[pair.first]] = -roots[number]
        matrix[number, index[pair.second]] = roots[number]
        offsets[number] = roots[number] * np.array(pair.offset)
    matrix[-1] = 1.0  # pairs tell differences only; this fixes the origin
    return np.asarray(np.linalg.lstsq(matrix, offsets, rcond=None)[0], np.float64)


def residuals(index: dict[str, int], pairs: Sequence[PairOffset], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how many pixels each pair differs from ``positions``."""
    found = [positions[index[pair.second]] - positions[index[pair.first]] - pair.offset for pair in pairs]
    return np.asarray(np.linalg.norm(np.array(found), axis=1), np.float64)


def solve_layout(names: Sequence[str], pairs: Iterable[PairOffset]) -> Layout:
    """Positions of ``names``, which sure ``pairs`` must connect; the smallest row and column are 0.

    Iteratively reweighted least squares (Holland and Welsch 1977): first with the weights of least absolute residuals,
    which pairs that are wrong by much cannot pull away, then with Cauchy weights, which all but drop them. Those still
    off are left out, and plain least squares has the last word.
    """
    every = list(pairs)
    sure = [pair for pair in every if is_sure(pair)]
    index = {name: number for number, name in enumerate(names)}
    trust = np.array([pair.significance for pair in sure])
    positions = least_squares(index, sure, trust)
    for number in range(ROUNDS):
        off = residuals(index, sure, positions) / SCALE
        weights = 1 / np.maximum(off, 0.05) if number < ROUNDS * 2 // 3 else 1 / (1 + off**2)
        positions = least_squares(index, sure, trust * weights)
    good = residuals(index, sure, positions) <= LARGEST_RESIDUAL
    used = [pair for pair, is_good in zip(sure, good, strict=True) if is_good]
    if len(groups(names, used)) == 1:
        positions = least_squares(index, used, trust[good])
    positions -= positions.min(axis=0)
    kept = set(map(id, used))
    return Layout(
        {name: (float(row), float(column)) for name, (row, column) in zip(names, positions, strict=True)},
        tuple(used),
        tuple(pair for pair in every if id(pair) not in kept),
    )


def position_errors(found: dict[str, Position], true: dict[str, Position]) -> dict[str, float]:
    """By how many pixels each found position is off.

    Mosaics have no origin: the median difference of all tiles is taken off, so that one wrong tile does not put the
    others in the wrong.
    """
    names = list(found)
    difference = np.array([found[name] for name in names]) - np.array([true[name] for name in names])
    difference -= np.median(difference, axis=0)
    return {name: math.hypot(*row) for name, row in zip(names, difference.tolist(), strict=True)}


def write_offsets(path: Path, positions: dict[str, Position]) -> None:
    """Write ``{"tile.png": [row, column], ...}``, in pixels to a thousandth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = {name: [round(row, 3), round(column, 3)] for name, (row, column) in positions.items()}
    lines = [f"  {json.dumps(name)}: {json.dumps(place)}" for name, place in rounded.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
