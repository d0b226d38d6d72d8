"""The generated tiles: a real scene, photographed by a simulated microscope whose stage is not quite exact.

The scene's structure is a real micrograph: the immunohistochemistry of human colon in scikit-image's wheel (512 x 512
pixels). Enlarged by splines it would lack the fine detail of a real slide, so grain is put on it, octave by octave,
from the fine detail of two real photographs (the micrograph itself, and grass), each used in eight orientations.
Nothing is downloaded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio  # type: ignore[import-untyped,import-not-found,unused-ignore]
import numpy as np
import skimage.data  # type: ignore[import-untyped,import-not-found,unused-ignore]
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped,import-not-found,unused-ignore]

from nornir_pools.demo.errors import DemoOptionError
from nornir_pools.demo.tiles import FloatImage

OVERLAP = 0.25  # least nominal overlap of neighbours, as a share of the tile's side
SMALLEST_TILE = 96  # pixels: a quarter of less holds too little to be told from chance
STAGE_ERROR = 0.03  # largest error of the stage on either axis, as a share of the tile's side
GRAIN = 0.04  # standard deviation of the grain, as a share of the intensity
SMALLEST_PATCH = 400  # pixels: photographs of 512 pixels are hardly shrunk to be used as grain
FALLOFF = 0.35  # loss of light from the centre of a tile to its corner
GRADIENT = 0.12  # change of light from the top left to the bottom right of a tile
LAMP = 0.03  # standard deviation of the lamp's brightness from tile to tile
READ_NOISE = 2.0  # standard deviation, in grey levels of 255
SHOT_NOISE = 0.15  # standard deviation at one grey level; it grows with the square root of the intensity


@dataclass(frozen=True)
class SceneTile:
    """One generated tile.

    ``row`` and ``column`` are its place in the grid; ``stage`` is where the stage says it is and ``true`` where it
    is, both (row, column) of its upper left pixel in scene pixels.
    """

    path: str
    row: int
    column: int
    stage: tuple[float, float]
    true: tuple[float, float]


def resize(image: FloatImage, height: int, width: int) -> FloatImage:
    """``image`` (h, w) or (h, w, channels) at another size in pixels, by cubic splines."""
    factors = (height / image.shape[0], width / image.shape[1], 1.0)[: image.ndim]
    if min(factors) < 1:  # against aliasing: smooth to the new pixel's size first
        image = ndimage.gaussian_filter(image, [0.5 * (1 / f - 1) if f < 1 else 0.0 for f in factors])
    resized: FloatImage = ndimage.zoom(image, factors, order=3, mode="nearest", grid_mode=True)
    return resized


def load_photograph(name: str) -> FloatImage:
    """One of the photographs in scikit-image's wheel: (512, 512) or (512, 512, 3), in grey levels from 0 to 255."""
    return np.asarray(getattr(skimage.data, name)(), np.float32)


def grain_sources() -> list[FloatImage]:
    """Fine detail of real photographs, each (512, 512) of mean 0 and standard deviation 1, in eight orientations."""
    photographs = [load_photograph("immunohistochemistry").mean(axis=2), load_photograph("grass")]
    sources: list[FloatImage] = []
    for turns, mirrored in itertools.product(range(4), (False, True)):
        for image in photographs:
            detail = image - ndimage.gaussian_filter(image, 6)
            # An even texture: the detail of a photograph is strong here and weak there.
            detail /= np.sqrt(ndimage.gaussian_filter(detail**2, 12)) + 1
            detail = np.rot90(detail[:, ::-1] if mirrored else detail, turns)
            sources.append(np.clip(detail / detail.std(), -3, 3))
    return sources


def fade(length: int, margin: int) -> FloatImage:
    """Weights (length,) that rise as a raised cosine over ``2 * margin`` pixels at both ends; their squares add to 1
    with those of a neighbour ``length - 2 * margin`` pixels away."""
    ramp = np.sin(np.pi / 2 * (np.arange(2 * margin) + 0.5) / (2 * margin))
    weights = np.ones(length, np.float32)
    weights[: 2 * margin] = ramp
    weights[length - 2 * margin :] = ramp[::-1]
    return weights


