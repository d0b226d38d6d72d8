"""Registration of two tiles: where the second lies, seen from the first.

Candidates come from phase correlation (Kuglin and Hines, "The phase correlation image alignment method", 1975). As in
Preibisch, Saalfeld and Tomancak, "Globally optimal stitching of tiled 3D microscopic image acquisitions", 2009, several
of its peaks are tried, and the normalised correlation of the overlap that each of them means decides. Offsets are
(row, column) in pixels: position of the second tile minus position of the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage  # type: ignore[import-untyped,import-not-found,unused-ignore]

from nornir_pools.demo.shading import Sample, compare_brightness
from nornir_pools.demo.tiles import FloatImage, read_grey

CANDIDATES = 12  # peaks of the phase correlation that are tried
LARGEST_TRANSFORM = 1024  # pixels: larger tiles are binned for the phase correlation
LEAST_WIDTH = 10  # pixels: an overlap narrower than this says nothing
LEAST_SHARE = 0.02  # of the smaller tile's area, the same
LONGEST_CLIMB = 24  # pixels, by which a candidate from binned images may be improved


@dataclass(frozen=True)
class PairOffset:
    """How two tiles lie to each other.

    ``offset`` is (row, column) in pixels of ``second`` seen from ``first``; ``score`` is the correlation coefficient
    of their overlap (-1 to 1, of high-pass filtered intensities); ``significance`` is the score times the square root
    of the number of independent pixels, about the number of standard deviations by which it is more than chance;
    ``white`` is the brightest intensity of the two tiles (99.9th percentile). ``samples`` compare their brightness.
    """

    first: str
    second: str
    offset: tuple[float, float]
    score: float
    significance: float
    white: float
    samples: tuple[Sample, ...]


def flatten(image: FloatImage) -> FloatImage:
    """``image`` (h, w) without its uneven brightness and contrast, and with less noise: local mean 0, deviation 1."""
    width = max(image.shape) / 24
    smooth = np.maximum(ndimage.gaussian_filter(image, 1.0), 0)
    # Of the logarithm, so that uneven light is a sum; the constant keeps the noise of dark images low.
    smooth = np.log(smooth + 0.1 * smooth.mean() + 1e-6)
    detail = smooth - ndimage.gaussian_filter(smooth, width)
    deviation = np.sqrt(ndimage.gaussian_filter(detail**2, 2 * width))
    # Empty regions hold nothing but noise: the overall deviation keeps them from being blown up to full contrast.
    flat: FloatImage = detail / (deviation + 0.25 * detail.std() + 1e-6)
    return np.clip(flat, -4, 4)


def overlap(shape: tuple[int, ...], other: tuple[int, ...], shift: tuple[int, int]) -> tuple[slice, slice, slice, slice]:
    """Where two images of these shapes overlap, the second at ``shift``: rows, columns of one, then of the other."""
    tops = [max(0, s) for s in shift]
    ends = [max(top, min(a, s + b)) for top, a, s, b in zip(tops, shape, shift, other, strict=False)]
    mine = [slice(top, end) for top, end in zip(tops, ends, strict=True)]
    theirs = [slice(top - s, end - s) for top, end, s in zip(tops, ends, shift, strict=True)]
    return mine[0], mine[1], theirs[0], theirs[1]


def overlap_correlation(first: FloatImage, second: FloatImage, shift: tuple[int, int]) -> tuple[float, int]:
    """The correlation coefficient of the overlap at ``shift``, and the overlap's area in pixels."""
    rows, columns, other_rows, other_columns = overlap(first.shape, second.shape, shift)
    mine, theirs = first[rows, columns], second[other_rows, other_columns]
    if min(mine.shape) < LEAST_WIDTH:
        return -1.0, mine.size
    mine, theirs = mine - mine.mean(), theirs - theirs.mean()
    power = float(np.vdot(mine, mine)) * float(np.vdot(theirs, theirs))
    return (float(np.vdot(mine, theirs)) / math.sqrt(power) if power > 0 else 0.0), mine.size


def phase_correlation(first: FloatImage, second: FloatImage) -> FloatImage:
    """The phase correlation of two images, zero-padded so that each offset has one place (negative ones wrap)."""
    shape = [fft.next_fast_len(a + b, real=True) for a, b in zip(first.shape, second.shape, strict=True)]
    cross = fft.rfft2(first, shape) * np.conj(fft.rfft2(second, shape))
    # Frequencies that hold hardly any power are noise; plain whitening would count them in full.
    magnitude = np.abs(cross)
    cross /= magnitude + 0.1 * magnitude.mean() + 1e-12
    rows, columns = fft.fftfreq(shape[0])[:, np.newaxis], fft.rfftfreq(shape[1])[np.newaxis, :]
    cross *= np.exp(-2 * np.pi**2 * (rows**2 + columns**2)).astype(np.float32)
    correlation: FloatImage = fft.irfft2(cross, shape)
    return correlation


