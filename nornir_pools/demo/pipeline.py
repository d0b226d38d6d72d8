"""The demo's stages in their order: tiles, registration, layout, blending, checks, assembly."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nornir_pools.demo import scene
from nornir_pools.demo.blending import (
    Block,
    BlockFile,
    PlacedTile,
    assemble,
    blend_block,
    mosaic_size,
    split_mosaic,
)
from nornir_pools.demo.errors import DemoError, DemoOptionError
from nornir_pools.demo.layout import (
    Layout,
    Position,
    groups,
    is_sure,
    position_errors,
    solve_layout,
    write_offsets,
)
from nornir_pools.demo.registration import PairOffset, register_pair
from nornir_pools.demo.shading import Shading, solve_shading
from nornir_pools.demo.tasks import Call, Pool, open_pool, run_calls, run_checks
from nornir_pools.demo.tiles import Tile, describe_tile, find_tiles

TOLERANCE = 2 * scene.STAGE_ERROR + 0.02  # of the tile's side: how far a pair's offset may be from the stage's


@dataclass(frozen=True)
class Options:
    """The command line's options; lengths in pixels, ``None`` where the demo chooses."""

    out: Path
    pool: str = "cluster"
    size: int = 2560
    tile: int | None = None
    seed: int = 0
    jobs: int | None = None
    tiles: Path | None = None
    offsets: Path | None = None


@dataclass
class Outcome:
    """What the demo did. ``errors`` (pixels, by tile) are empty for tiles whose true places nobody knows."""

    mosaic: Path
    offsets: Path
    tiles: list[Tile]
    pairs: int
    layout: Layout
    size: tuple[int, int] = (0, 0)
    covered: float = 0.0
    blocks: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of a ``with`` statement."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def empty_folder(folder: Path, pattern: str) -> Path:
    """``folder``, without the files of an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(pattern):
        path.unlink()
    return folder


def generate(options: Options) -> tuple[list[Tile], list[Call], dict[str, Position]]:
    """Generated tiles, the registration of each with its neighbours on the grid, and the true positions."""
    side = options.tile if options.tile is not None else max(options.size // 4, scene.SMALLEST_TILE)
    scene.check_sizes(options.size, side)
    folder = empty_folder(options.out / "tiles", "tile_*.png")
    made = scene.write_tiles(folder, options.size, side, options.seed)
    calls: list[Call] = []
    for first, second in itertools.combinations(made, 2):
        if abs(first.row - second.row) + abs(first.column - second.column) == 1:
            expected = (second.stage[0] - first.stage[0], second.stage[1] - first.stage[1])
            calls.append(register_call(first.path, second.path, expected, TOLERANCE * side))
    true = {Path(tile.path).name: tile.true for tile in made}
    write_offsets(options.out / "true_offsets.json", true)
    return [describe_tile(Path(tile.path)) for tile in made], calls, true


def adopt(folder: Path) -> tuple[list[Tile], list[Call]]:
    """The user's tiles, and the registration of each with every other: nothing is known of their arrangement."""
    tiles = find_tiles(folder)
    if len({tile.channels for tile in tiles}) > 1:
        raise DemoError(f"{folder} holds both grey and colour tiles.")
    if len({tile.is_8_bit for tile in tiles}) > 1:
        raise DemoError(f"{folder} holds both tiles of 8 bits and tiles of more.")
    return tiles, [register_call(first.path, second.path) for first, second in itertools.combinations(tiles, 2)]


def register_call(first: str, second: str, expected: Position | None = None, tolerance: float = math.inf) -> Call:
    """The task that registers two tiles."""
    return f"register {Path(first).name} {Path(second).name}", register_pair, (first, second, expected, tolerance)


def check_connected(tiles: list[Tile], pairs: list[PairOffset]) -> None:
    """Raise :class:`DemoError` when ``pairs`` do not connect all tiles to one mosaic."""
    largest, *others = groups([tile.name for tile in tiles], pairs)
    if others:
        lost = "; ".join(", ".join(group) for group in others)
        raise DemoError(
            f"{len(tiles) - len(largest)} of {len(tiles)} tiles do not connect to the other {len(largest)}: {lost}. "
            "Each tile must overlap a neighbour by a fair share."
        )


