"""The demo: its parts on small images, and whole on threads."""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from pathlib import Path

import pytest

from nornir_pools.demo import main


def run_demo(*options: str) -> int:
    parser = argparse.ArgumentParser()
    main.add_arguments(parser)
    return main.run(parser.parse_args(options))


def test_missing_extra_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "PACKAGES", ("no_such_package",))
    assert run_demo("--out", str(tmp_path / "out")) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "pip install 'nornir_pools[demo]'" in complaint
    assert not (tmp_path / "out").exists()


# What follows needs the extra.
np = pytest.importorskip("numpy")
pytest.importorskip("skimage")
pytest.importorskip("tqdm")
iio = pytest.importorskip("imageio.v3")

from nornir_pools.demo import check, pipeline, registration, scene  # noqa: E402
from nornir_pools.demo.blending import Block, PlacedTile, blend_block, split_mosaic  # noqa: E402
from nornir_pools.demo.layout import groups, is_sure, position_errors, solve_layout  # noqa: E402
from nornir_pools.demo.registration import PairOffset, find_offset  # noqa: E402
from nornir_pools.demo.shading import compare_brightness, light, solve_shading  # noqa: E402
from nornir_pools.demo.tasks import Pool, run_checks  # noqa: E402
from nornir_pools.demo.tiles import FloatImage  # noqa: E402

SIZE = 384


