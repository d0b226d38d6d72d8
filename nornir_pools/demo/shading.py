"""Uneven brightness: measured where tiles overlap, and corrected.

The intensity of a tile is taken to be that of the scene times exp(F + g): F is a polynomial of the place in the tile
and the same in all tiles (the microscope's light), and g one number per tile (the lamp's brightness). Two tiles see the
same scene where they overlap, so that the logarithm of the ratio of their intensities is linear in F and g, and least
squares find them. Compare Brown and Lowe, "Automatic panoramic image stitching using invariant features", 2007,
section 6 (gain compensation), which has g alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nornir_pools.demo.tiles import FloatImage

Sample = tuple[float, float, float, float, float]
"""A place in the first tile (row, column), the same place in the second, and the logarithm of first over second.

Places are from -1 to 1 over the tile's height and width.
"""

POWERS = [(p, q) for p in range(5) for q in range(5) if 1 <= p + q <= 4]  # the terms row**p * column**q of F
CELLS = 40  # samples wanted from one overlap
DARKEST = 0.05  # of the mean intensity: darker cells are left out, for their ratios are noise
ROUNDS = 5  # of reweighting
SCALE = 0.05  # deviation of a logarithm from which on a sample counts for less


@dataclass(frozen=True)
class Shading:
    """The coefficients of F, one per term of ``POWERS``, and g by tile name; none of them: even brightness."""

    coefficients: tuple[float, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)


def compare_brightness(first: FloatImage, second: FloatImage, places: tuple[slice, slice, slice, slice]) -> tuple[Sample, ...]:
    """Samples over the overlap ``places`` (rows and columns of the first image (h, w), then of the second)."""
    rows, columns, other_rows, other_columns = places
    mine, theirs = first[rows, columns], second[other_rows, other_columns]
    if min(mine.shape) < 2:
        return ()
    side = max(2.0, math.sqrt(mine.size / CELLS))
    darkest = DARKEST * (float(first.mean()) + float(second.mean())) / 2
    row_edges = np.linspace(0, mine.shape[0], max(1, round(mine.shape[0] / side)) + 1).astype(int).tolist()
    column_edges = np.linspace(0, mine.shape[1], max(1, round(mine.shape[1] / side)) + 1).astype(int).tolist()
    samples = []
    for top, bottom in itertools.pairwise(row_edges):
        for left, right in itertools.pairwise(column_edges):
            a, b = float(mine[top:bottom, left:right].mean()), float(theirs[top:bottom, left:right].mean())
            if min(a, b) > darkest:
                row, column = (top + bottom) / 2, (left + right) / 2
                here = relative(rows.start + row, first.shape[0]), relative(columns.start + column, first.shape[1])
                there = (
                    relative(other_rows.start + row, second.shape[0]),
                    relative(other_columns.start + column, second.shape[1]),
                )
                samples.append((*here, *there, math.log(a / b)))
    return tuple(samples)


def relative(place: float, length: int) -> float:
    """``place`` (pixels from the edge) as a number from -1 to 1 over ``length`` pixels."""
    return float(2 * place / length - 1)


def terms(rows: ArrayLike, columns: ArrayLike) -> NDArray[np.float64]:
    """The terms of F at places from -1 to 1: (number of terms, number of places)."""
    r, c = np.asarray(rows, float), np.asarray(columns, float)
    return np.stack([r**p * c**q for p, q in POWERS])


def solve_shading(pairs: Iterable[tuple[str, str, Iterable[Sample]]], names: list[str]) -> Shading:
    """F and g from the samples of all pairs (first tile, second tile, samples), by robust least squares."""
    index = {name: number for number, name in enumerate(names)}
    rows = [(index[first], index[second], *sample) for first, second, samples in pairs for sample in samples]
    if not rows:
        return Shading()
    table = np.array(rows)
    matrix = np.zeros((len(table), len(POWERS) + len(names)))
    matrix[:, : len(POWERS)] = (terms(table[:, 2], table[:, 3]) - terms(table[:, 4], table[:, 5])).T
    every = np.arange(len(table))
    matrix[every, len(POWERS) + table[:, 0].astype(int)] += 1
    matrix[every, len(POWERS) + table[:, 1].astype(int)] -= 1
    # A tilt of the light over each tile and a tilt of the lamp's brightness over the mosaic look the same in an
    # overlap. Small penalties choose: the lamp is steady, and what a few samples cannot tell about F is nought.
    penalty = np.diag(np.concatenate([np.full(len(POWERS), 0.03), np.full(len(names), 0.3)]))
    weights = np.ones(len(table))
    for _ in range(ROUNDS):
        solution = np.linalg.lstsq(
            np.vstack([matrix * weights[:, np.newaxis], penalty]),
            np.concatenate([table[:, 6] * weights, np.zeros(len(penalty))]),
            rcond=None,
        )[0]
        # Cauchy weights (square roots of them, as they multiply both sides).
        weights = 1 / np.sqrt(1 + ((table[:, 6] - matrix @ solution) / SCALE) ** 2)
    coefficients = tuple(float(value) for value in solution[: len(POWERS)])
    return Shading(coefficients, dict(zip(names, map(float, solution[len(POWERS) :]), strict=True)))


def light(coefficients: tuple[float, ...], gain: float, height: int, width: int) -> FloatImage:
    """exp(F + g) at every pixel of a tile: (height, width)."""
    rows = (2 * np.arange(height) + 1) / height - 1
    columns = (2 * np.arange(width) + 1) / width - 1
    exponent = np.full((height, width), gain)
    for (p, q), coefficient in zip(POWERS, coefficients, strict=False):
        exponent += np.outer(coefficient * rows**p, columns**q)
    # Bounds for tiles that this model does not fit: a correction beyond them would do harm.
    brightness: FloatImage = np.exp(np.clip(exponent, -1.5, 1.5)).astype(np.float32)
    return brightness