def grain_octave(size: int, side: int, sources: list[FloatImage]) -> FloatImage:
    """Grain (size, size) of patches about ``side`` pixels wide, cross-faded; uses up ``sources`` from the front."""
    margin = max(2, side // 16)
    weights = fade(side + 2 * margin, margin)
    canvas = np.zeros((size + 2 * side, size + 2 * side), np.float32)
    for top, left in itertools.product(range(margin, size + margin, side), repeat=2):
        source = sources.pop(0)
        sources.append(source)
        patch = resize(source, side + 2 * margin, side + 2 * margin)
        canvas[top - margin : top + side + margin, left - margin : left + side + margin] += (
            patch * weights[:, np.newaxis] * weights
        )
    return canvas[margin : margin + size, margin : margin + size]


def make_scene(size: int, rng: np.random.Generator) -> FloatImage:
    """The scene, (size, size, 3), in grey levels from 0 to 255."""
    structure = resize(load_photograph("immunohistochemistry"), size, size)
    sources = grain_sources()
    sources = [sources[number] for number in rng.permutation(len(sources))]
    grain = np.zeros((size, size), np.float32)
    side, octaves = -(-size // 2), 0
    while octaves == 0 or side >= SMALLEST_PATCH:
        grain += grain_octave(size, side, sources)
        side, octaves = -(-side // 2), octaves + 1
    grain *= GRAIN / np.sqrt(octaves)
    # Kept off white, so that no tile is overexposed and the brightness of every pixel means something.
    scene: FloatImage = np.clip(structure, 0, 255) * np.float32(0.86) * (1 + grain)[:, :, np.newaxis]
    return scene


def illumination(side: int) -> FloatImage:
    """The light over a tile, (side, side), 1 at its centre: vignette and gradient."""
    place = np.linspace(-1, 1, side, dtype=np.float32)
    rows, columns = place[:, np.newaxis], place[np.newaxis, :]
    light = (1 - FALLOFF * (rows**2 + columns**2) / 2) * (1 + GRADIENT * (rows + columns) / 4)
    return light.astype(np.float32)


def take_tile(scene: FloatImage, light: FloatImage, top: int, left: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The tile (side, side, 3) the simulated camera takes with its upper left pixel at (top, left) of the scene."""
    side = light.shape[0]
    exposed = scene[top : top + side, left : left + side] * light[:, :, np.newaxis] * (1 + LAMP * rng.standard_normal())
    deviation = np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * exposed)
    noise = rng.standard_normal(exposed.shape, dtype=np.float32)
    image: NDArray[np.uint8] = np.clip(np.rint(exposed + deviation * noise), 0, 255).astype(np.uint8)
    return image


def tiles_per_side(size: int, side: int) -> int:
    """How many tiles of ``side`` pixels cover ``size`` pixels with the nominal overlap."""
    span = size - side - 2 * round(STAGE_ERROR * side)
    return -int(-span // ((1 - OVERLAP) * side)) + 1


def check_sizes(size: int, side: int) -> None:
    """Raise :class:`DemoOptionError` when no mosaic can be made of tiles of ``side`` pixels from ``size`` pixels."""
    if size < 256:
        raise DemoOptionError(f"--size must be 256 pixels or more, not {size}.")
    largest = size * 3 // 4
    if not SMALLEST_TILE <= side <= largest:
        raise DemoOptionError(f"--tile must be from {SMALLEST_TILE} to {largest} pixels (3/4 of --size), not {side}.")


def write_tiles(folder: Path, size: int, side: int, seed: int) -> list[SceneTile]:
    """Make the scene of ``size`` pixels, write its tiles of ``side`` pixels to ``folder``; they come row by row."""
    check_sizes(size, side)
    rng = np.random.default_rng(seed)
    scene = make_scene(size, rng)
    light = illumination(side)
    error = round(STAGE_ERROR * side)
    count = tiles_per_side(size, side)
    stops = [float(stop) for stop in np.rint(np.linspace(error, size - side - error, count))]
    tiles = []
    for (row, top), (column, left) in itertools.product(enumerate(stops), repeat=2):
        true_top, true_left = (int(stop + rng.integers(-error, error, endpoint=True)) for stop in (top, left))
        path = folder / f"tile_{row:02}_{column:02}.png"
        iio.imwrite(path, take_tile(scene, light, true_top, true_left, rng), compress_level=1)
        tiles.append(SceneTile(str(path), row, column, (top, left), (float(true_top), float(true_left))))
    return tiles
