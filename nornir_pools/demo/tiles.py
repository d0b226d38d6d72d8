"""Tile files: finding and reading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio  # type: ignore[import-untyped,import-not-found,unused-ignore]
import numpy as np
from numpy.typing import NDArray

from nornir_pools.demo.errors import DemoError

FloatImage = NDArray[np.float32]

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Tile:
    """One tile file. ``height`` and ``width`` are in pixels; ``is_8_bit`` tells whether 255 is its white."""

    path: str
    height: int
    width: int
    channels: int
    is_8_bit: bool

    @property
    def name(self) -> str:
        """The file's name, by which reports and offset files call the tile."""
        return Path(self.path).name


def describe_tile(path: Path) -> Tile:
    """The size and type of the image file at ``path``, read from its header."""
    try:
        properties = iio.improps(path)
    except Exception as error:  # imageio's plugins raise whatever their decoders raise
        raise DemoError(f"{path} cannot be read as an image: {error}") from error
    shape = properties.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] > 4):
        raise DemoError(f"{path} is not a plain grey or colour image: its shape is {shape}.")
    # Grey with alpha counts as grey, colour with alpha as colour.
    channels = 3 if len(shape) == 3 and shape[2] >= 3 else 1
    return Tile(str(path), shape[0], shape[1], channels, properties.dtype == np.uint8)


def find_tiles(folder: Path) -> list[Tile]:
    """The tiles of a folder, sorted by file name."""
    if not folder.is_dir():
        raise DemoError(f"There is no folder {folder}.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(paths) < 2:
        raise DemoError(f"A mosaic needs two tiles or more; {folder} holds {len(paths)} ({', '.join(SUFFIXES)}).")
    # Tasks may run in another folder or on another machine, so that only whole paths will do.
    return [describe_tile(path.resolve()) for path in paths]


def read_tile(path: str) -> FloatImage:
    """The image at ``path`` as (height, width, 1 or 3) float32, in the file's own units and without alpha."""
    image = np.asarray(iio.imread(path))
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    channels = 3 if image.shape[2] >= 3 else 1
    return image[:, :, :channels].astype(np.float32)


def read_grey(path: str) -> FloatImage:
    """The image at ``path`` as (height, width) float32: the mean of its channels, in the file's own units."""
    grey: FloatImage = read_tile(path).mean(axis=2, dtype=np.float32)
    return grey