@pytest.fixture(scope="module")
def grey_scene() -> FloatImage:
    grey: FloatImage = scene.make_scene(SIZE, np.random.default_rng(1)).mean(axis=2)
    return grey


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a small demo that went well."""
    out = tmp_path_factory.mktemp("generated")
    assert run_demo("--pool", "threads", "--size", str(SIZE), "--out", str(out)) == 0
    return out


def cut(image: FloatImage, top: int, left: int, seed: int, side: int = 160) -> FloatImage:
    """A tile of ``image`` with uneven brightness and noise."""
    rng = np.random.default_rng(seed)
    tile = image[top : top + side, left : left + side] * scene.illumination(side)
    noisy: FloatImage = (tile + rng.normal(0, 5, tile.shape)).astype(np.float32)
    return noisy


def pair(first: str, second: str, offset: tuple[float, float], score: float = 0.9) -> PairOffset:
    return PairOffset(first, second, offset, score, 30 * score, 255.0, ())


@pytest.mark.parametrize("shift", [(7, 110), (-9, 115), (112, -6), (100, 90), (0, 40)])
def test_known_shift_is_found_in_uneven_light_and_noise(grey_scene: FloatImage, shift: tuple[int, int]) -> None:
    top, left = 20, 20
    first, second = cut(grey_scene, top, left, 1), cut(grey_scene, top + shift[0], left + shift[1], 2)
    offset, score, significance = find_offset(first, second)
    assert offset == pytest.approx(shift, abs=0.2)
    assert is_sure(PairOffset("a", "b", offset, score, significance, 255.0, ()))


def test_stage_position_bounds_the_search(grey_scene: FloatImage) -> None:
    first, second = cut(grey_scene, 20, 20, 1), cut(grey_scene, 27, 130, 2)
    near, *_ = find_offset(first, second, (5.0, 112.0), 6.0)
    assert near == pytest.approx((7, 110), abs=0.2)
    _, score, significance = find_offset(first, second, (60.0, 60.0), 6.0)
    assert not is_sure(PairOffset("a", "b", near, score, significance, 255.0, ()))


def test_tiles_apart_do_not_register(grey_scene: FloatImage) -> None:
    places = [(0, 0), (0, 200), (210, 0), (215, 215)]
    tiles = [cut(grey_scene, *place, seed=number) for number, place in enumerate(places)]
    for number, first in enumerate(tiles):
        for second in tiles[number + 1 :]:
            offset, score, significance = find_offset(first, second)
            assert not is_sure(PairOffset("a", "b", offset, score, significance, 255.0, ()))


def test_blank_tiles_do_not_register() -> None:
    blank = np.full((64, 64), 200, np.float32)
    _, score, significance = find_offset(blank, blank)
    assert not is_sure(PairOffset("a", "b", (0.0, 0.0), score, significance, 255.0, ()))


def test_large_tiles_are_binned_yet_exact(monkeypatch: pytest.MonkeyPatch, grey_scene: FloatImage) -> None:
    monkeypatch.setattr(registration, "LARGEST_TRANSFORM", 60)  # bins of three pixels
    offset, *_ = find_offset(cut(grey_scene, 20, 20, 1), cut(grey_scene, 27, 130, 2))
    assert offset == pytest.approx((7, 110), abs=0.2)


def test_layout_rejects_an_outlier() -> None:
    true = {f"{r}{c}": (100.0 * r + 3 * c, 90.0 * c - 2 * r) for r in range(3) for c in range(3)}
    pairs = []
    for r in range(3):
        for c in range(3):
            for other in (f"{r + 1}{c}", f"{r}{c + 1}"):
                if other in true:
                    here = true[f"{r}{c}"]
                    pairs.append(pair(f"{r}{c}", other, (true[other][0] - here[0], true[other][1] - here[1])))
    # Not at a corner, whose tile hangs on two pairs only: of those, the more significant one would be believed.
    number = next(n for n, sound in enumerate(pairs) if (sound.first, sound.second) == ("10", "11"))
    wrong = pairs[number]
    pairs[number] = pair(wrong.first, wrong.second, (wrong.offset[0] + 25, wrong.offset[1] - 8), score=0.95)
    layout = solve_layout(list(true), pairs)
    assert layout.rejected == (pairs[number],)
    assert max(position_errors(layout.positions, true).values()) < 1e-6
    assert min(row for row, _ in layout.positions.values()) == 0
    assert min(column for _, column in layout.positions.values()) == 0


def test_groups_tell_what_is_not_connected() -> None:
    assert groups("abcde", [pair("a", "b", (0, 1)), pair("d", "e", (0, 1)), pair("b", "c", (1, 0))]) == [
        ["a", "b", "c"],
        ["d", "e"],
    ]


def test_shading_is_measured_from_overlaps(grey_scene: FloatImage) -> None:
    side, places = 160, {"a": (0, 0), "b": (0, 110), "c": (110, 0), "d": (110, 110), "e": (0, 220), "f": (110, 220)}
    gains = dict(zip(places, (1.0, 1.05, 0.95, 1.02, 0.98, 1.0), strict=True))
    tiles = {
        name: grey_scene[r : r + side, c : c + side] * scene.illumination(side) * gains[name] for name, (r, c) in places.items()
    }
    pairs = []
    for first, second in ("ab", "ac", "bd", "cd", "be", "df", "ef"):
        shift = tuple(b - a for a, b in zip(places[first], places[second], strict=True))
        where = registration.overlap((side, side), (side, side), (shift[0], shift[1]))
        pairs.append((first, second, compare_brightness(tiles[first], tiles[second], where)))
    shading = solve_shading(pairs, list(places))
    for name, tile in tiles.items():
        (r, c), corrected = places[name], tile / light(shading.coefficients, shading.gains[name], side, side)
        ratio = corrected / grey_scene[r : r + side, c : c + side]
        assert abs(ratio - 1).max() < 0.06
        assert ratio.std() < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_tiles_blend_to_a_flat_image(tmp_path: Path, channels: int) -> None:
    image = np.full((60, 60, channels), 140, np.uint8)
    iio.imwrite(tmp_path / "flat.png", image if channels == 3 else image[:, :, 0])
    path = str(tmp_path / "flat.png")
    placed = tuple(PlacedTile(path, row, column, 60, 60, 0.0) for row in (0.0, 39.6) for column in (0.0, 40.3))
    file = blend_block(str(tmp_path / "block.png"), Block(10, 5, 85, 90), placed, (), channels, 255.0)
    assert file.covered == 1
    assert (iio.imread(tmp_path / "block.png") == 140).all()
    assert check.fault(Path(file.path), 85, 90, file.sha256) is None


def test_pixels_without_tiles_are_black(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "flat.png", np.full((60, 60), 140, np.uint8))
    placed = (PlacedTile(str(tmp_path / "flat.png"), 0.0, 0.0, 60, 60, 0.0),)
    file = blend_block(str(tmp_path / "block.png"), Block(30, 0, 60, 60), placed, (), 1, 255.0)
    image = iio.imread(tmp_path / "block.png")
    assert file.covered == 0.5
    assert (image[:30] == 140).all()
    assert (image[30:] == 0).all()


def test_blocks_cover_the_mosaic_once() -> None:
    canvas = np.zeros((250, 170), int)
    for block in split_mosaic(250, 170, 100):
        canvas[block.top : block.top + block.height, block.left : block.left + block.width] += 1
    assert (canvas == 1).all()


def test_check_finds_faults(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    iio.imwrite(path, np.zeros((20, 30), np.uint8))
    assert "20 x 30 pixels instead of 30 x 20" in (check.fault(path, 30, 20, "") or "")
    assert "content" in (check.fault(path, 20, 30, "0" * 64) or "")
    path.write_bytes(b"")
    assert "not a PNG" in (check.fault(path, 20, 30, "") or "")
    assert check.fault(tmp_path / "none.png", 20, 30, "") is not None


def test_generated_tiles_make_a_mosaic(generated: Path) -> None:
    report = json.loads((generated / "report.json").read_text(encoding="utf-8"))
    assert report["failures"] == []
    assert report["offset_error_pixels"]["max"] < 0.5
    assert set(report["seconds"]) == {"tiles", "registration", "layout", "blending", "checks", "assembly", "total"}
    found = json.loads((generated / "offsets.json").read_text(encoding="utf-8"))
    true = json.loads((generated / "true_offsets.json").read_text(encoding="utf-8"))
    assert max(position_errors(found, true).values()) < 0.5
    assert list(iio.imread(generated / "mosaic.png").shape[:2]) == report["mosaic_height_width"]


def test_a_tile_off_its_true_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = pipeline.generate

    def displaced(options: pipeline.Options) -> object:
        tiles, calls, true = generate(options)
        row, column = true["tile_01_02.png"]
        return tiles, calls, true | {"tile_01_02.png": (row + 3, column)}

    monkeypatch.setattr(pipeline, "generate", displaced)
    assert run_demo("--pool", "threads", "--size", str(SIZE), "--out", str(tmp_path)) == 1
    assert "Off by more than 1 pixel: tile_01_02.png by 3.0." in capsys.readouterr().err


def test_a_failed_check_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(pool: Pool, title: str, files: list[tuple[str, Block, str]]) -> list[str]:
        Path(files[0][0]).write_bytes(b"")
        return run_checks(pool, title, files)

    monkeypatch.setattr(pipeline, "run_checks", damage)
    assert run_demo("--pool", "threads", "--size", "256", "--out", str(tmp_path)) == 1
    assert "block_00000_00000.png: not a PNG file" in capsys.readouterr().err


def test_own_tiles_need_no_arrangement(generated: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number, path in enumerate(sorted((generated / "tiles").iterdir(), key=lambda path: zlib.crc32(path.name.encode()))):
        if path.name < "tile_03":
            grey = iio.imread(path).mean(axis=2)
            iio.imwrite(own / f"{number:02} {path.stem}.tif", (grey * 150).astype(np.uint16))
    offsets = tmp_path / "new" / "found.json"
    options = ["--pool", "threads", "--tiles", str(own), "--offsets", str(offsets), "--out", str(tmp_path / "out")]
    assert run_demo(*options) == 0
    found = json.loads(offsets.read_text(encoding="utf-8"))
    assert set(found) == {path.name for path in own.iterdir()}
    true = json.loads((generated / "true_offsets.json").read_text(encoding="utf-8"))
    by_own_name = {name: true[f"{Path(name).stem.split()[1]}.png"] for name in found}
    assert max(position_errors(found, by_own_name).values()) < 0.5
    mosaic = iio.imread(tmp_path / "out" / "mosaic.png")
    assert mosaic.ndim == 2
    assert mosaic.max() > 200  # 16-bit intensities are brought to the range of the PNG


def test_tiles_that_do_not_connect_are_named(generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("tile_00_00.png", "tile_00_01.png", "tile_03_03.png"):
        shutil.copy(generated / "tiles" / name, own)
    assert run_demo("--pool", "threads", "--tiles", str(own), "--out", str(tmp_path / "out")) == 1
    assert "1 of 3 tiles do not connect to the other 2: tile_03_03.png." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--size", "100"], 2, "--size"),
        (["--size", "512", "--tile", "500"], 2, "--tile"),
        (["--jobs", "0"], 2, "--jobs"),
        (["--tiles", "/no/such/folder"], 1, "no folder"),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], status: int, words: str
) -> None:
    assert run_demo("--pool", "threads", "--out", str(tmp_path), *options) == status
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
