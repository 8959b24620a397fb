import numpy as np
import pytest
from PIL import Image

from gcp.evaluation.contact_sheet import GAP, HEIGHT, TILE, WIDTH, draw_sheet, grid, wrap


def colour(index):
    return (index * 37 % 200 + 20, index * 91 % 200 + 20, index * 53 % 200 + 20)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 102])
def test_one_tile_for_each_class(tmp_path, count):
    path = tmp_path / "sheet.png"
    images = [Image.new("RGB", (60 + index % 7, 50), colour(index)) for index in range(count)]
    size = draw_sheet(images, [f"class {index}" for index in range(count)], path)
    sheet = Image.open(path)
    assert sheet.size == size and [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
    columns, rows = grid(count)
    assert size == (GAP + columns * WIDTH, GAP + rows * HEIGHT)
    assert columns * (rows - 1) < count <= columns * rows
    for index in range(count):
        centre = GAP + index % columns * WIDTH + TILE // 2, GAP + index // columns * HEIGHT + TILE // 2
        assert sheet.getpixel(centre) == colour(index)


@pytest.mark.parametrize("count", [2, 50, 196, 1000])
def test_the_sheet_is_neither_a_ribbon_nor_a_tower(count):
    columns, rows = grid(count)
    assert 0.8 < columns * WIDTH / (rows * HEIGHT) < 2


def test_whole_image_in_its_tile(tmp_path):
    """A wide image keeps its shape: both ends are seen, and it does not reach into the next tile."""
    wide = Image.new("RGB", (400, 100), "blue")
    wide.paste((255, 0, 0), (0, 0, 100, 100))
    draw_sheet([wide, None], ["wide", "none"], tmp_path / "sheet.png")
    row = np.asarray(Image.open(tmp_path / "sheet.png"))[GAP + TILE // 2]
    assert row[GAP + 5].tolist() == [255, 0, 0] and row[GAP + TILE - 5].tolist() == [0, 0, 255]
    assert row[GAP + TILE + 2].tolist() == [255, 255, 255]
    assert row[GAP + WIDTH + TILE // 2].tolist() == [0x99] * 3


@pytest.mark.parametrize("name", ["M" * 80, "Mercedes-Benz " * 9, "x", "", "Vögel\n und 鸟", "a/" * 60])
def test_a_label_stays_in_its_column(tmp_path, name):
    draw_sheet([None] * 3, ["", name, ""], tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("L")).astype(int)
    columns, _ = grid(3)
    left, top = GAP + 1 % columns * WIDTH, GAP + 1 // columns * HEIGHT + TILE
    outside = np.ones(pixels.shape, dtype=bool)
    outside[top : top + HEIGHT - TILE, left - 2 : left + TILE + 2] = False
    for index in range(3):
        tile = GAP + index % columns * WIDTH, GAP + index // columns * HEIGHT
        outside[tile[1] : tile[1] + TILE, tile[0] : tile[0] + TILE] = False
    assert (pixels[outside] == 255).all()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ["short"]),
        ("two words", ["two words"]),
        ("Ram Cargo Van 2012", ["Ram Cargo", "Van 2012"]),
        ("Black_footed_Albatross", ["Black_", "foote…ross"]),
        ("abcdefghijklmno", ["abcdefghij", "klmno"]),
        ("Chevrolet Silverado 1500 Crew Cab 2012", ["Chevrolet", "Silve…2012"]),
        ("a\nb", ["a b"]),
        ("", [""]),
    ],
)
def test_wrapping(name, lines):
    assert wrap(name, lambda text: len(text) <= 10) == lines


def test_wrapped_lines_fit():
    for length in range(1, 60):
        assert all(len(line) <= 12 for line in wrap("ab cdefg_" * length, lambda text: len(text) <= 12))
