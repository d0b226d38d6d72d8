"""The demo's options and its report. Nothing of the extra is imported here until it is known to be installed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nornir_pools as pools
from nornir_pools.demo.errors import DemoError

if TYPE_CHECKING:
    from nornir_pools.demo.pipeline import Outcome

PACKAGES = ("numpy", "scipy", "skimage", "imageio", "tqdm")
LARGEST_ERROR = 1.0  # pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to ``parser``."""
    parser.add_argument(
        "--pool",
        choices=("threads", "processes", "cluster"),
        default="cluster",
        help="what to run on: threads or processes of this machine, or jobs of a SLURM cluster, or of this "
        "machine where there is no SLURM (default: cluster)",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="tasks to run at once (default: 8 on SLURM, else as there are CPUs)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("mosaic-demo"),
        metavar="FOLDER",
        help="where to write everything; the machines of a cluster must share it (default: ./mosaic-demo)",
    )
    own = parser.add_argument_group("your own tiles")
    own.add_argument(
        "--tiles",
        type=Path,
        metavar="FOLDER",
        help="put together the images (png, tif, jpg) of this folder instead of generated tiles; each must overlap a "
        "neighbour by a fair share, say a tenth, and each is tried with every other",
    )
    own.add_argument(
        "--offsets",
        type=Path,
        metavar="FILE.json",
        help='where to write the offsets found, {"tile.png": [row, column], ...} (default: offsets.json in --out)',
    )
    made = parser.add_argument_group("generated tiles")
    made.add_argument("--size", type=int, default=2560, metavar="N", help="side of the scene in pixels (default: 2560)")
    made.add_argument("--tile", type=int, metavar="N", help="side of a tile in pixels (default: a quarter of --size)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the stage's errors and the noise (default: 0)")


def say(text: str) -> None:
    """Write a line to stdout, which is where the report goes."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(text + "\n")


def missing_packages() -> list[str]:
    """The packages of the extra that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; the exit status: 0 for a good mosaic, 1 for one that is not, 2 if it could not begin."""
    missing = missing_packages()
    if missing:
        complain(f"The demo needs packages that are not installed ({', '.join(missing)}): pip install 'nornir_pools[demo]'")
        return 2
    from nornir_pools.demo.pipeline import Options, run_demo

    options = Options(
        out=arguments.out.resolve(),
        pool=arguments.pool,
        size=arguments.size,
        tile=arguments.tile,
        seed=arguments.seed,
        jobs=arguments.jobs,
        tiles=arguments.tiles,
        offsets=arguments.offsets,
    )
    try:
        outcome = run_demo(options)
    except DemoError as error:
        complain(f"nornir_pools demo: {error}")
        return error.exit_status
    except pools.PoolError as error:  # such as jobs that cannot be submitted; the pool's own sentence says it best
        complain(f"nornir_pools demo: {error}")
        return 1
    failures = find_failures(outcome)
    write_report(options.out / "report.json", arguments, outcome, failures)
    print_report(outcome, options.out / "report.json")
    for failure in failures:
        complain(f"nornir_pools demo: {failure}")
    return 1 if failures else 0


def find_failures(outcome: Outcome) -> list[str]:
    """A sentence for each thing that is wrong with the mosaic."""
    failures = [f"A check failed: {fault}." for fault in outcome.faults]
    off = {name: error for name, error in outcome.errors.items() if not error <= LARGEST_ERROR}
    if off:
        listed = ", ".join(f"{name} by {error:.1f}" for name, error in sorted(off.items()))
        failures.append(f"Off by more than {LARGEST_ERROR:g} pixel: {listed}.")
    return failures


def summarise(errors: dict[str, float]) -> dict[str, float]:
    """Largest, median and root mean square of ``errors``, in pixels."""
    values = list(errors.values())
    square = statistics.fmean(value**2 for value in values)
    return {"max": max(values), "median": statistics.median(values), "rms": math.sqrt(square)}


def write_report(path: Path, arguments: argparse.Namespace, outcome: Outcome, failures: list[str]) -> None:
    """Write the report as JSON: positions and errors in pixels, times in seconds."""
    layout = outcome.layout
    report: dict[str, Any] = {
        "pool": arguments.pool,
        "mosaic": str(outcome.mosaic),
        "mosaic_height_width": list(outcome.size),
        "mosaic_covered_share": round(outcome.covered, 4),
        "tiles": len(outcome.tiles),
        "pairs_registered": outcome.pairs,
        "pairs_used": len(layout.used),
        "offset_error_pixels": {name: round(value, 4) for name, value in summarise(outcome.errors).items()}
        if outcome.errors
        else None,
        "offset_error_pixels_by_tile": {name: round(error, 4) for name, error in outcome.errors.items()} or None,
        "offsets": {name: [round(row, 3), round(column, 3)] for name, (row, column) in layout.positions.items()},
        "blocks": outcome.blocks,
        "seconds": {name: round(seconds, 3) for name, seconds in outcome.seconds.items()},
        "failures": failures,
    }
    if arguments.tiles is None:
        report |= {"size": arguments.size, "seed": arguments.seed}
        report["pairs_left_out"] = [[pair.first, pair.second] for pair in layout.rejected]
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def print_report(outcome: Outcome, path: Path) -> None:
    """Write the report as text to stdout."""
    height, width = outcome.size
    say(f"{len(outcome.tiles)} tiles, {outcome.pairs} pairs registered, {len(outcome.layout.used)} of them used")
    say(f"mosaic: {height} x {width} pixels in {outcome.blocks} blocks, {outcome.covered:.1%} of it covered by tiles")
    if outcome.errors:
        errors = summarise(outcome.errors)
        say(
            f"offsets found minus true offsets, in pixels: max {errors['max']:.3f}, median {errors['median']:.3f}, "
            f"RMS {errors['rms']:.3f}"
        )
    say("seconds by stage: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in outcome.seconds.items()))
    for label, file in (("mosaic", outcome.mosaic), ("offsets", outcome.offsets), ("report", path)):
        say(f"{label + ':':9}{file}")


def main(words: list[str]) -> int:
    """Run the demo as a command with these arguments; returns the exit status."""
    parser = argparse.ArgumentParser(prog="nornir-pools demo", description="Put a mosaic together from overlapping tiles.")
    add_arguments(parser)
    return run(parser.parse_args(words))