def find_layout(tiles: list[Tile], pairs: list[PairOffset]) -> Layout:
    """The positions of all tiles; :class:`DemoError` when the pairs that agree do not connect them."""
    check_connected(tiles, [pair for pair in pairs if is_sure(pair)])
    layout = solve_layout([tile.name for tile in tiles], pairs)
    check_connected(tiles, list(layout.used))
    return layout


def blend_calls(folder: Path, tiles: list[Tile], layout: Layout, shading: Shading) -> tuple[list[Call], tuple[int, int]]:
    """The tasks that write the blocks of the mosaic to ``folder``, and the mosaic's (height, width)."""
    placed = [
        PlacedTile(tile.path, *layout.positions[tile.name], tile.height, tile.width, shading.gains.get(tile.name, 0.0))
        for tile in tiles
    ]
    white = 255.0 if tiles[0].is_8_bit else max(pair.white for pair in layout.used)
    size = mosaic_size(placed)
    calls: list[Call] = []
    for block in split_mosaic(*size, max(tiles[0].height, tiles[0].width, 256)):
        name = f"block_{block.top:05}_{block.left:05}.png"
        touching = tuple(tile for tile in placed if block.touches(tile))
        arguments = (str(folder / name), block, touching, shading.coefficients, tiles[0].channels, white)
        calls.append((f"blend {name}", blend_block, arguments))
    return calls, size


def run_stages(options: Options, pool: Pool, watch: Stopwatch) -> Outcome:
    """All stages, on ``pool``."""
    true: dict[str, Position] = {}
    with watch.stage("tiles"):
        if options.tiles is not None:
            tiles, calls = adopt(options.tiles)
        else:
            tiles, calls, true = generate(options)
    with watch.stage("registration"):
        pairs: list[PairOffset] = run_calls(pool, "registration", calls)
    with watch.stage("layout"):
        layout = find_layout(tiles, pairs)
        names = [tile.name for tile in tiles]
        shading = solve_shading(((pair.first, pair.second, pair.samples) for pair in layout.used), names)
    offsets = options.offsets if options.offsets is not None else options.out / "offsets.json"
    write_offsets(offsets, layout.positions)
    outcome = Outcome(options.out / "mosaic.png", offsets, tiles, len(pairs), layout)
    outcome.errors = position_errors(layout.positions, true) if true else {}
    with watch.stage("blending"):
        folder = empty_folder(options.out / "blocks", "block_*.png")
        blend, outcome.size = blend_calls(folder, tiles, layout, shading)
        files: list[BlockFile] = run_calls(pool, "blending", blend)
    finish(outcome, files, pool, watch)
    return outcome


def finish(outcome: Outcome, files: list[BlockFile], pool: Pool, watch: Stopwatch) -> None:
    """Check the blocks, put the mosaic together from them, and check that."""
    height, width = outcome.size
    outcome.blocks = len(files)
    outcome.covered = sum(file.covered * file.block.height * file.block.width for file in files) / (height * width)
    with watch.stage("checks"):
        outcome.faults = run_checks(pool, "checks", [(file.path, file.block, file.sha256) for file in files])
    if outcome.faults:
        return
    with watch.stage("assembly"):
        sha256 = assemble(outcome.mosaic, files, height, width, outcome.tiles[0].channels)
        whole = Block(0, 0, height, width)
        outcome.faults = run_checks(pool, "assembly", [(str(outcome.mosaic), whole, sha256)])


def run_demo(options: Options) -> Outcome:
    """Open the pool, run all stages on it, close it."""
    if options.jobs is not None and options.jobs < 1:
        raise DemoOptionError(f"--jobs must be 1 or more, not {options.jobs}.")
    options.out.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    with watch.stage("total"), open_pool(options.pool, options.jobs) as pool:
        outcome = run_stages(options, pool, watch)
    outcome.seconds = watch.seconds
    return outcome
