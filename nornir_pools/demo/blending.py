"""Blending: one block of the mosaic from the tiles that touch it.

Tiles are weighted by the distance to their edges (feathering: Szeliski, "Image alignment and stitching: a tutorial",
2006, section 6.2), so that a tile fades out where it ends and no seam is left.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio  # type: ignore[import-untyped,import-not-found,unused-ignore]
import numpy as np
from scipy import ndimage  # type: ignore[import-untyped,import-not-found,unused-ignore]

from nornir_pools.demo.shading import light
from nornir_pools.demo.tiles import FloatImage, read_tile

NEGLIGIBLE = 0.05  # pixels: a smaller fraction is not worth the blur of interpolation


@dataclass(frozen=True)
class PlacedTile:
    """A tile file, the (row, column) of its upper left pixel in the mosaic, its size in pixels, and its gain g."""

    path: str
    row: float
    column: float
    height: int
    width: int
    gain: float


@dataclass(frozen=True)
class Block:
    """A rectangle of the mosaic, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def touches(self, tile: PlacedTile) -> bool:
        """Whether ``tile`` has pixels in this block."""
        return (
            tile.row - 1 < self.top + self.height
            and tile.row + tile.height + 1 > self.top
            and tile.column - 1 < self.left + self.width
            and tile.column + tile.width + 1 > self.left
        )


@dataclass(frozen=True)
class BlockFile:
    """A written block: its file and that file's SHA-256, and the share of its pixels that a tile covers."""

    path: str
    block: Block
    sha256: str
    covered: float


def split_mosaic(height: int, width: int, side: int) -> list[Block]:
    """The blocks of a mosaic, at most ``side`` pixels high and wide, row by row."""
    return [
        Block(top, left, min(side, height - top), min(side, width - left))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def feather(height: int, width: int) -> FloatImage:
    """Weights (height, width): the product of the distances to the nearer edges, 1 in the middle."""
    sides = [np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) * 2 / n for n in (height, width)]
    weights: FloatImage = np.outer(*sides).astype(np.float32)
    return weights


def place(position: float) -> tuple[int, float]:
    """``position`` as a whole number of pixels, and the fraction to move the image by (0 where it is negligible)."""
    whole = round(position)
    fraction = position - whole
    return whole, fraction if abs(fraction) > NEGLIGIBLE else 0.0


def add_tile(total: FloatImage, weight: FloatImage, block: Block, tile: PlacedTile, coefficients: tuple[float, ...]) -> None:
    """Add the part of ``tile`` in ``block`` to ``total`` (h, w, channels) and its weights to ``weight`` (h, w)."""
    (row, row_fraction), (column, column_fraction) = place(tile.row), place(tile.column)
    top, bottom = max(block.top, row), min(block.top + block.height, row + tile.height)
    left, right = max(block.left, column), min(block.left + block.width, column + tile.width)
    if top >= bottom or left >= right:
        return
    image = read_tile(tile.path) / light(coefficients, tile.gain, tile.height, tile.width)[:, :, np.newaxis]
    if row_fraction or column_fraction:
        image = ndimage.shift(image, (row_fraction, column_fraction, 0), order=1, mode="nearest")
    inside = slice(top - row, bottom - row), slice(left - column, right - column)
    target = slice(top - block.top, bottom - block.top), slice(left - block.left, right - block.left)
    weights = feather(tile.height, tile.width)[inside]
    total[target] += image[inside] * weights[:, :, np.newaxis]
    weight[target] += weights


def blend_block(
    path: str, block: Block, tiles: tuple[PlacedTile, ...], coefficients: tuple[float, ...], channels: int, white: float
) -> BlockFile:
    """The task of one block: blend ``tiles`` and write an 8-bit PNG to ``path``; pixels without a tile are black.

    ``coefficients`` are those of the light F (see :mod:`nornir_pools.demo.shading`); ``white`` is the intensity that
    is written as 255.
    """
    total = np.zeros((block.height, block.width, channels), np.float32)
    weight = np.zeros((block.height, block.width), np.float32)
    for tile in tiles:
        add_tile(total, weight, block, tile, coefficients)
    covered = weight > 0
    total[covered] *= (255 / white) / weight[covered][:, np.newaxis]
    image = np.clip(np.rint(total), 0, 255).astype(np.uint8)
    encoded = iio.imwrite("<bytes>", image if channels == 3 else image[:, :, 0], extension=".png", compress_level=1)
    Path(path).write_bytes(encoded)
    # Of the bytes meant to be written, not of the file: the check reads the file, maybe on another machine.
    return BlockFile(path, block, hashlib.sha256(encoded).hexdigest(), float(covered.mean()))


def mosaic_size(tiles: list[PlacedTile]) -> tuple[int, int]:
    """(height, width) of the smallest mosaic that holds ``tiles``, in pixels."""
    return (
        max(place(tile.row)[0] + tile.height for tile in tiles),
        max(place(tile.column)[0] + tile.width for tile in tiles),
    )


def assemble(path: Path, files: list[BlockFile], height: int, width: int, channels: int) -> str:
    """Put the blocks together and write the mosaic, (height, width), as PNG to ``path``; its SHA-256 is returned."""
    mosaic = np.zeros((height, width, channels), np.uint8)
    for file in files:
        block = file.block
        image = np.asarray(iio.imread(file.path)).reshape(block.height, block.width, channels)
        mosaic[block.top : block.top + block.height, block.left : block.left + block.width] = image
    encoded = iio.imwrite("<bytes>", mosaic if channels == 3 else mosaic[:, :, 0], extension=".png", compress_level=3)
    path.write_bytes(encoded)
    return hashlib.sha256(encoded).hexdigest()