def lags(length: int, first: int, second: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """For each place of a correlation axis of ``length``: the offset it means, and the overlap it leaves, in pixels."""
    offsets = np.arange(length)
    offsets = np.where(offsets < first, offsets, offsets - length)
    shared = np.minimum(first, offsets + second) - np.maximum(0, offsets)
    return offsets, np.maximum(shared, 0)


def find_candidates(
    first: FloatImage, second: FloatImage, expected: tuple[float, float] | None, tolerance: float
) -> list[tuple[int, int]]:
    """The offsets of the highest peaks of the phase correlation, within ``tolerance`` pixels of the one expected."""
    correlation = phase_correlation(first, second)
    rows, high = lags(correlation.shape[0], first.shape[0], second.shape[0])
    columns, wide = lags(correlation.shape[1], first.shape[1], second.shape[1])
    area = high[:, np.newaxis] * wide[np.newaxis, :]
    allowed = area >= LEAST_SHARE * min(first.size, second.size)
    allowed &= (high >= LEAST_WIDTH)[:, np.newaxis] & (wide >= LEAST_WIDTH)[np.newaxis, :]
    if expected is not None:
        near_rows, near_columns = abs(rows - expected[0]) <= tolerance, abs(columns - expected[1]) <= tolerance
        allowed &= near_rows[:, np.newaxis] & near_columns[np.newaxis, :]
    correlation = np.where(allowed, correlation, -np.inf)
    found: list[tuple[int, int]] = []
    while len(found) < CANDIDATES:
        row, column = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
        if correlation[row, column] == -np.inf:
            break
        found.append((int(rows[row]), int(columns[column])))
        correlation[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = -np.inf
    return found


def significance(score: float, area: int) -> float:
    """``score`` in standard deviations of chance; smoothing has left one independent pixel in about 4 pi."""
    return score * math.sqrt(area / (4 * math.pi))


def vertex(before: float, peak: float, after: float) -> float:
    """Where the parabola through three values at -1, 0 and 1 has its vertex; at most half a pixel from 0."""
    curvature = before - 2 * peak + after
    return max(-0.5, min(0.5, 0.5 * (before - after) / curvature)) if curvature < 0 else 0.0


def climb(first: FloatImage, second: FloatImage, start: tuple[int, int]) -> tuple[tuple[int, int], float, int]:
    """From the offset ``start``, pixel by pixel, to the best overlap correlation nearby: offset, score and area."""
    place = start
    known: dict[tuple[int, int], tuple[float, int]] = {}
    for _ in range(LONGEST_CLIMB):
        around = [(place[0] + row, place[1] + column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
        for near in around:
            if near not in known:
                known[near] = overlap_correlation(first, second, near)
        best = max(around, key=lambda near: known[near][0])
        if best == place:
            break
        place = best
    return place, *known[place]


def equalise(image: FloatImage, other: FloatImage) -> FloatImage:
    """``image`` (h, w) in the light of ``other``, which shows the same: without the quadratic trend of their ratio."""
    dark = 0.02 * (image.mean() + other.mean()) + 1e-6
    ratio = np.log((np.maximum(image, 0) + dark) / (np.maximum(other, 0) + dark))
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, length, dtype=np.float32) for length in image.shape), indexing="ij")
    terms = np.stack([np.ones_like(rows), rows, columns, rows**2, rows * columns, columns**2])
    flat = terms.reshape(len(terms), -1)
    trend = np.linalg.solve(flat @ flat.T, flat @ ratio.ravel())
    equal: FloatImage = image * np.exp(-np.tensordot(trend, terms, axes=1))
    return equal


def find_fraction(first: FloatImage, second: FloatImage, place: tuple[int, int]) -> tuple[float, float]:
    """The fraction of a pixel by which the offset of two images (h, w) as read is more than ``place``.

    The overlaps are cut out and brought to the same light before they are flattened. Otherwise each would have an edge
    or a slope of light of its own where the other has none, and the fractions a bias that adds up from tile to tile.
    """
    rows, columns, other_rows, other_columns = overlap(first.shape, second.shape, place)
    mine, theirs = first[rows, columns], second[other_rows, other_columns]
    mine, theirs = flatten(equalise(mine, theirs)), flatten(theirs)
    peak, above, below, left, right = (
        overlap_correlation(mine, theirs, step)[0] for step in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    )
    return vertex(above, peak, below), vertex(left, peak, right)


def shrink(image: FloatImage, factor: int) -> FloatImage:
    """``image`` (h, w) with ``factor`` x ``factor`` pixels averaged into one."""
    if factor == 1:
        return image
    height, width = (length // factor for length in image.shape)
    cut = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    small: FloatImage = cut.mean(axis=(1, 3), dtype=np.float32)
    return small


def find_offset(
    first: FloatImage, second: FloatImage, expected: tuple[float, float] | None = None, tolerance: float = math.inf
) -> tuple[tuple[float, float], float, float]:
    """The offset of two images (h, w), its score and its significance (see :class:`PairOffset`)."""
    factor = -(-max(*first.shape, *second.shape) // LARGEST_TRANSFORM)
    near = None if expected is None else (expected[0] / factor, expected[1] / factor)
    large = flatten(first), flatten(second)
    small = shrink(large[0], factor), shrink(large[1], factor)
    best, best_significance = (0, 0), -math.inf
    for candidate in find_candidates(*small, near, tolerance / factor):
        value = significance(*overlap_correlation(*small, candidate))
        if value > best_significance:
            best, best_significance = candidate, value
    place, score, area = climb(*large, (best[0] * factor, best[1] * factor))
    if min(area, score) <= 0:
        return (float(place[0]), float(place[1])), score, 0.0
    fraction = find_fraction(first, second, place)
    return (place[0] + fraction[0], place[1] + fraction[1]), score, significance(score, area)


def register_pair(
    first: str, second: str, expected: tuple[float, float] | None = None, tolerance: float = math.inf
) -> PairOffset:
    """The task of one pair: register the tiles at two paths.

    ``expected`` is the offset the stage tells, in pixels, and ``tolerance`` by how much it may be wrong on an axis.
    """
    images = read_grey(first), read_grey(second)
    offset, score, sure = find_offset(*images, expected, tolerance)
    shift = (round(offset[0]), round(offset[1]))
    samples = compare_brightness(*images, overlap(images[0].shape, images[1].shape, shift))
    white = max(float(np.percentile(image, 99.9)) for image in images)
    return PairOffset(Path(first).name, Path(second).name, offset, score, sure, white, samples)
